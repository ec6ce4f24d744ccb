"""The backbones there are: timm's and MONAI's names, with size, licence and where the weights are."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from imaging_ft.errors import WeightsError
from imaging_ft.models.at_hand import AtHand, weights_at_hand
from imaging_ft.models.monai_nets import MONAI
from imaging_ft.models.weights import EMBEDDED
from imaging_ft.types import Track, silent

NOT_STATED = "not stated"

CURATED: tuple[str, ...] = (
    f"timm/{EMBEDDED}",
    "timm/mobilenetv3_large_100.ra_in1k",
    "timm/mobilenetv4_conv_small.e2400_r224_in1k",
    "timm/efficientnet_b0.ra_in1k",
    "timm/tf_efficientnetv2_b0.in1k",
    "timm/convnext_atto.d2_in1k",
    "timm/convnext_pico.d1_in1k",
    "timm/convnext_tiny.in12k_ft_in1k",
    "timm/resnet18.a1_in1k",
    "timm/resnet50.a1_in1k",
    "timm/regnety_016.tv2_in1k",
    "timm/densenet121.ra_in1k",
    *(f"monai/{name}" for name, net in MONAI.items() if net.url),
)
"""Convolutional nets that suit a few thousand images and a CPU; none has weights for research alone."""


@dataclass(frozen=True)
class Listed:
    """One backbone with one set of weights."""

    name: str
    """As --model takes it."""
    parameters: int
    """Of the backbone, without a classifier."""
    input_size: int
    """Height and width that the weights were trained at."""
    licence: str
    """Of the weights, as their publisher states it; `not stated` where it doesn't."""
    weights: AtHand


def list_models(
    pattern: str | None = None, *, offline: bool = False, limit: int = 50, track: Track = silent
) -> tuple[list[Listed], int]:
    """Return backbones, at most `limit`, and how many there are in all.

    Without a pattern: the curated ones and whatever else is at hand offline. A pattern (`*` and `?` are
    wildcards; a plain word is looked for anywhere) searches all of timm's pretrained names and MONAI's.
    `offline` leaves only those whose weights need no network. Raises WeightsError where nothing matches.
    """
    names = list(dict.fromkeys((*CURATED, *_cached_names()))) if pattern is None else _matching(pattern)
    if pattern is not None and not names:
        raise WeightsError(f"no model of timm or MONAI matches {pattern!r}; write for example 'resnet*' or 'monai/*'")
    if offline:
        names = [name for name in names if weights_at_hand(name).offline]
    return [describe(name) for name in track(names[:limit], "models", min(limit, len(names)))], len(names)


def at_hand_names() -> list[str]:
    """Return the models whose weights are on this machine, the embedded one first."""
    known = list(dict.fromkeys((*CURATED, *_cached_names())))
    return [name for name in known if weights_at_hand(name).offline]


def describe(name: str) -> Listed:
    """Return what is known of a backbone; it's built without memory for its weights, to count them."""
    library, _, model = name.rpartition("/")
    weights = weights_at_hand(name)
    if library == "monai":
        net = MONAI[model]
        return Listed(name, _count(name), net.input_size, net.licence or NOT_STATED, weights)
    from timm.models import get_pretrained_cfg

    config: Any = get_pretrained_cfg(model)
    # The embedded package's metadata states none for the weights, and they are not timm's file.
    licence = NOT_STATED if weights is AtHand.EMBEDDED or config.license in {None, "unknown"} else config.license
    return Listed(name, _count(name), int(config.input_size[-1]), licence, weights)


def _count(name: str) -> int:
    import torch

    library, _, model = name.rpartition("/")
    with torch.device("meta"):
        if library == "monai":
            from imaging_ft.models.factory import drop_classifier

            module = MONAI[model].build()
            drop_classifier(module)
        else:
            import timm

            module = timm.create_model(model, num_classes=0)
    return sum(parameter.numel() for parameter in module.parameters())


def _matching(pattern: str) -> list[str]:
    import timm

    every = [f"timm/{EMBEDDED}", *(f"timm/{name}" for name in timm.list_pretrained())]
    every += [f"monai/{name}" for name in MONAI]
    wanted = pattern.casefold()
    if not any(sign in wanted for sign in "*?["):
        wanted = f"*{wanted}*"
    return [name for name in every if _fits(name.casefold(), wanted)]


def _fits(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name.partition("/")[2], pattern)


def _cached_names() -> Iterable[str]:
    """Yield timm's names whose weights lie in a cache; one look at the caches' folders, not one for each name."""
    import timm
    from huggingface_hub import constants
    from timm.models import get_pretrained_cfg

    folders = {path.name for path in Path(constants.HF_HUB_CACHE).glob("models--*")}
    for name in timm.list_pretrained():
        config: Any = get_pretrained_cfg(name)
        hub_id = config.hf_hub_id
        if hub_id and f"models--{hub_id.replace('/', '--')}" not in folders:
            continue
        if weights_at_hand(name).offline:
            yield f"timm/{name}"
