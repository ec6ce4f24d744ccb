"""How many images an interval of a wanted width needs."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.stats import norm

from imaging_ft.audit.result import Need, Sizing
from imaging_ft.data import Prepared, Sample
from imaging_ft.types import Split, Task

ASSUMED = 0.9
CORRELATION = 0.5
"""Assumed for the outcomes of two images of one group. Between what is usual for images of one patient (0.3 to
0.6); with one image a group it doesn't matter."""
_Z = float(norm.ppf(0.975))


def wilson_half_width(n: float, share: float = ASSUMED) -> float:
    """Return half the width of the 95% score interval of a share over n independent images (Wilson 1927)."""
    spread = share * (1 - share) / n + _Z**2 / (4 * n**2)
    return float(_Z * np.sqrt(spread) / (1 + _Z**2 / n))


def images_for(half_width: float, share: float = ASSUMED) -> int:
    """Return the fewest independent images whose interval is no wider than ± half_width."""
    low, high = 0, 1  # low is too few
    while wilson_half_width(high, share) > half_width:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if wilson_half_width(middle, share) <= half_width else (middle, high)
    return high


def design_effect(sizes: Sequence[int], correlation: float = CORRELATION) -> float:
    """Return by how much groups of these sizes inflate a variance: 1 + (m − 1) · ICC, m = Σm² / Σm (Kish 1965)."""
    total = sum(sizes)
    return 1 + (sum(size * size for size in sizes) / total - 1) * correlation if total else 1.0


def size_up(data: Prepared, *, half_width: float, split: Split = Split.TEST) -> Sizing:
    """Return how wide the intervals on a split will be, and how many images the wanted width needs."""
    samples = data.of(split)
    needs = [_need("accuracy", samples, data, half_width)]
    for label in data.labels:
        multilabel = data.card.task is Task.MULTILABEL
        of_class = tuple(s for s in samples if (label in s.labels if multilabel else s.label == label))
        needs.append(_need(f"sensitivity[{label}]", of_class, data, half_width))
    return Sizing(split=split, half_width=half_width, assumed=ASSUMED, correlation=CORRELATION, needs=tuple(needs))


def _need(metric: str, samples: tuple[Sample, ...], data: Prepared, half_width: float) -> Need:
    units = Counter(f"group {s.group}" if s.group is not None else f"file {data.hashes[s.id]}" for s in samples)
    n, groups = len(samples), data.units(samples)
    # Kish's effect overshoots where groups differ much in size; images never hold less than one a group does.
    effect = min(design_effect(list(units.values())), n / groups) if n else 1.0
    return Need(
        metric=metric,
        n=n,
        groups=groups,
        design_effect=effect,
        half_width=wilson_half_width(n / effect) if n else None,
        half_width_by_groups=wilson_half_width(groups) if n else None,
        needed=int(np.ceil(images_for(half_width) * effect * (groups / n if n else 1))),
    )
