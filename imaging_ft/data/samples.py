"""Samples: the rows that every form of data set becomes."""

from dataclasses import dataclass, field
from pathlib import Path

from imaging_ft.data.card import LABEL_SEPARATOR, Card
from imaging_ft.types import Split, Task


@dataclass(frozen=True)
class Sample:
    """One labelled image."""

    id: str
    """The image's path relative to the data set's root, with forward slashes; absolute where it lies outside."""
    path: Path
    label: str
    """The class; of a multi-label task every class it shows, sorted and joined by `|`, or an empty text for none."""
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
        return self.card.labels or occurring(self.samples, self.card.task)

    def of(self, split: Split) -> tuple[Sample, ...]:
        """Return the samples of one split."""
        return tuple(sample for sample in self.samples if sample.split == split)


def classes_of(sample: Sample, task: Task) -> tuple[str, ...]:
    """Return every class that a sample counts for: one, or in a multi-label task any number of them."""
    return sample.labels if task is Task.MULTILABEL else (sample.label,)


def occurring(samples: tuple[Sample, ...], task: Task) -> tuple[str, ...]:
    """Return the classes that samples show, sorted."""
    return tuple(sorted({name for sample in samples for name in classes_of(sample, task)}))
