"""A report as files: `report.json`, `report.csv` and one offline page."""

import csv
import io
from pathlib import Path

from imaging_ft.config import reason
from imaging_ft.errors import InputError
from imaging_ft.report.page import write_page
from imaging_ft.report.result import Cell, Evidence, Report

FILES = ("index.html", "report.json", "report.csv")


def prepare_folder(out: Path) -> None:
    """Make the folder of a report; raises InputError where it can't be, before anything is measured."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: the report can't be written there: {reason(error)}") from error


def write_report(report: Report, out: Path) -> list[Path]:
    """Write a report into a folder and return its files, the page first.

    Raises InputError where the folder can't be written.
    """
    prepare_folder(out)
    try:
        page, data, table = (out / name for name in FILES)
        data.write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
        table.write_text(to_csv(report), encoding="utf-8", newline="")
        write_page(report, page)
    except OSError as error:
        raise InputError(f"{out}: the report can't be written there: {reason(error)}") from error
    return [page, data, table]


def to_csv(report: Report) -> str:
    """Return the report as CSV: a row for each cell and metric, clean first; a cell without metrics has one row."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(
        ["source", "conditions", "axes", "n", "groups", "status", "metric", "value", "low", "high", "method"]
    )
    rows: list[tuple[list[str], Evidence]] = [(["clean", "", ""], report.overall)]
    rows += [([cell.source, _conditions(cell), " × ".join(cell.axes)], cell) for cell in report.cells]
    for names, found in rows:
        head = [*names, found.n, found.groups, found.status.value]
        for metric, estimate in found.metrics.items():
            numbers = (f"{value:.6g}" for value in (estimate.value, estimate.low, estimate.high))
            writer.writerow([*head, metric, *numbers, estimate.method])
        if not found.metrics:
            writer.writerow([*head, "", "", "", "", ""])
    return text.getvalue()


def _conditions(cell: Cell) -> str:
    mark = "@" if cell.source == "synthetic" else "="
    return " × ".join(f"{name}{mark}{value}" for name, value in cell.conditions.items())
