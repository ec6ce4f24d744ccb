"""The tables of a benchmark: `python -m benchmarks.training.table runs/benchmark [MORE ...] --docs docs`.

Writes what stands between the markers of `benchmarks.md` in the docs folder, and a plot for each data set beside it.
"""
# ruff: noqa: T201 - a command prints

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.training.plan import METHODS, OURS, slug
from benchmarks.training.plot import write_plot
from benchmarks.training.results import ACCURACY, BALANCED, Comparison, comparisons, final, read_results
from imaging_ft.training.run import write_text
from imaging_ft.types import Json

BEGIN = "<!-- training results: begin (written by benchmarks/training/table.py) -->"
END = "<!-- training results: end -->"
_NAMES = {BALANCED: "balanced accuracy", ACCURACY: "accuracy"}
_NONE = "–"
_HALF, _THIRD = 0.5, 1 / 3

Figure = Callable[[Json], float | None]


def write_tables(folders: Sequence[Path], docs: Path) -> Path:
    """Write the tables and plots of folders of results into a docs folder, and return the Markdown file.

    Raises ValueError where a folder has no results, where results can't stand in one table, or where the file lacks the
    markers.
    """
    results: list[Json] = []
    for folder in folders:
        found = read_results(folder)
        if not found:
            raise ValueError(f"{folder}: no results; run python -m benchmarks.training --out {folder}")
        results += found
    _check(results)
    docs.mkdir(parents=True, exist_ok=True)
    parts = [
        "Images of {size}×{size}, {tested}. A figure is the mean over seeds, with the lowest and the highest seed in"
        " brackets.".format(size=results[0]["options"]["size"], tested=_tested(results[0]["options"]["limit_test"]))
    ]
    for found in comparisons(results):
        plot = docs / f"benchmark-training-{slug(found.dataset)}{f'-{slug(found.gpu)}' if found.gpu else ''}.svg"
        write_plot(found, plot)
        parts.append(section(found, plot.name))
    target = docs / "benchmarks.md"
    text = target.read_text(encoding="utf-8") if target.is_file() else f"# Benchmarks\n\n{BEGIN}\n{END}\n"
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{target}: lacks the lines {BEGIN!r} and {END!r}; put them where the tables belong")
    write_text(target, "\n".join([f"{before}{BEGIN}", "", "\n\n".join(parts), "", f"{END}{after}"]))
    return target


def _check(results: Sequence[Json]) -> None:
    """Raise ValueError where a training is there twice, or where images were of another size or number."""
    seen: set[tuple[object, ...]] = set()
    for found in results:
        key = (*(found[name] for name in ("dataset", "method", "fraction", "seed")), found["machine"].get("gpu"))
        if key in seen:
            raise ValueError(f"{' '.join(str(part) for part in key)}: two results of one training")
        seen.add(key)
    for name in ("size", "limit_test"):
        values = {str(found["options"][name]) for found in results}
        if len(values) > 1:
            raise ValueError(f"results with {name} {' and '.join(sorted(values))} can't stand in one table")


def section(found: Comparison, plot: str) -> str:
    """Return the Markdown of one data set."""
    parts = [
        f"### {found.title}",
        _about(found.results),
        _counts(found),
        f"![Accuracy of each method on {found.title}]({plot})",
    ]
    parts += [_table(_figures(found, metric)) for metric in (BALANCED, ACCURACY)]
    for title, rows in (
        ("The aims of this project, and what was measured", list(_aims(found))),
        ("Seconds until `--preset robust` has a peer's final score", list(_races(found)) if found.timed else []),
        ("Sensitivity by class, clean test images (%)", list(_sensitivities(found))),
        ("Smaller shares of the training images, balanced accuracy (%)", list(_shares(found))),
    ):
        if len(rows) > 1:
            parts += [f"#### {title}", _table(rows)]
    return "\n\n".join(parts)


def _tested(limit: int | None) -> str:
    return "all test images" if limit is None else f"{limit} test images"


def _about(results: Sequence[Json]) -> str:
    """Return what the numbers depend on, and when they were taken."""
    newest = max(results, key=lambda found: found["created"])
    first = min(found["created"] for found in results)
    machine = newest["machine"]
    gpu = f"{machine['gpu']}, beside " if machine.get("gpu") else ""
    libraries = ", ".join(f"{name} {version}" for name, version in machine["libraries"].items())
    modes = sorted({found["trained"]["mode"] for found in results})
    jobs = max(found["options"].get("jobs", 1) for found in results)
    beside = f", up to {jobs} trainings side by side" if jobs > 1 else ""
    counts = sorted({found["machine"]["threads"] for found in results})
    threads = f"{' or '.join(map(str, counts))} {'thread' if counts == [1] else 'threads'}"
    processors = Counter(found["machine"]["processor"] for found in results)
    each = " and ".join(f"{name} ({count} of them)" for name, count in processors.items())
    mixed = f" Seconds are means over trainings on {each}." if len(processors) > 1 and jobs == 1 else ""
    revisions = sorted({str(found["machine"]["git_revision"]) for found in results})
    return (
        f"Measured from {first[:10]} to {newest['created'][:10]} on {gpu}{' or '.join(processors)},"
        f" {threads}{beside}; Python {machine['python']}, {libraries}. Revision"
        f" {', '.join(revisions)}. Training in {' or '.join(modes)}.{mixed}"
    )


