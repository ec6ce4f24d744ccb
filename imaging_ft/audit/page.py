"""The check as one offline HTML file with pictures: no script, no request, readable on a phone and at a desk."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from imaging_ft.audit.check import Checked
from imaging_ft.audit.result import Finding
from imaging_ft.config import reason
from imaging_ft.data import Sample, input_spec, load
from imaging_ft.errors import ImageError, InputError
from imaging_ft.image import read_image
from imaging_ft.preprocess import InputSpec, conform, to_levels
from imaging_ft.types import Track, silent

FILES = ("index.html", "check.json")
SHOWN = 12
"""Examples of a finding that are shown with their pictures; check.json lists up to 500."""
_TEMPLATES = Path(__file__).parent / "templates"
_SIDE = 144
_QUALITY = 72
_MOST_BYTES = 4_000_000
"""Of all pictures together: the page stays below 5 MB."""


@dataclass(frozen=True)
class Shown:
    """One example with its pictures."""

    names: tuple[str, ...]
    pictures: tuple[str, ...]
    """Data URIs; empty texts where the page would grow too large."""
    note: str


@dataclass(frozen=True)
class Section:
    """A finding as the page shows it."""

    finding: Finding
    shown: list[Shown]


def refuse_folder(argument: str, out: Path) -> None:
    """Raise InputError where the page would lie among the class folders of the data set."""
    dataset = load(argument)
    if dataset.card.layout == "folder" and out.resolve().is_relative_to(dataset.root.resolve()):
        raise InputError(f"--out {out}: lies inside the data set, which is only read; give a folder outside of it")


def write_page(checked: Checked, out: Path, *, track: Track = silent) -> list[Path]:
    """Write `index.html` and `check.json` into a folder and return both; nothing else is touched.

    Raises InputError where they can't be written.
    """
    page, data = (out / name for name in FILES)
    text = render_page(checked, track=track)
    try:
        out.mkdir(parents=True, exist_ok=True)
        data.write_text(checked.check.model_dump_json(indent=2) + "\n", encoding="utf-8")
        page.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise InputError(f"{out}: the check can't be written there: {reason(error)}") from error
    return [page, data]


def render_page(checked: Checked, *, track: Track = silent) -> str:
    """Return the HTML text of a check."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    columns: dict[str, list[object]] = {}
    for part in checked.check.conditions:
        columns.setdefault(part.column, []).append(part)
    return environment.get_template("check.html.j2").render(
        check=checked.check,
        data=checked.check.dataset,
        sections=_sections(checked, track),
        columns=columns,
    )


def _sections(checked: Checked, track: Track) -> list[Section]:
    left_out = {problem.sample.id: problem.sample for problem in checked.data.skipped}
    samples = left_out | {sample.id: sample for sample in checked.data.samples}
    spec = input_spec(checked.data)
    findings = checked.check.findings
    wanted = {name for finding in findings for example in finding.examples[:SHOWN] for name in example.images}
    pictures: dict[str, str] = {}
    size = 0
    for name in track(sorted(wanted), "drawing pictures", len(wanted)):
        if size < _MOST_BYTES:
            pictures[name] = _picture(samples[name], spec) if name in samples else ""
            size += len(pictures[name])
    return [Section(finding, list(_shown(finding, pictures))) for finding in findings]


def _shown(finding: Finding, pictures: dict[str, str]) -> Iterable[Shown]:
    for example in finding.examples[:SHOWN]:
        yield Shown(example.images, tuple(pictures.get(name, "") for name in example.images), example.note)


def _picture(sample: Sample, spec: InputSpec) -> str:
    """Return an image as a small JPEG in a data URI; an empty text for one that can't be read."""
    try:
        levels = to_levels(conform(read_image(sample.path), spec), spec)
    except ImageError:
        return ""
    height, width = levels.shape[:2]
    scale = _SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(cv2.resize(levels, size, interpolation=cv2.INTER_AREA), np.uint8)
    small = small.reshape(size[1], size[0], -1)[:, :, ::-1]  # OpenCV writes BGR
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(small), (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
