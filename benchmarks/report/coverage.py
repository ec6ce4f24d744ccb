"""The tables of how often 95% intervals hold the truth: `python -m benchmarks.report.coverage`, in the checkout.

The simulation is that of `tests/report/test_coverage.py`, with more scenes. Shares and the AUROC stand beside intervals
that take images as independent, and beside the percentile bootstrap by group (on every fourth set of images).
"""

import argparse
import sys

import numpy as np
import numpy.typing as npt

from imaging_ft.report.metrics import Scored, evidence
from imaging_ft.report.paired import mcnemar, paired
from imaging_ft.report.result import Estimate
from imaging_ft.types import Task
from tests.report.test_coverage import LABELS, TRUTH, Scene, Tally, as_independent, intervals, pairs


def bootstrap(rows: Scored, rng: np.random.Generator, *, times: int = 500) -> dict[str, Estimate]:
    """Return percentile intervals from groups drawn with replacement."""
    count = rows.units.count
    codes = rows.groups
    weights = rng.multinomial(count, np.full(count, 1 / count), times)
    ill, right = rows.truth[:, 1], rows.right

    def drawn(chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        return weights @ np.bincount(codes[chosen], minlength=count).astype(np.float64)

    # A draw may hold no image of a class; the percentiles are then of the others.
    with np.errstate(invalid="ignore"):
        well_rate = drawn(right & ~ill) / drawn(~ill)
        ill_rate = drawn(right & ill) / drawn(ill)
    order = np.argsort(rows.probabilities[:, 1], kind="stable")
    by_image = weights[:, codes[order]]
    below = np.cumsum(by_image * ~ill[order], axis=1)
    positive = by_image * ill[order]
    with np.errstate(invalid="ignore"):
        area = (positive * below).sum(axis=1) / positive.sum(axis=1) / below[:, -1]
    values = {
        "accuracy": drawn(right) / drawn(np.ones_like(right)),
        "sensitivity[ill]": ill_rate,
        "balanced_accuracy": (well_rate + ill_rate) / 2,
        "auroc[ill]": area,
    }
    return {
        name: Estimate(
            value=float(np.nanmean(found)),
            low=float(np.nanpercentile(found, 2.5)),
            high=float(np.nanpercentile(found, 97.5)),
            method="wilson",
        )
        for name, found in values.items()
    }


def main() -> None:
    """Print the coverage tables of `docs/statistics.md`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=2000, help="sets of images for each row of the tables")
    times = parser.parse_args().times
    _print_shares(times)
    _print_others(times)
    _print_pairs(times)


def _print_shares(times: int) -> None:
    names = list(TRUTH)
    scenes = [
        Scene(300, alone=True),
        *(
            Scene(groups, icc, uneven=uneven, by_group=by_group)
            for by_group, uneven in ((False, False), (False, True), (True, False))
            for groups in (30, 100)
            for icc in (0.0, 0.3, 0.6)
        ),
    ]
    _print_row("class", "groups", "images each", "ICC", *names, head=True)
    for scene in scenes:
        ours, by_row, resampled = Tally(), Tally(), Tally()
        rng = np.random.default_rng(4)
        for index, rows in enumerate(scene.draws(times, seed=1)):
            ours.add(intervals(rows), TRUTH)
            if index % 4 == 0:
                by_row.add(intervals(as_independent(rows)), TRUTH)
                resampled.add(bootstrap(rows, rng), TRUTH)
        cells = [" / ".join(_percent(tally, name) for tally in (ours, by_row, resampled)) for name in names]
        sizes = "1" if scene.alone else "4 to 16" if scene.uneven else "10"
        _print_row("by group" if scene.by_group else "by image", scene.groups, sizes, scene.together, *cells)


def _print_others(times: int) -> None:
    names = ["macro_f1", "auprc[ill]", "brier", "ece"]
    _print_row("groups", "ICC", *names, head=True)
    for scene in (Scene(300, alone=True), *(Scene(groups, icc) for groups in (30, 100) for icc in (0.3, 0.6))):
        large = Scene(400_000, scene.together, alone=True)
        full = evidence(next(large.draws(1, seed=5)), LABELS, task=Task.BINARY).metrics
        tally = Tally()
        for rows in scene.draws(times, seed=6):
            tally.add(evidence(rows, LABELS, task=Task.BINARY).metrics, {name: full[name].value for name in names})
        _print_row(scene.groups, scene.together, *(_percent(tally, name) for name in names))


def _print_pairs(times: int) -> None:
    _print_row("groups", "ICC", "accuracy", "balanced_accuracy", "p < .05", "McNemar by image", head=True)
    for groups in (30, 100):
        for together in (0.0, 0.3, 0.6):
            rng = np.random.default_rng(7)
            tally, rejected, by_image = Tally(), 0, 0
            for _ in range(times):
                found = paired(*pairs(rng, groups, together=together, gap=0.0), task=Task.BINARY)
                rejected += found.p < 0.05
                by_image += mcnemar(found.only_this, found.only_other) < 0.05
                found = paired(*pairs(rng, groups, together=together, gap=0.1), task=Task.BINARY)
                balanced_too = {} if found.balanced_accuracy is None else {"b": found.balanced_accuracy}
                tally.add({"a": found.accuracy, **balanced_too}, {"a": 0.1, "b": 0.1})
            shares_of = (f"{100 * count / times:.1f}" for count in (rejected, by_image))
            _print_row(groups, together, _percent(tally, "a"), _percent(tally, "b"), *shares_of)


def _percent(tally: Tally, name: str) -> str:
    return f"{100 * tally.coverage[name]:.1f}"


def _print_row(*cells: object, head: bool = False) -> None:
    sys.stdout.write(("\n" if head else "") + "| " + " | ".join(map(str, cells)) + " |\n")
    if head:
        sys.stdout.write("|" + "---|" * len(cells) + "\n")


if __name__ == "__main__":
    main()
