"""Dealing units (groups, or else different files) to parts of given shares, so that each part has every class.

Iterative stratification (K. Sechidis, G. Tsoumakas, I. Vlahavas: On the stratification of multi-label data, ECML PKDD
2011), by units instead of samples: the rarest class is dealt first, its largest unit first, to the part that lacks most
of that class. An image counts for each class that it shows, so rare combinations of classes are no obstacle.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

NONE = ""
"""What an image that shows no class of a multi-label task is counted as; it's balanced as well as the units allow."""
_TRIES = 20


def deal(sizes: Mapping[str, Counter[str]], shares: Sequence[float], seed: int) -> dict[str, int] | None:
    """Return for each unit the part it goes to, or None where no deal was found that gives every part every class.

    `sizes` says how many images of each class a unit holds, `shares` what part of each class a part should get (their
    sum is 1). The same seed deals the same, whatever the order of the units.
    """
    totals: Counter[str] = Counter()
    for held in sizes.values():
        totals.update(held)
    holders = {name: [unit for unit in sorted(sizes) if name in sizes[unit]] for name in totals}
    names = sorted(totals, key=lambda name: (len(holders[name]), name))
    generator = np.random.default_rng(seed)
    for _ in range(_TRIES):
        dealt = _deal_once(sizes, shares, {name: totals[name] for name in names}, holders, generator)
        parts = [
            {name for unit, to in dealt.items() if to == part for name in sizes[unit]} for part in range(len(shares))
        ]
        if all(name in part for part in parts for name in names if name != NONE) and all(parts):
            return dealt
    return None


def _deal_once(
    sizes: Mapping[str, Counter[str]],
    shares: Sequence[float],
    totals: Mapping[str, int],
    holders: Mapping[str, list[str]],
    generator: np.random.Generator,
) -> dict[str, int]:
    """Return one deal; `totals` is in the order in which classes are dealt."""
    parts = range(len(shares))
    wanted = [{name: share * total for name, total in totals.items()} for share in shares]
    room = [share * sum(totals.values()) for share in shares]
    lacking = {name: set(parts) for name in totals}
    dealt: dict[str, int] = {}
    for name in totals:
        left = [unit for unit in holders[name] if unit not in dealt]
        shuffled = [left[index] for index in generator.permutation(len(left)).tolist()]
        ordered = sorted(shuffled, key=lambda unit: -sizes[unit][name])
        for position, unit in enumerate(ordered):
            # Where no more units are left than parts without the class, each of these parts needs one.
            due = lacking[name] if len(ordered) - position <= len(lacking[name]) else set(parts)
            lots = generator.random(len(shares)).tolist()
            part = max(due, key=lambda part: (wanted[part][name], room[part], lots[part]))
            dealt[unit] = part
            room[part] -= sum(sizes[unit].values())
            for other, size in sizes[unit].items():
                wanted[part][other] -= size
                lacking[other].discard(part)
    return dealt
