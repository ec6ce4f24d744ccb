"""A backbone's parameters in order of depth, so that deep layers can learn faster than early ones."""

from typing import Any

from torch import nn

from imaging_ft.models.factory import Classifier

_PARTS = 6


def parameter_depths(model: Classifier) -> tuple[dict[str, int], int]:
    """Return each parameter's depth (0 is the stem, the head is deepest) by name, and the head's depth.

    timm's models say their own stages; another net is cut into six parts of about as many parameter tensors,
    in the order in which it defines them.
    """
    within = _timm_depths(model.backbone) or _depths_by_order(model.backbone)
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


def _depths_by_order(backbone: nn.Module) -> dict[str, int]:
    names = [name for name, _ in backbone.named_parameters()]
    return {name: index * _PARTS // len(names) for index, name in enumerate(names)}