def _counts(found: Comparison) -> str:
    full = [result for result in found.results if result["fraction"] == 1] or list(found.results)
    images, test = full[0]["images"], full[0]["measured"]["test"]
    cells = full[0]["measured"]["cells"]
    names = sorted({name for cell in cells for name in cell["conditions"]})
    held = ", ".join(f"`{name}`" for name in found.held_out) or "none"
    return (
        f"{images['train']} images train, {images['val']} validate, {test['n']} test"
        f" ({', '.join(f'{count} {name}' for name, count in test['classes'].items())}). {len(cells)} cells of the suite"
        f" `{full[0]['measured']['suite']}`: {', '.join(f'`{name}`' for name in names)}, alone and in pairs of light"
        f" and angle. Held out of our recipe: {held}."
    )


def _figures(found: Comparison, metric: str) -> list[list[str]]:
    head = [
        f"{_NAMES[metric]} (%)",
        "seeds",
        "clean",
        "mean of conditions",
        "worst condition",
        "mean of held-out conditions",
    ]
    rows = [[*head, "training seconds"] if found.timed else head]
    figures: list[Figure] = [
        found.clean(metric),
        found.mean_over(metric),
        found.worst(metric),
        found.mean_over(metric, held_out=True),
    ]
    for method in found.methods:
        row = [METHODS[method].title, str(len(found.of(method))), *(_text(found, method, figure) for figure in figures)]
        if found.timed:
            seconds = found.spread(method, lambda result: result["trained"]["seconds"])
            row.append(seconds.text(0, 1) if seconds else _NONE)
        rows.append(row)
    return rows


def _text(found: Comparison, method: str, figure: Figure, fraction: float = 1.0) -> str:
    spread = found.spread(method, figure, fraction)
    return spread.text() if spread else _NONE


def _aims(found: Comparison) -> Iterator[list[str]]:
    """Yield each aim with ours, the best peer by that figure, and whether it was met; on means over seeds."""
    yield ["aim", "ours", "best peer", "met"]
    if not found.of(OURS):
        return
    for metric in (BALANCED, ACCURACY):
        name = _NAMES[metric]
        aims: list[tuple[str, Figure, float]] = [
            (f"clean {name} no lower", found.clean(metric), 1.0),
            (f"mean-condition error at most half ({name})", found.mean_over(metric), _HALF),
            (f"worst-condition error at most half ({name})", found.worst(metric), _HALF),
        ]
        for aim, figure, share in aims:
            ours, peer = found.spread(OURS, figure), found.best_peer(figure)
            if ours is None or peer is None:
                continue
            error, other = 1 - ours.mean, 1 - peer[1].mean
            met = error <= share * other + 1e-9
            shown = f"error {error:.1%}" if share < 1 else f"{ours.mean:.1%}"
            against = f"error {other:.1%}" if share < 1 else f"{peer[1].mean:.1%}"
            yield [aim, shown, f"{against} ({METHODS[peer[0]].title})", "yes" if met else "no"]


def _races(found: Comparison) -> Iterator[list[str]]:
    """Yield, for each peer, its time and ours to its final clean score; a third is the aim."""
    yield [
        "peer",
        "its seconds, whole schedule",
        "its validation accuracy (%)",
        "its seconds until it first had that",
        "ours: seconds to that",
        "at most a third",
        "its test accuracy (%)",
        "ours: seconds to that (diagnostic)",
    ]
    if not found.of(OURS):
        return
    for peer in found.peers:
        seconds = found.spread(peer, lambda result: result["trained"]["seconds"])
        if seconds is None:
            continue
        row = [METHODS[peer].title, seconds.text(0, 1)]
        for key in ("val_accuracy", "test_accuracy"):
            row.append(_text(found, peer, lambda result, key=key: final(result, key)))
            reached = found.seconds_to(peer, key)
            if key == "val_accuracy":
                own = found.seconds_to(peer, key, by=peer)
                row.append(own.text(0, 1) if own else _NONE)
            row.append(reached.text(0, 1) if reached else "not in every seed")
            if key == "val_accuracy":
                row.append("yes" if reached and reached.mean <= _THIRD * seconds.mean else "no")
        yield row


def _sensitivities(found: Comparison) -> Iterator[list[str]]:
    labels = list(found.results[0]["measured"]["sensitivity"])
    yield ["sensitivity", *labels]
    for method in found.methods:
        texts = [
            _text(found, method, lambda result, label=label: result["measured"]["sensitivity"].get(label))
            for label in labels
        ]
        yield [METHODS[method].title, *texts]


def _shares(found: Comparison) -> Iterator[list[str]]:
    yield ["method", "share of images", "images", "seeds", "clean", "mean of conditions", "worst condition"]
    partial = sorted({(result["method"], result["fraction"]) for result in found.results if result["fraction"] < 1})
    for method in METHODS:
        fractions = [fraction for name, fraction in partial if name == method]
        for fraction in [*fractions, *([1.0] if fractions and found.of(method) else [])]:
            runs = found.of(method, fraction)
            texts = [
                _text(found, method, figure, fraction)
                for figure in (found.clean(BALANCED), found.mean_over(BALANCED), found.worst(BALANCED))
            ]
            count = str(runs[0]["images"]["train"])
            yield [METHODS[method].title, f"{fraction:.0%}", count, str(len(runs)), *texts]


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([head, f"|{'---|' * len(rows[0])}", *body])


def main() -> int:
    """Write the tables; return 2 where there is nothing to write, or nowhere."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training.table", description="Write a benchmark's tables."
    )
    parser.add_argument("out", type=Path, nargs="+", help="folders with results")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="where benchmarks.md is (default: docs)")
    given = parser.parse_args()
    try:
        write_tables(given.out, given.docs)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
