"""Do 95% intervals hold the truth 95 times of 100? Simulated for independent images and for images in groups.

`python -m benchmarks.report.coverage` prints the tables of `docs/statistics.md`: the same simulation beside other
methods.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import betaincinv, ndtr, ndtri

from imaging_ft.report.metrics import Scored, accuracy, balanced, shares
from imaging_ft.report.paired import paired
from imaging_ft.report.ranks import Ranking
from imaging_ft.report.result import Estimate
from imaging_ft.types import Ints, Task

LABELS = ["well", "ill"]
RARE = 0.3
"""The share of images that show the rarer class, `ill`."""
SENSITIVITY = (0.9, 0.8)
AREA = 0.85
TRUTH = {
    "accuracy": (1 - RARE) * SENSITIVITY[0] + RARE * SENSITIVITY[1],
    "sensitivity[ill]": SENSITIVITY[1],
    "balanced_accuracy": (SENSITIVITY[0] + SENSITIVITY[1]) / 2,
    "auroc[ill]": AREA,
}
IMAGES = 10
"""A group's images; where sizes are uneven, 4 to 16."""
STEPS = 4096


@dataclass(frozen=True)
class Scene:
    """Images whose groups hang together: `together` is the intra-class correlation of being right, and of scores."""

    groups: int
    together: float = 0.0
    alone: bool = False
    """One image a group."""
    uneven: bool | None = None
    """None: even and uneven sizes in turn."""
    by_group: bool = False
    """Whether a group's images all show the same class, as a patient's do."""

    def __str__(self) -> str:
        sizes = {True: "uneven", False: "even", None: "both"}[self.uneven]
        return f"{self.groups}-{'alone' if self.alone else sizes}-{self.together}"

    def draws(self, count: int, *, seed: int) -> Iterator[Scored]:
        """Yield `count` sets of images with what a model of known quality says of them."""
        rng = np.random.default_rng(seed)
        for index in range(count):
            uneven = bool(index % 2) if self.uneven is None else self.uneven
            yield self.draw(rng, sizes=self.sizes(rng, uneven=uneven))

    def sizes(self, rng: np.random.Generator, *, uneven: bool) -> Ints:
        if self.alone or not uneven:
            return np.full(self.groups, 1 if self.alone else IMAGES)
        return rng.integers(4, 17, self.groups)

    def draw(self, rng: np.random.Generator, *, sizes: Ints) -> Scored:
        """Being right is beta-binomial by group, with one quantile for both classes; scores have a group effect."""
        groups = np.repeat(np.arange(self.groups), sizes)
        n = len(groups)
        ill = (rng.random(self.groups) < RARE)[groups] if self.by_group else rng.random(n) < RARE
        chances = _chances(self.together)[ill.astype(np.int64), rng.integers(0, STEPS, self.groups)[groups]]
        said_ill = ill == (rng.random(n) < chances)
        shared, own = rng.standard_normal(self.groups)[groups], rng.standard_normal(n)
        score = np.sqrt(2) * ndtri(AREA) * ill + np.sqrt(self.together) * shared + np.sqrt(1 - self.together) * own
        p = ndtr(score - ndtri(AREA))
        return Scored(
            np.stack([~ill, ill], axis=1), np.stack([1 - p, p], axis=1), np.stack([~said_ill, said_ill], axis=1), groups
        )


@cache
def _chances(together: float) -> npt.NDArray[np.float64]:
    """Return quantiles of a group's sensitivity [class, STEPS] (beta with the given intra-class correlation)."""
    if together == 0:
        return np.repeat(np.array(SENSITIVITY)[:, None], STEPS, axis=1)
    place, total = (np.arange(STEPS) + 0.5) / STEPS, (1 - together) / together
    return np.stack([betaincinv(share * total, (1 - share) * total, place) for share in SENSITIVITY])


