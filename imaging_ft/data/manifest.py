"""Data sets as samples: built-in cards, cards, folders and manifests all become the same rows."""

import os
import unicodedata
from dataclasses import dataclass, field, replace
from pathlib import Path, PureWindowsPath

from imaging_ft import catalog
from imaging_ft.data.card import Card, find_root
from imaging_ft.data.layout import SPLITS, scan
from imaging_ft.data.table import SUFFIXES, Row, read_table
from imaging_ft.errors import DataError
from imaging_ft.types import Split

LABEL_SEPARATOR = "|"


@dataclass(frozen=True)
class Sample:
    """One labelled image."""

    id: str
    """The image's path relative to the data set's root, with forward slashes; absolute where it lies outside."""
    path: Path
    label: str
    """The class; of a multi-label task every class it shows, joined by `|`, or an empty text where it shows none."""
    split: Split | None = None
    group: str | None = None
    columns: dict[str, str] = field(default_factory=dict[str, str])
    """Every further column of the manifest: conditions to slice by. Empty values are left out."""
    row: int | None = None
    """The line in the manifest (the header is line 1; in Parquet, the first row is 1), or None in a folder layout."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes of a multi-label task that the image shows."""
        return tuple(name for name in self.label.split(LABEL_SEPARATOR) if name)

    @property
    def where(self) -> str:
        """The place to name in a message: the file, and the manifest's row."""
        return f"{self.path} (row {self.row})" if self.row is not None else f"{self.path}"


@dataclass(frozen=True)
class Problem:
    """A row that can't be used, and why."""

    sample: Sample
    what: str

    def __str__(self) -> str:
        line = self.what if self.what.startswith(str(self.sample.path)) else f"{self.sample.where}: {self.what}"
        return " ".join(line.splitlines())


@dataclass(frozen=True)
class Dataset:
    """A data set as its card and files declare it, before anything was checked or split."""

    card: Card
    root: Path
    samples: tuple[Sample, ...]
    problems: tuple[Problem, ...] = ()
    """Rows that are already known to be unusable; they are not among `samples`."""
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes in the model's order: the card's, else those that occur, sorted."""
        return self.card.labels or tuple(sorted({sample.label for sample in self.samples}))

    def of(self, split: Split) -> tuple[Sample, ...]:
        """Return the samples of one split."""
        return tuple(sample for sample in self.samples if sample.split == split)


def load(argument: str) -> Dataset:
    """Return the data set that a DATASET argument names.

    The argument is a built-in card's name, a card's path (YAML), a folder in ImageFolder layout (with or
    without train/ val/ test/), or a CSV or Parquet manifest. Raises DataError or ConfigError.
    """
    if not argument.strip():
        raise DataError("the name of the data set is empty; give a card, a folder or a manifest")
    path = Path(argument).expanduser()
    built_in = argument in catalog.names("datasets")
    if path.suffix.lower() in SUFFIXES and not path.is_dir():
        return _from_manifest(Card(name=path.stem, layout="manifest", manifest=path.name), path.parent)
    if not built_in and path.is_dir():
        return _from_folder(Card(name=path.resolve().name or "images"), path)
    is_card = built_in or path.suffix.lower() in {".yaml", ".yml"}
    if not is_card and path.exists():
        raise DataError(f"{path}: is not a folder, a card (.yaml) or a manifest (.csv, .parquet)")
    if not is_card and (path.parent != Path() or argument.endswith(("/", "\\"))):
        raise DataError(f"{path}: no such folder, card or manifest")
    card_path = catalog.find(argument if built_in else str(path), on="datasets")
    card = Card.from_yaml(card_path)
    root = find_root(card, card_path)
    dataset = _from_manifest(card, root) if card.layout == "manifest" else _from_folder(card, root)
    if built_in and path.is_dir() and path.resolve() != root.resolve():
        note = f"{argument!r} is read as the built-in card; write ./{argument} for the folder of that name"
        return replace(dataset, notes=(note, *dataset.notes))
    return dataset


def _from_folder(card: Card, root: Path) -> Dataset:
    layout = scan(root)
    samples: list[Sample] = []
    problems: list[Problem] = []
    for found in layout.files:
        name = found.path.relative_to(root).as_posix()
        sample = Sample(name, found.path, _label(found.label), found.split, _group(card, found.path))
        if _is_text(name):
            _keep(card, sample, samples, problems)
        else:
            sample = replace(sample, id=name.encode(errors="backslashreplace").decode())
            problems.append(Problem(sample, "the name is not valid UTF-8; rename it"))
    if not samples and not problems:
        raise DataError(f"{root}: no images in it; expected {root}/<class>/*.png or {root}/train/<class>/*.png")
    return Dataset(card, root, tuple(samples), tuple(problems), layout.notes)


def _from_manifest(card: Card, root: Path) -> Dataset:
    path = root / card.manifest
    table = read_table(path)
    names = {role: card.columns.get(role, role) for role in ("image", "label", "split", "group")}
    for role, name in names.items():
        required = role in {"image", "label"} or role in card.columns
        if required and name not in table.columns:
            hint = catalog.suggest(name, [column for column in table.columns if column])
            raise DataError(f"{path}: no column {name!r} (the {role}); {hint}")
    samples: list[Sample] = []
    problems: list[Problem] = []
    for row in table.rows:
        sample = _from_row(card, root, names, row)
        split = row.cells.get(names["split"], "")
        if row.problem:
            problems.append(Problem(replace(sample, id="", path=path), row.problem))
        elif names["image"] not in row.cells:
            problems.append(Problem(replace(sample, id="", path=path), "names no image"))
        elif split and split.lower() not in SPLITS:
            hint = catalog.suggest(split, ["train", "val", "test"])
            problems.append(Problem(sample, f"unknown split {split!r}; {hint}"))
        else:
            _keep(card, replace(sample, split=SPLITS[split.lower()] if split else None), samples, problems)
    if not samples and not problems:
        raise DataError(f"{path}: the manifest has no rows")
    return Dataset(card, root, tuple(samples), tuple(problems))


def _from_row(card: Card, root: Path, names: dict[str, str], row: Row) -> Sample:
    """Return a manifest's row as a sample; its split is still to be read."""
    image = row.cells.get(names["image"], "")
    if "\\" in image and not (root / image).exists():  # written on Windows
        image = PureWindowsPath(image).as_posix()
    file = root / image
    place = Path(os.path.normpath(image))
    bases = [base for base in (root.absolute(), root.resolve()) if place.is_relative_to(base)]
    name = (place.relative_to(bases[0]) if bases else place).as_posix()
    group = row.cells.get(names["group"]) or _group(card, file)
    roles = set(names.values())
    columns = {name: cell for name, cell in row.cells.items() if name not in roles}
    return Sample(name, file, _label(row.cells.get(names["label"], "")), None, group, columns, row.number)


def _keep(card: Card, sample: Sample, samples: list[Sample], problems: list[Problem]) -> None:
    """Append a sample to the list it belongs to."""
    if not sample.label:
        problems.append(Problem(sample, "the label is empty"))
    elif card.labels is not None and sample.label not in card.labels:
        hint = catalog.suggest(sample.label, list(card.labels))
        problems.append(Problem(sample, f"unknown label {sample.label!r}; {hint}"))
    else:
        samples.append(sample)


def _label(text: str) -> str:
    """Return a label in one spelling: some systems store é as e and an accent."""
    return unicodedata.normalize("NFC", text.strip())


def _group(card: Card, path: Path) -> str | None:
    return card.group.read(path) if card.group else None


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
