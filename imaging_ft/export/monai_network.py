"""A trained classifier in names of torch, timm and MONAI alone: how to build it again, and its weights."""

from typing import Any

import torch
from torch import Tensor, nn

from imaging_ft.models.factory import Classifier
from imaging_ft.training.run import ModelInfo
from imaging_ft.types import Task

Item = dict[str, Any]
"""An item of a config in MONAI's terms: what is called, and with what."""


def network_items(model: Classifier, info: ModelInfo) -> tuple[Item, dict[str, Tensor]]:
    """Return the items of the config that make up `network_def`, and the state dict of it.

    The first layer, a 1×1 convolution, is (levels / 255 − mean) / std and makes three channels of one. Temperature or
    vector scaling is part of the head's weights.
    """
    library, _, name = info.backbone.rpartition("/")
    classes = len(info.labels)
    normalise = {"_target_": "torch.nn.Conv2d", "in_channels": info.input.channels, "out_channels": 3, "kernel_size": 1}
    state = {f"0.{key}": value for key, value in _normalisation(model, info.input.channels).items()}
    state |= {f"1.{key}": value for key, value in model.backbone.state_dict().items()}
    parts: dict[str, Item]
    if library == "monai":
        parts = {"backbone": _monai_net(name, classes)}
        head = f"1.{_classifier_of(model.backbone)}"  # the net's own, where the run's stands
    else:
        parts = {
            "backbone": _timm_net(name, model.backbone),
            "head": {"_target_": "torch.nn.Linear", "in_features": model.head.in_features, "out_features": classes},
        }
        head = "2"
    state |= {f"{head}.{key}": value for key, value in _scaled_head(model.head, info).items()}
    says = (
        {"_target_": "torch.nn.Sigmoid"} if info.task is Task.MULTILABEL else {"_target_": "torch.nn.Softmax", "dim": 1}
    )
    parts = {"normalise": normalise, **parts, "activation": says}
    whole = f"$torch.nn.Sequential({', '.join(f'@{part}' for part in parts)})"
    return {**parts, "network_def": whole}, {key: value.detach().cpu().contiguous() for key, value in state.items()}


def _normalisation(model: Classifier, channels: int) -> dict[str, Tensor]:
    mean, std = (values.detach().cpu().double().flatten() for values in (model.mean, model.std))
    scale = 1 / (255 * std)
    weight = scale[:, None] if channels == 1 else torch.diag(scale)
    return {"weight": weight[:, :, None, None].float(), "bias": (-mean / std).float()}


def _scaled_head(head: nn.Linear, info: ModelInfo) -> dict[str, Tensor]:
    weight, bias = (values.detach().cpu().double() for values in (head.weight, head.bias))
    if info.vector_scaling is None:
        return {"weight": (weight / info.temperature).float(), "bias": (bias / info.temperature).float()}
    scale, shift = (
        torch.tensor(values, dtype=torch.double) for values in (info.vector_scaling.scale, info.vector_scaling.bias)
    )
    return {"weight": (weight * scale[:, None]).float(), "bias": (bias * scale + shift).float()}


def _timm_net(name: str, backbone: nn.Module) -> Item:
    from timm.models import get_pretrained_cfg

    config: Any = get_pretrained_cfg(name)
    # A net that is built for one size says in its patch embedding which; the others take any.
    size = getattr(getattr(backbone, "patch_embed", None), "img_size", None)
    sized = {"img_size": list(size)} if size and config and tuple(size) != tuple(config.input_size[1:]) else {}
    return {"_target_": "timm.create_model", "model_name": name, "pretrained": False, "num_classes": 0, **sized}


def _monai_net(name: str, classes: int) -> Item:
    """Return what builds a net of `models.monai_nets.MONAI`, with its own classifier."""
    nets = "monai.networks.nets"
    if name.startswith("densenet"):
        target = name.replace("densenet", "DenseNet")
        return {"_target_": f"{nets}.{target}", "spatial_dims": 2, "in_channels": 3, "out_channels": classes}
    if name.startswith("resnet"):
        return {"_target_": f"{nets}.{name}", "spatial_dims": 2, "n_input_channels": 3, "num_classes": classes}
    if name.startswith("se_"):
        target = "SE" + name.removeprefix("se_").replace("resne", "ResNe")
        return {"_target_": f"{nets}.{target}", "spatial_dims": 2, "in_channels": 3, "num_classes": classes}
    return {
        "_target_": f"{nets}.EfficientNetBN",
        "model_name": name,
        "pretrained": False,
        "spatial_dims": 2,
        "in_channels": 3,
        "num_classes": classes,
    }


def _classifier_of(backbone: nn.Module) -> str:
    """Return the name of the layer that `factory.drop_classifier` took out of a MONAI net."""
    return [name for name, layer in backbone.named_modules() if isinstance(layer, nn.Identity)][-1]
