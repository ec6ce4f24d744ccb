"""`imaging-ft data check`."""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imaging_ft.cli.console import AsJson, Dataset, SkipBad, progress, show_files, show_json
from imaging_ft.cli.memory import keep_freed_memory

if TYPE_CHECKING:
    from imaging_ft.audit.result import Check, Finding, Sizing, Slice
    from imaging_ft.types import Json

_WIDTH = 80
_INDENT = " " * 9
_SHOWN = 3


def check(
    dataset: Dataset,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write a page with pictures into this folder.", show_default=False),
    ] = None,
    write_manifest: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="Write a manifest with the findings as columns.", show_default=False),
    ] = None,
    half_width: Annotated[float, typer.Option(help="Wanted half-width of the 95% intervals on test.")] = 0.05,
    fast: Annotated[bool, typer.Option("--fast", help="Leave out what needs the network.")] = False,
    split_seed: Annotated[int, typer.Option(help="Of the splits that the data doesn't declare.")] = 0,
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    r"""Say what is in a data set, what is wrong with it, and what to do about it.

    Near-duplicates and leaks, likely label errors, outliers, shortcuts, test size, distance from what the
    backbone knows. The data set is only read. Exit code 2 where training would refuse it.

    \b
    Example:
      imaging-ft data check my_images/ --out check/
    """
    keep_freed_memory()
    from imaging_ft.audit.check import check_dataset
    from imaging_ft.audit.manifest import refuse_target
    from imaging_ft.audit.manifest import write_manifest as write
    from imaging_ft.audit.page import refuse_folder, write_page

    if write_manifest is not None:
        refuse_target(dataset, write_manifest)
    if out is not None:
        refuse_folder(dataset, out)
    checked = check_dataset(
        dataset, seed=split_seed, skip_bad=skip_bad, fast=fast, half_width=half_width, track=progress()
    )
    files: list[tuple[str, Path]] = []
    if out is not None:
        page, data = write_page(checked, out, track=progress())
        files += [("page", page), ("data", data)]
    if write_manifest is not None:
        manifest, card = write(checked, write_manifest)
        files += [("manifest", manifest), ("card", card)]
    if as_json:
        show_json(checked.check.model_dump(mode="json"))
        return
    _show(checked.check)
    if files:
        print()
        show_files(files)


def _show(check: "Check") -> None:
    data = check.dataset
    print(_wrapped(f"{data['name']}: {check.verdict}"))
    print(_wrapped(f"{data['n']} images, {len(data['labels'])} classes, {data['task']}"))
    print(_wrapped(f"split: {data['split_method']}"))
    for line in check.left_out:
        print(_wrapped(f"not checked: {line}"))
    for finding in check.findings:
        _show_finding(finding)
    _show_counts(data)
    _show_conditions(check.conditions)
    _show_sizing(check.sizing)
    if check.domain is not None:
        stages = ", ".join(f"{name} {value:.2f}" for name, value in check.domain.stages.items())
        print()
        print(_wrapped(f"distance from the backbone's images: {check.domain.distance:.2f} ({check.domain.level})"))
        print(_wrapped(stages, first="  ", indent="  "))


def _show_finding(finding: "Finding") -> None:
    from imaging_ft.audit.wording import MOST_EXAMPLES

    print()
    print(_wrapped(finding.what, first=f"{finding.severity.upper():<9}", indent=_INDENT))
    if finding.detail:
        print(_wrapped(finding.detail, first=_INDENT, indent=_INDENT))
    for example in finding.examples[:_SHOWN]:
        text = f"{' ~ '.join(example.images)} ({example.note})"
        print(_wrapped(text, first=f"{_INDENT}- ", indent=f"{_INDENT}  "))
    if len(finding.examples) > _SHOWN:
        print(f"{_INDENT}- … more with --out (pictures) or --json (up to {MOST_EXAMPLES})")
    print(_wrapped(finding.todo, first=f"{_INDENT}→ ", indent=f"{_INDENT}  "))


def _show_counts(data: "Json") -> None:
    parts = list(data["splits"].values())
    rows = [(label, [part["classes"][label] for part in parts]) for label in data["labels"]]
    rows += [(name, [part[name] for part in parts]) for name in ("n", "groups")]
    _table("class", list(data["splits"]), [(name, [str(value) for value in values]) for name, values in rows])


def _show_conditions(slices: "tuple[Slice, ...]") -> None:
    columns: dict[str, list[Slice]] = {}
    for part in slices:
        columns.setdefault(part.column, []).append(part)
    for column, parts in columns.items():
        rows = [(part.value, [str(count) for count in part.splits.values()]) for part in parts]
        _table(column, list(parts[0].splits), rows)


def _show_sizing(sizing: "Sizing") -> None:
    def half(width: float | None) -> str:
        return "–" if width is None else f"±{width:.3f}"

    rows = [
        (need.metric, [str(need.n), str(need.groups), half(need.half_width), half(need.half_width_by_groups),
                       str(need.needed)])
        for need in sizing.needs
    ]  # fmt: skip
    _table(
        f"{sizing.split} at {sizing.assumed:g}", ["n", "groups", "95%", "by group", f"for ±{sizing.half_width:g}"], rows
    )


def _table(name: str, heads: list[str], rows: list[tuple[str, list[str]]]) -> None:
    """Print a table no wider than 80 columns; names that would make it wider are shortened."""
    print()
    cells = [
        max(8, 2 + max(len(row[place]) for row in (heads, *(cells for _, cells in rows))))
        for place in range(len(heads))
    ]
    width = min(_WIDTH - sum(cells), max(len(name), *(len(row) for row, _ in rows)))
    for first, texts in [(name, heads), *rows]:
        print(
            f"{_short(first, width):<{width}}"
            + "".join(f"{text:>{cell}}" for text, cell in zip(texts, cells, strict=True))
        )


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _wrapped(text: str, *, first: str = "", indent: str = "  ") -> str:
    return textwrap.fill(text, _WIDTH, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False)
