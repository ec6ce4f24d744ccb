"""Dataset cards: where a data set's images are, what they show, and what they may be used for."""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import ConfigDict, Field, field_validator, model_validator

from imaging_ft import catalog
from imaging_ft.config import Frozen
from imaging_ft.data.remote import Remote, Variant
from imaging_ft.errors import ConfigError
from imaging_ft.types import Task

VARIANT = "@"
"""Between a card's name and the variant of it that is meant: pneumonia_mnist@224."""

LABEL_SEPARATOR = "|"
"""Between the classes that one image of a multi-label task shows."""


class GroupRule(Frozen):
    """How to read a sample's group (patient, series, camera) where no column holds it."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    source: Annotated[Literal["filename", "path"], Field(alias="from")] = "filename"
    """The file's name alone, or its path relative to the root (with forward slashes)."""
    pattern: str
    """A regular expression, matched at the start, with a part named `group`."""

    @field_validator("pattern")
    @classmethod
    def _names_a_group(cls, pattern: str) -> str:
        if "group" not in _compiled(pattern).groupindex:
            raise ValueError("has no part named group; write for example '^(?P<group>[A-Z]+\\d+)_'")
        return pattern

    def read(self, name: str) -> str | None:
        """Return the group in a sample's relative path, or None where the pattern doesn't match."""
        match = re.match(self.pattern, name if self.source == "path" else name.rpartition("/")[2])
        return match.group("group") or None if match else None


class ImageFormat(Frozen):
    """How the images are stored."""

    channels: Literal[1, 3] = 3
    bits: Literal[8, 16] = 8
    window: tuple[int, int] | None = None
    """Stored 16-bit values that become black and white; null is the full range."""

    @field_validator("window")
    @classmethod
    def _rises(cls, window: tuple[int, int] | None) -> tuple[int, int] | None:
        if window is not None and not 0 <= window[0] < window[1] <= 65535:
            raise ValueError("the first value must be below the second, both from 0 to 65535")
        return window


class LabelColumns(Frozen):
    """What the cells say where a manifest has one column for each class, named like it."""

    shown: tuple[str, ...] = ("1", "1.0", "true")
    """Cells that say the image shows the class; case doesn't matter."""
    not_shown: tuple[str, ...] = ("0", "0.0", "false")
    """Cells that say it doesn't; write '' for empty ones. Any other cell makes the row a bad one."""

    @model_validator(mode="after")
    def _tell_them_apart(self) -> Self:
        both = sorted({cell.casefold() for cell in self.shown} & {cell.casefold() for cell in self.not_shown})
        if both:
            raise ValueError(f"{both[0]!r} stands in shown and in not_shown")
        return self


