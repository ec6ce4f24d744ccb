"""A report as files: one offline page, `report.json`, `cells.csv`, `summary.md`, and where asked a PDF."""

import csv
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from imaging_ft.config import reason
from imaging_ft.data.lock import held
from imaging_ft.errors import InputError
from imaging_ft.report.junit import to_junit
from imaging_ft.report.page import render_page
from imaging_ft.report.result import Cell, Evidence, Paired, Report
from imaging_ft.report.summary import to_markdown

if TYPE_CHECKING:
    from imaging_ft.report.gallery import Pictures

FILES: tuple[str, ...] = ("index.html", "report.json", "cells.csv", "summary.md")
JUNIT = "junit.xml"
"""Written where there are gates."""
PDF = "report.pdf"
PREDICTIONS = "predictions.parquet"
LOCK = ".lock"
"""There while a report is written."""


def prepare_folder(out: Path) -> None:
    """Make the folder of a report; raises InputError where it can't be, before anything is measured."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(out, error) from error


@contextmanager
def report_folder(out: Path, *, stored: Path | None = None) -> Iterator[None]:
    """Hold the folder of a report for one writer, from before anything is measured until all is written.

    `stored` are the predictions that the report is made from, where it is. Raises InputError where the folder can't be
    made, another report is being written there, or it holds predictions that the new report would not be of.
    """
    prepare_folder(out)

    def refuse() -> None:
        raise InputError(f"{out}: another report is being written there; wait for it, or choose another folder")

    with held(out / LOCK, waiting=refuse, remove=True):
        there = out / PREDICTIONS
        if stored is not None and there.is_file() and not (stored.is_file() and there.samefile(stored)):
            raise InputError(
                f"{there}: the predictions of another report, which would lie beside this one's; move them away, or"
                " choose another folder"
            )
        yield


def write_report(report: Report, out: Path, *, pictures: Sequence["Pictures"] = (), pdf: bool = False) -> list[Path]:
    """Write a report into a folder and return its files, the page first.

    What an earlier report left there and this one doesn't write is removed, so that all files are of one report. The
    n-th pictures belong to the n-th failure. Each file is written under a temporary name and renamed, so that a
    kill leaves no half file. Raises InputError where the folder can't be written, or the PDF can't be printed.
    """
    prepare_folder(out)
    texts = [
        render_page(report, pictures),
        report.model_dump_json(indent=2) + "\n",
        to_csv(report),
        to_markdown(report),
    ]
    names = [*FILES]
    if report.gates:
        texts.append(to_junit(report))
        names.append(JUNIT)
    paths = [out / name for name in names]
    temporary = [path.with_name(f".{path.name}.{os.getpid()}.part") for path in paths]
    try:
        for text, path in zip(texts, temporary, strict=True):
            path.write_text(text, encoding="utf-8", newline="")
        for path, final in zip(temporary, paths, strict=True):
            path.replace(final)
        for name in {JUNIT, PDF} - set(names):
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise _refused(out, error) from error
    finally:
        for path in temporary:
            path.unlink(missing_ok=True)
    if pdf:
        from imaging_ft.report.pdf import write_pdf

        write_pdf(paths[0], out / PDF)
        paths.append(out / PDF)
    return paths


def to_csv(report: Report) -> str:
    """Return the report as CSV: a row for each cell and metric, clean first; a cell without metrics has one row.

    Where there is another model, the rows of accuracy and balanced accuracy hold the difference from it, too.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    compared = report.against is not None
    head = ["source", "conditions", "axes", "n", "groups", "status", "metric", "value", "low", "high", "method"]
    further = ["against", "against_low", "against_high", "against_p", "against_p_holm"] if compared else []
    writer.writerow([*head, *further])
    overall = report.against.overall if report.against else None
    rows: list[tuple[list[str], Evidence, Paired | None]] = [(["clean", "", ""], report.overall, overall)]
    rows += [([cell.source, _conditions(cell), " × ".join(cell.axes)], cell, cell.against) for cell in report.cells]
    for names, found, paired in rows:
        start = [*names, found.n, found.groups, found.status.value]
        for metric, estimate in found.metrics.items():
            numbers = _figures(estimate.value, estimate.low, estimate.high)
            end = _difference(paired, metric) if compared else []
            writer.writerow([*start, metric, *numbers, estimate.method, *end])
        if not found.metrics:
            writer.writerow([*start, *[""] * (len(head) + len(further) - len(start))])
    return text.getvalue()


def _difference(paired: Paired | None, metric: str) -> list[str]:
    """Return the further columns of one row: the p-values belong to accuracy."""
    if paired is None or metric not in {"accuracy", "balanced_accuracy"}:
        return [""] * 5
    estimate = paired.accuracy if metric == "accuracy" else paired.balanced_accuracy
    if estimate is None:
        return [""] * 5
    tests = _figures(paired.p, paired.p_holm) if metric == "accuracy" else ["", ""]
    return [*_figures(estimate.value, estimate.low, estimate.high), *tests]


def _figures(*values: float) -> list[str]:
    return [f"{value:.6g}" for value in values]


def _conditions(cell: Cell) -> str:
    mark = "@" if cell.source == "synthetic" else "="
    return " × ".join(f"{name}{mark}{value}" for name, value in cell.conditions.items())


def _refused(out: Path, error: OSError) -> InputError:
    return InputError(f"{out}: the report can't be written there: {reason(error)}")
