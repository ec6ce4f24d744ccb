"""The plot of one data set: every method clean, under conditions and at its worst; and accuracy against images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.training.plan import METHODS
from benchmarks.training.results import BALANCED, Comparison
from imaging_ft.training.run import replacing
from imaging_ft.types import Json

_MARKS = (("clean", "o", "#1b6ca8"), ("mean of conditions", "s", "#e08a1e"), ("worst condition", "v", "#b3323a"))
_LINES = ("-", "--", ":")


def write_plot(found: Comparison, path: Path) -> None:
    """Write the plot as SVG, the same bytes for the same results."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    shares = sorted({(result["method"], result["fraction"]) for result in found.results if result["fraction"] < 1})
    learners = [method for method in METHODS if any(name == method for name, _ in shares)]
    with mpl.rc_context({"svg.hashsalt": "imaging_ft", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(11 if learners else 7, 0.8 + 0.5 * max(4, len(found.methods))), layout="constrained")
        grid = figure.subplots(1, 2 if learners else 1, squeeze=False)[0]
        _methods(grid[0], found)
        if learners:
            _curves(grid[1], found, learners)
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(_MARKS), fontsize=8)
        with replacing(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})


def _figures(found: Comparison) -> tuple[Callable[[Json], float | None], ...]:
    return found.clean(BALANCED), found.mean_over(BALANCED), found.worst(BALANCED)


def _methods(axes: Any, found: Comparison) -> None:
    """Draw a row for each method: the mean over seeds, and a line from the lowest to the highest seed."""
    for row, method in enumerate(found.methods):
        for (label, mark, colour), figure in zip(_MARKS, _figures(found), strict=True):
            spread = found.spread(method, figure)
            if spread is None:
                continue
            axes.hlines(row, 100 * min(spread.values), 100 * max(spread.values), color=colour, linewidth=2, alpha=0.6)
            axes.plot(100 * spread.mean, row, mark, color=colour, label=label if row == 0 else None)
    names = [METHODS[method].title.replace("`", "") for method in found.methods]
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("balanced accuracy on test (%)\nlines: lowest to highest seed")
    axes.set_title(found.title)
    axes.grid(axis="x", alpha=0.3)


def _curves(axes: Any, found: Comparison, learners: list[str]) -> None:
    """Draw what a method reaches from smaller shares of the training images."""
    for method, line in zip(learners, _LINES * len(learners), strict=False):
        fractions = sorted({result["fraction"] for result in found.results if result["method"] == method})
        for (_, mark, colour), figure in zip(_MARKS, _figures(found), strict=True):
            points = [
                (fraction, spread) for fraction in fractions if (spread := found.spread(method, figure, fraction))
            ]
            counts = [found.of(method, fraction)[0]["images"]["train"] for fraction, _ in points]
            middles = [100 * spread.mean for _, spread in points]
            lows = [100 * min(spread.values) for _, spread in points]
            highs = [100 * max(spread.values) for _, spread in points]
            axes.fill_between(counts, lows, highs, color=colour, alpha=0.15, linewidth=0)
            axes.plot(counts, middles, line, marker=mark, color=colour)
        axes.plot([], [], line, color="black", label=METHODS[method].title.replace("`", ""))
    axes.set_xscale("log")
    counts = sorted({found.of(result["method"], result["fraction"])[0]["images"]["train"] for result in found.results})
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set_xlabel("training images")
    axes.set_ylabel("balanced accuracy on test (%)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