def intervals(rows: Scored) -> dict[str, Estimate]:
    by_class = shares(rows, LABELS, task=Task.BINARY)
    found = {"accuracy": accuracy(rows), **balanced(by_class, task=Task.BINARY)}
    found.update((share.name, share.estimate) for share in by_class if share.name == "sensitivity[ill]")
    if rows.truth[:, 1].any() and not rows.truth[:, 1].all():
        found["auroc[ill]"] = Ranking.of(rows.probabilities[:, 1], rows.truth[:, 1], rows.units).auroc()
    return found


def as_independent(rows: Scored) -> Scored:
    return Scored(rows.truth, rows.probabilities, rows.said, np.arange(len(rows.truth)))


class Tally:
    """Counts how often intervals hold the truth."""

    def __init__(self) -> None:
        self.seen: dict[str, list[bool]] = {}

    def add(self, found: dict[str, Estimate], truth: dict[str, float]) -> None:
        for name, value in truth.items():
            if name in found:
                self.seen.setdefault(name, []).append(found[name].low <= value <= found[name].high)

    @property
    def coverage(self) -> dict[str, float]:
        return {name: float(np.mean(hits)) for name, hits in self.seen.items()}


SCENES = [Scene(300, alone=True), *(Scene(groups, icc) for groups in (30, 100) for icc in (0.0, 0.3, 0.6))]


@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_intervals_hold_the_truth_as_often_as_they_say(scene: Scene) -> None:
    tally, by_row = Tally(), Tally()
    for index, rows in enumerate(scene.draws(2000, seed=1)):
        tally.add(intervals(rows), TRUTH)
        if scene.together == 0.6 and index % 10 == 0:
            by_row.add(intervals(as_independent(rows)), TRUTH)
    assert set(tally.coverage) == set(TRUTH)
    for name, covered in tally.coverage.items():
        assert 0.93 <= covered <= 0.97, (name, covered)
    if scene.together == 0.6:
        assert by_row.coverage["accuracy"] < 0.7
        assert by_row.coverage["balanced_accuracy"] < 0.8


def test_images_of_one_class_a_group_are_far_fewer_than_they_seem() -> None:
    tally, by_row = Tally(), Tally()
    for rows in Scene(100, 0.6, uneven=False, by_group=True).draws(400, seed=2):
        tally.add(intervals(rows), TRUTH)
        by_row.add(intervals(as_independent(rows)), TRUTH)
    for name, covered in tally.coverage.items():
        assert covered >= 0.92, (name, covered)
        assert by_row.coverage[name] < 0.75, name


def pairs(rng: np.random.Generator, groups: int, *, together: float, gap: float) -> tuple[Scored, Scored]:
    """Return two models on the same images, right on .9 and .9 less `gap` of them, alike by image and by group."""
    codes = np.repeat(np.arange(groups), IMAGES)
    n = len(codes)
    ill = rng.random(n) < RARE
    shared, own = rng.standard_normal((3, groups))[:, codes], rng.standard_normal((3, n))

    def model(which: int, share: float) -> Scored:
        level = np.sqrt(together / 2) * (shared[0] + shared[which])
        level += np.sqrt((1 - together) / 2) * (own[0] + own[which])
        said = ill == (level < ndtri(share))
        said_both = np.stack([~said, said], axis=1)
        return Scored(np.stack([~ill, ill], axis=1), said_both.astype(np.float32), said_both, codes)

    return model(1, 0.9), model(2, 0.9 - gap)


@pytest.mark.parametrize("together", [0.0, 0.6])
def test_differences_hold_the_truth_and_no_difference_is_seldom_found_where_there_is_none(together: float) -> None:
    rng = np.random.default_rng(3)
    tally, rejected, trials = Tally(), 0, 500
    for _ in range(trials):
        found = paired(*pairs(rng, 40, together=together, gap=0.0), task=Task.BINARY)
        rejected += found.p < 0.05
        found = paired(*pairs(rng, 40, together=together, gap=0.1), task=Task.BINARY)
        assert found.balanced_accuracy is not None
        tally.add({"a": found.accuracy, "b": found.balanced_accuracy}, {"a": 0.1, "b": 0.1})
    assert rejected / trials < 0.065
    assert all(0.93 <= covered <= 0.985 for covered in tally.coverage.values()), tally.coverage
