"""Dataset cards: where a data set's images are, what they show, and what they may be used for."""

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import ConfigDict, Field, field_validator, model_validator

from imaging_ft import catalog
from imaging_ft.config import Frozen
from imaging_ft.errors import DataError
from imaging_ft.types import Task

DATA_VARIABLE = "IMAGING_FT_DATA"


class GroupRule(Frozen):
    """How to read a sample's group (patient, series, camera) where no column holds it."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    source: Annotated[Literal["filename"], Field(alias="from")] = "filename"
    pattern: str
    """A regular expression, matched at the file name's start, with a part named `group`."""

    @field_validator("pattern")
    @classmethod
    def _names_a_group(cls, pattern: str) -> str:
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        if "group" not in compiled.groupindex:
            raise ValueError("has no part named group; write for example '^(?P<group>[A-Z]+\\d+)_'")
        return pattern

    def read(self, path: Path) -> str | None:
        """Return the group in a file's name, or None where the pattern doesn't match."""
        match = re.match(self.pattern, path.name)
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


class Card(Frozen):
    """What is known of a data set."""

    name: Annotated[str, Field(min_length=1)]
    title: str = ""
    task: Task = Task.MULTICLASS
    root: str = "."
    """The images' folder, relative to the card; else $IMAGING_FT_DATA/<name>."""
    layout: Literal["folder", "manifest"] = "folder"
    manifest: str = "manifest.csv"
    """With layout manifest: the CSV or Parquet file, relative to the root."""
    columns: dict[Literal["image", "label", "split", "group"], str] = Field(default_factory=dict)
    """The manifest's own names for the columns that mean these."""
    labels: tuple[str, ...] | None = None
    """Every class, in the model's order; null: those that occur, sorted."""
    group: GroupRule | None = None
    image: ImageFormat | None = None
    """Null: as the files are (the most channels and bits among them)."""
    augmentation: str | None = None
    """The training recipe that suits the images; null: by their channels."""
    conditions: str | None = None
    """The condition suite that suits the images; null: by their channels."""
    positive: tuple[str, ...] = ()
    """Classes whose sensitivity is reported first."""
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

    @model_validator(mode="after")
    def _positive_are_labels(self) -> Self:
        if self.labels is not None:
            if len(set(self.labels)) < max(2, len(self.labels)):
                raise ValueError("labels must name at least two different classes")
            for name in self.positive:
                if name not in self.labels:
                    raise ValueError(f"positive: {name!r}; {catalog.suggest(name, list(self.labels))}")
        return self


def find_root(card: Card, card_path: Path) -> Path:
    """Return the folder that holds a card's images.

    Raises DataError, with both places that were looked at, where it isn't there.
    """
    beside = (card_path.parent / Path(card.root).expanduser()).resolve()
    if beside.is_dir():
        return beside
    looked = f"{beside}"
    shared = os.environ.get(DATA_VARIABLE)
    if shared:
        named = Path(shared).expanduser() / card.name
        if named.is_dir():
            return named
        looked = f"{beside} or {named}"
    raise DataError(
        f"the images of dataset {card.name!r} are not at {looked}; put them there, or set {DATA_VARIABLE} to"
        f" the folder that holds {card.name}/"
    )
