"""The report as one offline HTML file: no script, no request, readable on a phone, at a desk and on paper."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imaging_ft.report import wording
from imaging_ft.report.heat import heat_maps
from imaging_ft.report.result import Report, Source
from imaging_ft.report.sections.calibration import calibration, coverage
from imaging_ft.report.sections.cells import worst
from imaging_ft.report.sections.checklists import checklists
from imaging_ft.report.sections.comparison import comparison
from imaging_ft.report.sections.curves import panels
from imaging_ft.report.sections.failures import failures
from imaging_ft.report.sections.observed import observed
from imaging_ft.report.sections.overall import overall
from imaging_ft.report.sections.reading import limitations, reading
from imaging_ft.report.sections.rejection import rejection
from imaging_ft.report.sections.verdict import gate_summary, multilabel, verdict, verdict_kind

if TYPE_CHECKING:
    from imaging_ft.report.gallery import Pictures

_TEMPLATES = Path(__file__).parent / "templates"
_FILTERS = (
    *("breakable", "number", "signed", "interval", "signed_interval", "p_value", "plain", "signed_plain"),
    *("metric_title", "metric_words", "name_of"),
)


@dataclass(frozen=True)
class Part:
    """A part of the page, which the contents name; it stands only where there is something in it."""

    id: str
    title: str
    content: object
    template: str = ""
    """Its file's name, where that isn't its id."""
    source: Source | None = None
    """The parts of one source stand together behind a bar of its colour."""


def write_page(report: Report, path: Path, pictures: Sequence["Pictures"] = ()) -> None:
    """Write the report as one self-contained HTML file; the same report gives the same bytes."""
    path.write_text(render_page(report, pictures), encoding="utf-8", newline="\n")


def render_page(report: Report, pictures: Sequence["Pictures"] = ()) -> str:
    """Return the HTML text of the report; the n-th pictures belong to the n-th of `report.failures`."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update({name: getattr(wording, name) for name in _FILTERS})
    return environment.get_template("report.html.j2").render(
        report=report,
        parts=_parts(report, pictures),
        verdict=verdict(report),
        verdict_kind=verdict_kind(report.gates),
        gate_summary=gate_summary(report.gates),
        multilabel=multilabel(report),
    )


def _parts(report: Report, pictures: Sequence["Pictures"]) -> list[Part]:
    """Return the parts that have something in them, in the order of the page."""
    maps = [
        Part(f"map-{place}", f"{found.row_axis.capitalize()} × {found.column_axis}", found, "heat", "synthetic")
        for place, found in enumerate(heat_maps(report), start=1)
    ]
    shown_failures = failures(report, pictures)
    found = [
        Part("measured", "What was measured", report),
        Part("overall", "Overall", overall(report)),
        Part("worst", "Worst conditions", worst(report), source="synthetic"),
        Part("curves", "Severity curves", panels(report), source="synthetic"),
        *maps,
        Part("recorded", "Recorded", observed(report, "recorded"), "observed", "recorded"),
        Part("estimated", "Measured", observed(report, "measured"), "observed", "measured"),
        Part("calibration", "Calibration", calibration(report)),
        Part("coverage", "Risk and coverage", coverage(report)),
        Part("rejection", "Rejection", rejection(report)),
        Part("against", "The other model", comparison(report)),
        Part("slices", "Discovered slices", report.discovered),
        Part("failures", "Worst failures", shown_failures),
        Part("limitations", "Limitations", limitations(report)),
    ]
    there = [part for part in found if part.content]
    known = {part.id for part in there} | {"reading"}
    known |= {"intended_use"} if report.model.intended_use else set()
    known |= {"pictures"} if shown_failures and shown_failures.pictured else set()
    return [
        *there,
        Part("checklists", "Checklists", checklists(known)),
        Part("reading", "How to read", reading(report)),
    ]
