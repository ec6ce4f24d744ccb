"""A backbone's parameters by named stage, and in order of depth.

Every backbone divides into the same stages, so that a setting such as "freeze up to stage2" means the same for
each. A stage ends where the net halves its resolution: at 1/4, 1/8, 1/16 and 1/32 of the image for the usual
nets; what comes before 1/4 is the stem. A net of one resolution (a vision transformer) has its blocks cut into
four equal parts. Layers after the last stage (a final norm, a wide last convolution) belong to stage4.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

from torch import nn

from imaging_ft.models.factory import Classifier
from imaging_ft.types import STAGES, Stage

_PARTS = 4
_KNOWN_ENDS: tuple[tuple[str, ...], ...] = (
    ("features.norm0", "features.denseblock1", "features.denseblock2", "features.denseblock3", "features.denseblock4"),
    ("_blocks.0", "_blocks.1", "_blocks.2", "_blocks.4", "_blocks.6"),  # EfficientNet: 1/2, 1/4, 1/8, 1/16, 1/32
    ("layer0", "layer1", "layer2", "layer3", "layer4"),  # SENet
    ("bn1", "layer1", "layer2", "layer3", "layer4"),  # ResNet
)
"""The last module of the stem and of each stage in nets that don't say so themselves: MONAI's."""


def parameter_stages(model: Classifier) -> dict[str, Stage]:
    """Return the stage of every parameter, by its name in the classifier (`backbone.…`, `head.…`).

    Along the order in which an image passes the layers, the stages never go back. No stage is empty where the
    backbone has at least five layers with parameters.
    """
    found: dict[str, Stage] = {}
    for name, place in _places(model.backbone).items():
        found[f"backbone.{name}"] = STAGES[place]
    for name, _ in model.head.named_parameters():
        found[f"head.{name}"] = "head"
    return found


def parameter_depths(model: Classifier) -> tuple[dict[str, int], int]:
    """Return each parameter's depth (0 is the stem, the head is deepest) by name, and the head's depth.

    Finer than the stages where timm's model says its own layers; another net's depths are its stages.
    """
    within = _timm_depths(model.backbone) or _places(model.backbone)
    top = max(within.values()) + 1
    depths = {f"backbone.{name}": depth for name, depth in within.items()}
    depths.update({f"head.{name}": top for name, _ in model.head.named_parameters()})
    return depths, top


def _timm_depths(backbone: Any) -> dict[str, int]:
    if not hasattr(backbone, "group_matcher"):
        return {}
    from timm.models import group_parameters

    found = group_parameters(backbone, backbone.group_matcher(coarse=True), reverse=True)
    order = {ordinal: index for index, ordinal in enumerate(sorted(set(found.values())))}
    return {name: order[found[name]] for name, _ in backbone.named_parameters()}


def _places(backbone: nn.Module) -> dict[str, int]:
    """Return the index in STAGES of each of a backbone's parameters: 0 to 4."""
    ends = _stage_ends(backbone)
    if ends is not None:
        found = _by_ends(backbone, ends)
        if set(found.values()) == set(range(_PARTS + 1)):
            return found
    return _by_size(backbone)


def _stage_ends(backbone: nn.Module) -> tuple[int, ...] | None:
    """Return the ends of the stem and of the four stages as places in `named_modules`, or None where none are known."""
    spans = _spans(backbone)
    for names in _KNOWN_ENDS:
        if all(name in spans for name in names):
            return tuple(spans[name][1] for name in names)
    said = getattr(backbone, "feature_info", None)
    if not said or not all(info["module"] in spans for info in said):
        return None
    levels = _levels([(info["reduction"], spans[info["module"]]) for info in said])
    if len(levels) < _PARTS:
        return None
    last = tuple(end for _, end in levels[-_PARTS:])
    if len(levels) > _PARTS:  # what comes before the last four levels is the stem
        return levels[-_PARTS - 1][1], *last
    return levels[0][0] - 1, *last


def _levels(said: Sequence[tuple[float, tuple[int, int]]]) -> list[tuple[int, int]]:
    """Return the spans of the parts that count as stages, from what timm says of each block's reduction.

    Blocks of one resolution are one part. Where that leaves fewer than four (a net of one resolution), the
    blocks themselves are cut into four parts of about as many blocks.
    """
    merged: list[tuple[int, int]] = []
    for index, (reduction, span) in enumerate(said):
        if index and said[index - 1][0] == reduction:
            merged[-1] = merged[-1][0], span[1]
        else:
            merged.append(span)
    if len(merged) >= _PARTS or len(said) < _PARTS:
        return merged
    cuts = [len(said) * part // _PARTS for part in range(_PARTS + 1)]
    return [(said[first][1][0], said[after - 1][1][1]) for first, after in pairwise(cuts)]


def _spans(backbone: nn.Module) -> dict[str, tuple[int, int]]:
    """Return the places of each module's first and last submodule in `named_modules`, by its name."""
    names = [name for name, _ in backbone.named_modules()]
    spans = {name: (index, index) for index, name in enumerate(names)}
    for index, name in enumerate(names):
        parent = name.rpartition(".")[0]
        while parent:
            spans[parent] = spans[parent][0], index
            parent = parent.rpartition(".")[0]
    return spans


def _by_ends(backbone: nn.Module, ends: tuple[int, ...]) -> dict[str, int]:
    place = {name: index for index, (name, _) in enumerate(backbone.named_modules())}
    found: dict[str, int] = {}
    for name, _ in backbone.named_parameters():
        index = place[name.rpartition(".")[0]]
        found[name] = next((stage for stage, end in enumerate(ends) if index <= end), _PARTS)
    return found


def _by_size(backbone: nn.Module) -> dict[str, int]:
    """Return places for a net that says nothing: the first layer is the stem, the rest is cut by parameters.

    Layers stay whole, and each of the four parts gets at least one while there are enough.
    """
    sizes: dict[str, int] = {}
    for name, parameter in backbone.named_parameters():
        layer = name.rpartition(".")[0]
        sizes[layer] = sizes.get(layer, 0) + parameter.numel()
    layers = list(sizes)
    trunk = layers[1:]
    total = max(1, sum(sizes[layer] for layer in trunk))
    place = {layers[0]: 0} if layers else {}
    passed = 0
    for index, layer in enumerate(trunk):
        wanted = 1 + (passed + sizes[layer] // 2) * _PARTS // total
        left = len(trunk) - index - 1
        # No part is skipped, and no part is left without a layer at the end.
        before = place[layers[index]]
        place[layer] = min(max(wanted, before, _PARTS - left), before + 1, _PARTS)
        passed += sizes[layer]
    return {name: place[name.rpartition(".")[0]] for name, _ in cast("Any", backbone).named_parameters()}
