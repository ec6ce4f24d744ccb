"""`imaging-ft compare`."""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imaging_ft.cli.console import AsJson, show_json

if TYPE_CHECKING:
    from imaging_ft.training.compare import Comparison

_WIDTH = 80
_NAMES = 24
_ACROSS = 4
_COLUMN = 24
_PRECISE = ("settings", "cost")
_TITLES = {
    "settings": "settings that differ",
    "clean": "report: clean",
    "mean": "report: mean over conditions",
    "worst": "report: worst condition",
}


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Two or more run folders.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    r"""Show rounds of training side by side: what differs in their settings, and what they reached.

    Warns where the figures can't be compared. Takes in a report that lies in RUN/report.

    \b
    Example:
      imaging-ft compare runs/a runs/b
    """
    from imaging_ft.training.compare import compare as run_comparison

    found = run_comparison(runs)
    if as_json:
        show_json(found.as_json())
        return
    for start in range(0, len(found.runs), _ACROSS):
        _show(found, slice(start, start + _ACROSS))
    for line in found.warnings:
        print(textwrap.fill(f"warning: {line}", _WIDTH, subsequent_indent="  ", break_on_hyphens=False))


def _show(found: "Comparison", part: slice) -> None:
    """Print some of the runs as columns, no wider than 80 columns."""
    width = min(_COLUMN, (_WIDTH - _NAMES) // len(found.runs[part]))
    heads = _heads(found.runs, width - 1)[part]
    for head, run in zip(heads, found.runs[part], strict=True):
        if head != _name(run):
            print(f"{head} {run}")
    print(_line("", heads, width))
    for title, rows in found.sections.items():
        print(_TITLES.get(title, title))
        for name, values in rows.items():
            shown = [_shown(value, precise=title in _PRECISE) for value in values[part]]
            print(_line("    95%" if name.endswith(" 95%") else f"  {name}", shown, width))
    print()


def _heads(runs: tuple[str, ...], width: int) -> list[str]:
    """Return the folders' names, or numbers where the names are the same or too long."""
    names = [_name(run) for run in runs]
    if len(set(names)) == len(names) and max(map(len, names)) <= width:
        return names
    return [f"[{number}]" for number in range(1, len(runs) + 1)]


def _name(run: str) -> str:
    return Path(run).resolve().name


def _line(name: str, values: list[str], width: int) -> str:
    cells = "".join(f" {_shortened(value, width - 1):>{width - 1}}" for value in values)
    return f"{_shortened(name, _NAMES):<{_NAMES}}{cells}".rstrip()


def _shortened(text: str, width: int) -> str:
    """Return a text cut in its middle: names and paths differ at their ends."""
    if len(text) <= width:
        return text
    tail = (width - 1) * 2 // 3
    return f"{text[: width - 1 - tail]}…{text[-tail:]}"


def _shown(value: Any, *, precise: bool) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.5g}" if precise else f"{value:.3f}"
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ") if value >= 10_000 else f"{value}"
    if isinstance(value, list) and len(value) == 2 and all(isinstance(bound, float) for bound in value):
        return f"{value[0]:.3f}–{value[1]:.3f}"
    return f"{value}"
