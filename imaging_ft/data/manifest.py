"""Data sets as samples: built-in cards, cards, folders, manifests and npz files all become the same rows."""

import os
import re
from dataclasses import replace
from pathlib import Path, PureWindowsPath

from imaging_ft import catalog
from imaging_ft.data.card import LABEL_SEPARATOR, Card, is_card, open_card
from imaging_ft.data.labels import by_columns, check_label, label_column, read_label, spelled
from imaging_ft.data.layout import SPLITS, scan
from imaging_ft.data.npz import SUFFIX, from_npz
from imaging_ft.data.places import find_root
from imaging_ft.data.samples import Dataset, Problem, Sample
from imaging_ft.data.table import SUFFIXES, Row, read_table
from imaging_ft.errors import ConfigError, DataError
from imaging_ft.types import Task, Track, silent

__all__ = ["LABEL_SEPARATOR", "Dataset", "Problem", "Sample", "load"]


def load(argument: str, *, track: Track = silent) -> Dataset:
    """Return the data set that a DATASET argument names.

    The argument is a built-in card's name (or NAME@VARIANT), a card's path (YAML), a folder in ImageFolder layout
    (with or without train/ val/ test/), a CSV or Parquet manifest, or an npz file in MedMNIST's layout, whose images
    are unpacked at first use. Raises DataError or ConfigError.
    """
    if not argument.strip():
        raise DataError("the name of the data set is empty; give a card, a folder or a manifest")
    path = Path(argument).expanduser()
    suffix = path.suffix.lower()
    named = is_card(argument)
    built_in = named and suffix not in {".yaml", ".yml"}
    if suffix in SUFFIXES and not path.is_dir():
        return _from_manifest(Card(name=path.stem, layout="manifest", manifest=path.name), path.parent, bare=True)
    if suffix == SUFFIX and not path.is_dir():
        return from_npz(Card(name=path.stem, layout="npz", npz=path.name), path.parent, bare=True, track=track)
    if not built_in and path.is_dir():
        return _from_folder(Card(name=path.resolve().name or "images"), path)
    if not named and path.exists():
        raise DataError(f"{path}: is not a folder, a card (.yaml) or a manifest (.csv, .parquet, .npz)")
    if not named and (path.parent != Path() or argument.endswith(("/", "\\"))):
        raise DataError(f"{path}: no such folder, card or manifest")
    try:
        card, card_path = open_card(argument if built_in else str(path))
    except ConfigError as error:
        if named:
            raise
        raise ConfigError(f"no folder {argument!r} here, and {error}") from error
    root = find_root(card, card_path, argument)
    dataset = _from_card(card, root, track)
    if built_in and path.is_dir() and path.resolve() != root.resolve():
        note = f"{argument!r} is read as the built-in card; write ./{argument} for the folder of that name"
        return replace(dataset, notes=(note, *dataset.notes))
    return dataset


def _from_card(card: Card, root: Path, track: Track) -> Dataset:
    if card.layout == "npz":
        return from_npz(card, root, bare=False, track=track)
    return _from_manifest(card, root, bare=False) if card.layout == "manifest" else _from_folder(card, root)


def _from_folder(card: Card, root: Path) -> Dataset:
    if card.task is Task.MULTILABEL:
        raise DataError(
            f"{card.name}: a folder shows one class an image; a multi-label task needs layout: manifest or npz"
        )
    layout = scan(root)
    samples: list[Sample] = []
    problems: list[Problem] = []
    ignored = 0
    for found in layout.files:
        if card.ignore is not None and re.search(card.ignore, found.path.name):
            ignored += 1
            continue
        name = found.path.relative_to(root).as_posix()
        group = card.group.read(name) if card.group else None
        sample = Sample(name, found.path, spelled(found.label), found.split, group)
        if _is_text(name):
            what = check_label(card, sample.label).problem
            _keep(sample, what, samples, problems)
        else:
            sample = replace(sample, id=name.encode(errors="backslashreplace").decode())
            problems.append(Problem(sample, "the name is not valid UTF-8; rename it"))
    if not samples and not problems:
        what = (
            f"{layout.outside} images, but in no class folders, so nothing says what they show"
            if layout.outside
            else "no images in it"
        )
        raise DataError(f"{root}: {what}; expected {root}/<class>/*.png or {root}/train/<class>/*.png")
    notes = (*layout.notes, f"not read, as the card says (ignore): {ignored} images") if ignored else layout.notes
    return Dataset(card, root, tuple(samples), tuple(problems), notes)


def _from_manifest(card: Card, root: Path, *, bare: bool) -> Dataset:
    path = root / card.manifest
    table = read_table(path)
    card = by_columns(card, path, table.columns, bare=bare)
    names = {role: card.columns.get(role, role) for role in ("image", "split", "group")}
    names["label"] = label_column(card, table.columns)
    _refuse_missing_columns(card, path, names, table.columns)
    samples: list[Sample] = []
    problems: list[Problem] = []
    for row in table.rows:
        sample, what = _from_row(card, root, names, row)
        split = row.cells.get(names["split"], "")
        if row.problem:
            problems.append(Problem(replace(sample, id="", path=path), row.problem))
        elif names["image"] not in row.cells:
            problems.append(Problem(replace(sample, id="", path=path), "names no image"))
        elif split and split.lower() not in SPLITS:
            hint = catalog.suggest(split, ["train", "val", "test"])
            problems.append(Problem(sample, f"unknown split {split!r}; {hint}"))
        else:
            _keep(replace(sample, split=SPLITS[split.lower()] if split else None), what, samples, problems)
    if not samples and not problems:
        raise DataError(f"{path}: the manifest has no rows")
    return Dataset(card, root, tuple(samples), tuple(problems))


def _refuse_missing_columns(card: Card, path: Path, names: dict[str, str], columns: tuple[str, ...]) -> None:
    required = [(role, names[role]) for role in ("image", "split", "group") if role == "image" or role in card.columns]
    if card.label_columns is None:
        required.insert(1, ("label" if card.task is not Task.MULTILABEL else "labels", names["label"]))
    else:
        required += [("class", name) for name in card.labels or ()]
    for role, name in required:
        if name not in columns:
            hint = catalog.suggest(name, [column for column in columns if column])
            raise DataError(f"{path}: no column {name!r} (the {role}); {hint}")


def _from_row(card: Card, root: Path, names: dict[str, str], row: Row) -> tuple[Sample, str]:
    """Return a manifest's row as a sample, its split still to be read, and what is wrong with its label."""
    image = row.cells.get(names["image"], "")
    if card.image_path is not None:
        image = card.image_path.replace("{image}", image)
    if "\\" in image and not (root / image).exists():  # written on Windows
        image = PureWindowsPath(image).as_posix()
    place = Path(os.path.normpath(image))
    bases = [base for base in (root.absolute(), root.resolve()) if place.is_relative_to(base)]
    name = (place.relative_to(bases[0]) if bases else place).as_posix()
    group = row.cells.get(names["group"]) or (card.group.read(name) if card.group else None)
    reading = read_label(card, row, names["label"])
    roles = {names["image"], names["split"], names["group"]}
    roles |= set(card.labels or ()) if card.label_columns else {names["label"]}
    columns = {name: cell for name, cell in row.cells.items() if name not in roles}
    return Sample(name, root / image, reading.label, None, group, columns, row.number), reading.problem


def _keep(sample: Sample, what: str, samples: list[Sample], problems: list[Problem]) -> None:
    """Append a sample to the list it belongs to."""
    if what:
        problems.append(Problem(sample, what))
    else:
        samples.append(sample)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