class Card(Frozen):
    """What is known of a data set."""

    name: Annotated[str, Field(min_length=1)]
    title: str = ""
    task: Task = Task.MULTICLASS
    root: str | None = None
    """The images' folder, relative to the card (null: the card's own, unless the images are to be got); else
    $IMAGING_FT_DATA/<name>, else <name> where `data get` puts it."""
    subfolder: str = ""
    """The folder inside <name> that the images or the manifest lie in, as the publisher's archive has it."""
    layout: Literal["folder", "manifest", "npz"] = "folder"
    manifest: str = "manifest.csv"
    """With layout manifest: the CSV or Parquet file, relative to the root."""
    columns: dict[Literal["image", "label", "split", "group"], str] = Field(default_factory=dict)
    """The manifest's own names for the columns that mean these."""
    image_path: str | None = None
    """Where an image lies that the manifest names without folder or suffix, such as images/{image}.jpg."""
    npz: str | None = None
    """With layout npz: the file, relative to the root; arrays train_images, train_labels, val_…, test_…."""
    labels: tuple[str, ...] | None = None
    """Every class, in the model's order; null: those that occur, sorted."""
    label_columns: LabelColumns | None = None
    """The manifest has a column for each of the labels; true: its cells are 1 and 0."""
    none: str | None = None
    """The manifest's word for an image of a multi-label task that shows none of the classes."""
    ignore: str | None = None
    """With layout folder: a regular expression; files whose name it matches anywhere are no samples (masks)."""
    group: GroupRule | None = None
    image: ImageFormat | None = None
    """Null: as the files are (the most channels and bits among them)."""
    augmentation: str | None = None
    """The training recipe that suits the images; null: `camera` for colour, `radiograph` for gray."""
    conditions: str | None = None
    """The condition suite that suits the images; null: the one that the training recipe names."""
    positive: tuple[str, ...] = ()
    """Classes whose sensitivity is reported first."""
    download: tuple[Remote, ...] = ()
    """The files that `data get` downloads."""
    get: str | None = None
    """How a person gets the images, where they can't be downloaded without asking (registration, terms)."""
    variants: dict[str, Variant] = Field(default_factory=dict)
    """Other forms of the same images, such as a larger size; the data set is then called <name>@<variant>."""
    source: str | None = None
    licence: str | None = None
    citation: str | None = None
    intended_use: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_spelling_of_licence(cls, values: Any) -> Any:
        if isinstance(values, dict) and "license" in values:
            raise ValueError("write 'licence', not 'license'")
        return values

    @field_validator("labels", "positive", mode="before")
    @classmethod
    def _as_text(cls, values: Any) -> Any:
        """Return class names as they stand in a manifest, where a number is text and é is one letter."""
        if not isinstance(values, list | tuple):
            return values
        named = cast("Sequence[Any]", values)
        if any(isinstance(value, bool) for value in named):
            raise ValueError("YAML reads yes, no, on, off, true and false as truth values; put these names in quotes")
        return [unicodedata.normalize("NFC", str(v)) if isinstance(v, str | int) else v for v in named]

    @field_validator("label_columns", mode="before")
    @classmethod
    def _true_is_ones_and_zeros(cls, value: Any) -> Any:
        return LabelColumns() if value is True else None if value is False else value

    @field_validator("ignore")
    @classmethod
    def _is_a_pattern(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            _compiled(pattern)
        return pattern

    @field_validator("image_path")
    @classmethod
    def _names_the_image(cls, template: str | None) -> str | None:
        if template is not None and "{image}" not in template:
            raise ValueError("has no {image} in it; write for example images/{image}.jpg")
        return template

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.labels is not None:
            if len(set(self.labels)) < max(2, len(self.labels)):
                raise ValueError("labels must name at least two different classes")
            for name in self.positive:
                if name not in self.labels:
                    raise ValueError(f"positive: {name!r}; {catalog.suggest(name, list(self.labels))}")
        if self.label_columns is not None and (self.labels is None or self.layout != "manifest"):
            raise ValueError("label_columns needs labels (the columns' names) and layout: manifest")
        if (self.layout == "npz") != (self.npz is not None):
            raise ValueError("layout: npz and npz: FILE.npz belong together; write both or none")
        if self.task is Task.MULTILABEL:
            self._fits_several_labels()
        elif self.none is not None:
            raise ValueError("none is for task: multilabel; elsewhere it is a class like the others")
        return self

    def _fits_several_labels(self) -> None:
        if self.layout == "folder" and "layout" in self.model_fields_set:
            raise ValueError("a folder shows one class an image; a multi-label task needs layout: manifest or npz")
        for name in (*(self.labels or ()), *self.positive):
            if LABEL_SEPARATOR in name:
                raise ValueError(f"labels: {name!r}; '|' separates the classes of a multi-label task; rename it")

    def variant(self, name: str, *, where: str) -> "Card":
        """Return the card of one of the variants; raises ConfigError naming `where` and the known ones."""
        if name not in self.variants:
            raise ConfigError(f"{where}: no variant {name!r}; {catalog.suggest(name, sorted(self.variants))}")
        chosen = self.variants[name]
        update = {"name": f"{self.name}{VARIANT}{name}", "download": chosen.download, "npz": chosen.npz, "variants": {}}
        return self.model_copy(update=update)


def is_card(argument: str) -> bool:
    """Return whether an argument names a card: a built-in one, or a YAML file, with or without a variant."""
    name, _ = _split(argument)
    return name in catalog.names("datasets") or Path(name).suffix.lower() in {".yaml", ".yml"}


def open_card(argument: str) -> tuple[Card, Path]:
    """Return the card that an argument names (NAME, NAME@VARIANT or a YAML file), and where it lies.

    Raises ConfigError where there is no such card or variant, or where the card is wrong.
    """
    name, variant = _split(argument)
    path = catalog.find(name, on="datasets")
    card = Card.from_yaml(path)
    return (card.variant(variant, where=argument) if variant else card), path


def _split(argument: str) -> tuple[str, str]:
    """Return the name and the variant; an @ inside a path's folders separates nothing."""
    name, _, variant = argument.rpartition(VARIANT)
    if not name or "/" in variant or "\\" in variant or Path(argument).suffix.lower() in {".yaml", ".yml"}:
        return argument, ""
    return name, variant


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
