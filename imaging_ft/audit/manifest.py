"""A manifest with the findings as columns, and its card: `train` and `report` take either."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from imaging_ft.audit import outliers
from imaging_ft.audit.alike import leaks
from imaging_ft.audit.check import Checked
from imaging_ft.audit.duplicates import joined, same_key
from imaging_ft.config import reason, to_yaml
from imaging_ft.data import Card, load
from imaging_ft.errors import InputError
from imaging_ft.types import Split, Task

FINDINGS = (
    "near_duplicate_of",
    "duplicate_group",
    "leaks_into",
    "label_error_score",
    "suggested_label",
    "outlier",
    "brightness",
    "contrast",
    "sharpness",
    "height",
    "width",
)

_KEPT = (
    "name",
    "title",
    "task",
    "image",
    "augmentation",
    "conditions",
    "positive",
    "source",
    "licence",
    "citation",
    "intended_use",
)
"""What a card says of the images themselves."""


def write_manifest(checked: Checked, path: Path) -> list[Path]:
    """Write a CSV manifest with the findings as columns, and beside it its card (.yaml); return both.

    Every usable row, with its label, group and further columns. A declared split is kept; one that was drawn is not
    written (a validation part goes back to train), and near-duplicates that may be drawn apart are given one group
    (the declared one then stands in `declared_group`), so that what is drawn from this manifest doesn't leak. A
    column of the data set that is called like a finding keeps its name, and the finding's is prefixed with `check_`.
    Raises InputError where it can't be written.
    """
    card_path = path.with_suffix(".yaml")
    rows, columns = _rows(checked, path.parent.resolve())
    # What says where images and labels are read from is the manifest's own; the rest is kept.
    kept = {name: getattr(checked.data.card, name) for name in _KEPT}
    card = Card(**kept, layout="manifest", manifest=path.name, labels=checked.data.labels)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        card_path.write_text(to_yaml(card), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: the manifest can't be written there: {reason(error)}") from error
    return [path, card_path]


def refuse_target(argument: str, path: Path) -> None:
    """Raise InputError where a manifest must not be written: another suffix, or a file of the data set itself."""
    if path.suffix.lower() != ".csv":
        raise InputError(f"--write-manifest {path}: the name must end in .csv")
    dataset = load(argument)
    sources = {Path(argument).expanduser().resolve(), (dataset.root / dataset.card.manifest).resolve()}
    for target in (path, path.with_suffix(".yaml")):
        if target.resolve() in sources and target.exists():
            raise InputError(f"--write-manifest {path}: would replace {target}, which is checked; give another name")


def _rows(checked: Checked, folder: Path) -> tuple[list[dict[str, str]], list[str]]:
    data = checked.data
    further = list(dict.fromkeys(name for sample in data.samples for name in sample.columns))
    named = {name: f"check_{name}" if name in further else name for name in FINDINGS}
    found = _findings(checked)
    groups = _groups(checked)
    widened = any(group != (sample.group or "") for group, sample in zip(groups, data.samples, strict=True))
    rows: list[dict[str, str]] = []
    for place, sample in enumerate(data.samples):
        row = {"image": _relative(sample.path, folder), "label": sample.label}
        if data.declared:
            row["split"] = str(Split.TRAIN if sample.split in data.drawn else sample.split)
        row["group"] = groups[place]
        if widened:
            row["declared_group"] = sample.group or ""
        row |= {name: sample.columns.get(name, "") for name in further}
        rows.append(row | {named[name]: values[place] for name, values in found.items()})
    return rows, list(dict.fromkeys(key for row in rows for key in row))


def _groups(checked: Checked) -> list[str]:
    """Return each sample's group: as declared, but widened over near-duplicates where a split is still to be drawn.

    What stands on a declared test side is not joined to what doesn't: a group may not stand on two sides.
    """
    samples, hashes, pairs = checked.data.samples, checked.data.hashes, checked.pairs
    if not checked.data.drawn:
        return [sample.group or "" for sample in samples]
    free = np.array([sample.split in checked.data.drawn or sample.split is Split.TRAIN for sample in samples], np.bool_)
    loose = free[pairs.first] & free[pairs.second]
    units = joined(
        len(samples),
        (pairs.first[loose], pairs.second[loose]),
        same_key([hashes[sample.id] if is_free else None for sample, is_free in zip(samples, free, strict=True)]),
        same_key([sample.group for sample in samples]),
    ).tolist()
    members: dict[int, list[int]] = {}
    for place, unit in enumerate(units):
        members.setdefault(unit, []).append(place)
    names: dict[int, str] = {}
    for unit, places in members.items():
        declared = sorted({samples[place].group or "" for place in places} - {""})
        names[unit] = declared[0] if declared else f"near-{samples[places[0]].id}" if len(places) > 1 else ""
    return [names[unit] for unit in units]


def _findings(checked: Checked) -> dict[str, list[str]]:
    data, measures, pairs = checked.data, checked.measures, checked.pairs
    n = len(data.samples)
    nearest, parts = [""] * n, [""] * n
    for place in np.argsort(pairs.pixels, kind="stable").tolist():  # the most alike is written last
        first, second = int(pairs.first[place]), int(pairs.second[place])
        nearest[first], nearest[second] = data.samples[second].id, data.samples[first].id
    root: dict[int, str] = {}
    for place in np.union1d(pairs.first, pairs.second).tolist():
        parts[place] = root.setdefault(int(checked.near[place]), data.samples[place].id)
    into = leaks(data, pairs)
    blank = outliers.is_blank(measures)
    odd: list[list[str]] = [["blank"] if is_blank else [] for is_blank in blank.tolist()]
    for measure in outliers.measures(measures, blank):
        for place in measure.outliers.tolist():
            odd[place].append(measure.name)
    doubts = checked.doubts
    return {
        "near_duplicate_of": nearest,
        "duplicate_group": parts,
        "leaks_into": [str(into[place]) if place in into else "" for place in range(n)],
        "label_error_score": [""] * n if doubts is None else [f"{score:.4f}" for score in doubts.score],
        "suggested_label": [""] * n if doubts is None else [_suggestion(checked, place) for place in range(n)],
        "outlier": ["+".join(names) for names in odd],
        "brightness": _numbers(measures.brightness.tolist()),
        "contrast": _numbers(measures.contrast.tolist()),
        "sharpness": _numbers(measures.sharpness.tolist()),
        "height": [str(height) for height in measures.sizes[:, 0].tolist()],
        "width": [str(width) for width in measures.sizes[:, 1].tolist()],
    }


def _suggestion(checked: Checked, place: int) -> str:
    suggested = -1 if checked.doubts is None else int(checked.doubts.suggested[place])
    if suggested < 0:
        return ""
    label, sample = checked.data.labels[suggested], checked.data.samples[place]
    if checked.data.card.task is not Task.MULTILABEL:
        return label
    kept = [name for name in checked.data.labels if (name in sample.labels) != (name == label)]
    return "|".join(kept) or "(none)"


def _numbers(values: Sequence[float]) -> list[str]:
    return [f"{value:.4f}" for value in values]


def _relative(path: Path, folder: Path) -> str:
    """Return a file's path from a folder; a link's own name is kept, for its target may have no suffix."""
    place = path.absolute().parent.resolve() / path.name
    try:
        return Path(os.path.relpath(place, folder)).as_posix()
    except ValueError:  # another drive
        return place.as_posix()
