"""One classifier around every backbone: levels in, logits out.

A model's name is `timm/<name>`, `monai/<name>`, or a bare timm name; `tf_efficientnet_lite0` is the default
and needs no network.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from imaging_ft.catalog import suggest
from imaging_ft.config import reason
from imaging_ft.errors import WeightsError
from imaging_ft.models.weights import EMBEDDED, hub, load_embedded, load_local
from imaging_ft.preprocess import IMAGENET_MEAN, IMAGENET_STD, Triple

PRETRAINED = "pretrained"
NONE = "none"


@dataclass(frozen=True)
class Source:
    """A backbone without a classifier: what it is called, what it gives, and what it was trained to see."""

    name: str
    """`timm/<name>` or `monai/<name>`."""
    module: nn.Module
    """RGB images [batch, 3, height, width], normalised, to features [batch, features]."""
    features: int
    mean: Triple
    std: Triple


class Classifier(nn.Module):
    """Integer levels to logits: normalisation, backbone and a linear head."""

    mean: Tensor
    std: Tensor

    def __init__(self, source: Source, classes: int) -> None:
        super().__init__()
        self.name = source.name
        self.backbone = source.module
        self.head = nn.Linear(source.features, classes)
        self.register_buffer("mean", torch.tensor(source.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(source.std).view(1, 3, 1, 1), persistent=False)
        self.normalisation: tuple[Triple, Triple] = (source.mean, source.std)

    def reset_head(self, classes: int) -> None:
        """Replace the head by a new one for some number of classes."""
        self.head = nn.Linear(self.head.in_features, classes)

    def forward(self, levels: Tensor) -> Tensor:
        """Return logits [batch, classes] for levels [batch, channels, height, width] in 0 to 255."""
        return self.head(self.embed(levels))

    def embed(self, levels: Tensor) -> Tensor:
        """Return features [batch, features] for levels [batch, channels, height, width] in 0 to 255.

        One channel is seen as gray: it is repeated to three.
        """
        scaled = levels.float() / 255.0
        if scaled.shape[1] == 1:
            scaled = scaled.expand(-1, 3, -1, -1)
        return self.backbone((scaled - self.mean) / self.std)


def create(name: str, *, classes: int, weights: str = PRETRAINED) -> Classifier:
    """Return a classifier with a new head on a backbone.

    `weights` is `pretrained`, `none` or the path of a state dict. Raises WeightsError where the name is
    unknown or the weights can't be had.
    """
    library, _, model = name.rpartition("/")
    if library not in {"", "timm", "monai"}:
        raise WeightsError(f"no model library {library!r} (in {name!r}); write timm/NAME or monai/NAME")
    source = _monai(model, weights) if library == "monai" else _timm(model, weights)
    if weights not in {PRETRAINED, NONE}:
        load_local(source.module, Path(weights))
    return Classifier(source, classes)


def _timm(model: str, weights: str) -> Source:
    import timm

    if not timm.is_model(model):
        raise WeightsError(f"timm has no model named {model!r}; {suggest(model, timm.list_models())}")
    embedded = model == EMBEDDED and weights == PRETRAINED
    pretrained = weights == PRETRAINED and not embedded
    try:
        with hub() if pretrained else nullcontext():
            module = timm.create_model(model, pretrained=pretrained, num_classes=0)
    except Exception as error:
        # The hub's client raises many kinds when it can't be reached or its cache is incomplete.
        if weights != PRETRAINED:
            raise
        raise _not_at_hand(f"timm/{model}", error) from error
    if embedded:
        load_embedded(module)
    module.eval()
    with torch.no_grad():
        # timm's own num_features is wrong for models that change it in the pooled head (MobileNetV3).
        features = int(module(torch.zeros(1, 3, 224, 224)).shape[-1])
    config: dict[str, Any] = cast("Any", module).pretrained_cfg
    mean, std = config.get("mean") or IMAGENET_MEAN, config.get("std") or IMAGENET_STD
    return Source(f"timm/{model}", module, features, _triple(mean), _triple(std))


def _monai(model: str, weights: str) -> Source:
    if model not in MONAI:
        raise WeightsError(f"no MONAI model named {model!r}; {suggest(model, sorted(MONAI))}")
    try:
        module = MONAI[model](weights == PRETRAINED)
    except WeightsError:
        raise
    except Exception as error:
        if weights != PRETRAINED:
            raise
        raise _not_at_hand(f"monai/{model}", error) from error
    features = _drop_classifier(module)
    return Source(f"monai/{model}", module.eval(), features, IMAGENET_MEAN, IMAGENET_STD)


def _densenet(name: str) -> Callable[[bool], nn.Module]:
    def build(pretrained: bool) -> nn.Module:  # noqa: FBT001 - MONAI's own switch, passed on
        from monai.networks import nets

        return getattr(nets, name)(spatial_dims=2, in_channels=3, out_channels=2, pretrained=pretrained)

    return build


def _efficientnet(name: str) -> Callable[[bool], nn.Module]:
    def build(pretrained: bool) -> nn.Module:  # noqa: FBT001
        from monai.networks.nets.efficientnet import EfficientNetBN

        return EfficientNetBN(name, pretrained=pretrained, spatial_dims=2, in_channels=3, num_classes=2)

    return build


def _resnet(name: str) -> Callable[[bool], nn.Module]:
    def build(pretrained: bool) -> nn.Module:  # noqa: FBT001
        from monai.networks import nets

        if pretrained:
            raise WeightsError(
                f"MONAI has pretrained weights of {name} for volumes only, not for images; give a local file"
                " (--set weights=FILE) or start from scratch (--set weights=none)"
            )
        return getattr(nets, name)(spatial_dims=2, n_input_channels=3, num_classes=2)

    return build


MONAI: dict[str, Callable[[bool], nn.Module]] = {
    "densenet121": _densenet("DenseNet121"),
    "densenet169": _densenet("DenseNet169"),
    "densenet201": _densenet("DenseNet201"),
    "efficientnet-b0": _efficientnet("efficientnet-b0"),
    "efficientnet-b1": _efficientnet("efficientnet-b1"),
    "resnet18": _resnet("resnet18"),
    "resnet50": _resnet("resnet50"),
}
"""MONAI's two-dimensional classification nets, by the names that --model takes after `monai/`."""


def _drop_classifier(module: nn.Module) -> int:
    """Replace a net's last linear layer by the identity and return how many features it took."""
    linear = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    name, last = linear[-1]
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, nn.Identity())
    return last.in_features


def _not_at_hand(name: str, error: Exception) -> WeightsError:
    return WeightsError(
        f"the pretrained weights of {name} can't be had: {reason(error).rstrip('.')}; where there is no network,"
        f" give a local file (--set weights=FILE), start from scratch (--set weights=none), or use {EMBEDDED}"
    )


def _triple(values: tuple[float, ...]) -> Triple:
    red, green, blue = values
    return float(red), float(green), float(blue)
