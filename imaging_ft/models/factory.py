"""One classifier around every backbone: levels in, logits out.

A model's name is `timm/<name>`, `monai/<name>`, or a bare timm name; `tf_efficientnet_lite0` is the default
and needs no network.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from imaging_ft.catalog import suggest
from imaging_ft.config import reason
from imaging_ft.errors import WeightsError
from imaging_ft.models.at_hand import timm_config
from imaging_ft.models.monai_nets import MONAI, aliases, load_pretrained
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


def create(name: str, *, classes: int, weights: str = PRETRAINED, size: int | None = None) -> Classifier:
    """Return a classifier with a new head on a backbone.

    `weights` is `pretrained`, `none`, the path of a state dict, or the folder of an earlier run (its backbone is
    taken; for its head see `earlier.load_run`). `size` is the height and width that it will see: nets that are
    built for one size are built for this one. Raises WeightsError where the name is unknown, the weights can't
    be had, or the net doesn't take images of the size.
    """
    library, _, model = name.rpartition("/")
    if library not in {"", "timm", "monai"}:
        raise WeightsError(f"no model library {library!r} (in {name!r}); write timm/NAME or monai/NAME")
    source = _monai(model, weights, size) if library == "monai" else _timm(model, weights, size)
    made = Classifier(source, classes)
    if weights in {PRETRAINED, NONE}:
        return made
    path = Path(weights)
    if path.is_dir():
        from imaging_ft.models.earlier import load_run

        load_run(path).install_backbone(made)
    else:
        load_local(source.module, path, aliases=aliases if library == "monai" else lambda _: ())
    return made


def _timm(model: str, weights: str, size: int | None) -> Source:
    config = timm_config(model)
    embedded = model == EMBEDDED and weights == PRETRAINED
    pretrained = weights == PRETRAINED and not embedded
    fixed = {"img_size": size} if size and config.fixed_input_size else {}
    try:
        with hub() if pretrained else nullcontext():
            module = _build(model, pretrained, fixed)
    except Exception as error:
        # The hub's client raises many kinds when it can't be reached or its cache is incomplete.
        if weights != PRETRAINED:
            raise
        raise _not_at_hand(f"timm/{model}", error) from error
    if embedded:
        load_embedded(module)
    native = int(config.input_size[-1])
    module.eval()
    # timm's own num_features is wrong for models that change it in the pooled head (MobileNetV3).
    features = _features(f"timm/{model}", module, size or (native if config.fixed_input_size else 224), native)
    mean, std = config.mean or IMAGENET_MEAN, config.std or IMAGENET_STD
    return Source(f"timm/{model}", module, features, _triple(mean), _triple(std))


def _build(model: str, pretrained: bool, fixed: dict[str, int]) -> nn.Module:  # noqa: FBT001 - timm's own switch
    """Return timm's model; `fixed` is left out where the model's builder takes no size (the next check tells)."""
    import timm

    try:
        return timm.create_model(model, pretrained=pretrained, num_classes=0, **cast("Any", fixed))
    except TypeError as error:
        if not fixed or "img_size" not in str(error):
            raise
        return timm.create_model(model, pretrained=pretrained, num_classes=0)


def _monai(model: str, weights: str, size: int | None) -> Source:
    if model not in MONAI:
        raise WeightsError(f"no MONAI model named {model!r}; {suggest(model, sorted(MONAI))}")
    net = MONAI[model]
    module = net.build()
    drop_classifier(module)
    if weights == PRETRAINED:
        try:
            load_pretrained(model, module)
        except WeightsError:
            raise
        except Exception as error:  # torch's hub raises many kinds
            raise _not_at_hand(f"monai/{model}", error) from error
    module.eval()
    features = _features(f"monai/{model}", module, size or 224, net.input_size)
    return Source(f"monai/{model}", module, features, IMAGENET_MEAN, IMAGENET_STD)


def _features(name: str, module: nn.Module, size: int, native: int) -> int:
    """Return how many features a net gives of one image; raises WeightsError where it doesn't take the size."""
    try:
        with torch.no_grad():
            return int(module(torch.zeros(1, 3, size, size)).shape[-1])
    except (RuntimeError, AssertionError, ValueError) as error:
        raise WeightsError(
            f"{name} does not take images of {size}×{size} ({reason(error).rstrip('.')}); it was made for"
            f" {native}×{native}: write --size {native}"
        ) from error


def drop_classifier(module: nn.Module) -> None:
    """Replace a net's last linear layer by the identity."""
    name = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear)][-1]
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, nn.Identity())


def _not_at_hand(name: str, error: Exception) -> WeightsError:
    return WeightsError(
        f"the pretrained weights of {name} can't be had: {reason(error).rstrip('.')}; where there is no network,"
        " give a local file or an earlier run (--set weights=PATH), copy another machine's cache here"
        f" (docs/models.md), start from scratch (--set weights=none), or use {EMBEDDED}"
    )


def _triple(values: tuple[float, ...]) -> Triple:
    red, green, blue = values
    return float(red), float(green), float(blue)
