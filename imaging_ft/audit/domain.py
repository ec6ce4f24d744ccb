"""How far images lie from what a backbone was trained on, measured without its training images.

Each batch-normalisation layer carries the mean and the variance that its channels had over the training images.
The same are measured here on the user's images; the distance of the two, in the channel's own standard
deviations, says how unusual these images are to the network.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from imaging_ft.audit.result import Domain

if TYPE_CHECKING:
    from imaging_ft.audit.features import Moments, Seen

NEAR_BELOW = 0.32
FAR_FROM = 0.50
"""Calibrated on the embedded EfficientNet-Lite0 at 160 pixels: photographs 0.25, in gray 0.29, underexposed 0.34;
retina and stained tissue 0.37; baggage X-ray 0.37 and 0.40, brain MR 0.41; synthetic chest films 0.53; noise 0.77;
flat gray 0.93."""


def distance(moments: "Sequence[Moments]") -> tuple[float, dict[str, float]]:
    """Return the distance over all layers, and by stage of the network.

    A channel's distance is the 2-Wasserstein distance of two Gaussians, √((μ − μ₀)² + (σ − σ₀)²) (Dowson & Landau
    1982), over σ₀. It is averaged over the channels of a layer and then over layers. Unlike a Kullback-Leibler
    divergence it stays finite where a channel is silent on these images (a colour channel on gray ones).
    """
    stages: dict[str, list[float]] = {}
    layers: list[float] = []
    for layer in moments:
        apart = np.hypot(layer.mean - layer.stored_mean, layer.std - layer.stored_std) / layer.stored_std
        layers.append(float(apart.mean()))
        stages.setdefault(stage(layer.layer), []).append(layers[-1])
    return float(np.mean(layers)), {name: float(np.mean(values)) for name, values in stages.items()}


def stage(layer: str) -> str:
    """Return `stage 3` for a layer called `blocks.3.1.bn2`; layers before and after are the stem and the top."""
    parts = layer.split(".")
    if parts[0] == "blocks" and len(parts) > 1:
        return f"stage {parts[1]}"
    return {"bn1": "stem", "bn2": "top"}.get(parts[0], parts[0])


def level(value: float) -> Literal["near", "middle", "far"]:
    """Return a distance in a word."""
    return "near" if value < NEAR_BELOW else "middle" if value < FAR_FROM else "far"


def domain(seen: "Seen", *, gray: float) -> Domain:
    """Return how far the images lie from the backbone's own; `gray` is their share without colour."""
    value, stages = distance(seen.moments)
    return Domain(backbone=seen.backbone, distance=value, level=level(value), stages=stages, gray=gray)
