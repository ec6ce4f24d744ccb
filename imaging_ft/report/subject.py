"""What is measured: the images of a data set that a bundle is held against, with what they show."""

from dataclasses import dataclass

import polars as pl

from imaging_ft.bundle import Bundle
from imaging_ft.catalog import suggest
from imaging_ft.data import Prepared, Sample, prepare
from imaging_ft.data.folds import folds
from imaging_ft.data.samples import classes_of
from imaging_ft.errors import DataError
from imaging_ft.image import read_tags
from imaging_ft.types import Json, Split, Task, Track, silent

EVERY = "all"
"""The split's name where every image is measured."""


@dataclass(frozen=True)
class Subject:
    """The images that are measured."""

    data: Prepared
    samples: tuple[Sample, ...]
    name: str
    """`test`, or `all` for a data set that declares no splits and isn't the one trained on."""

    @property
    def groups(self) -> list[str]:
        """Each image's independent unit: its patient, series or camera, else its file's SHA-256."""
        return [sample.group or self.data.hashes[sample.id] for sample in self.samples]

    def recorded(self) -> pl.DataFrame:
        """Return what was recorded of each image: the manifest's columns, then the DICOM tags that it lacks.

        A row for each sample; every column is text, with null where nothing was recorded.
        """
        rows = [read_tags(sample.path) | sample.columns for sample in self.samples]
        declared = dict.fromkeys(name for sample in self.samples for name in sample.columns)
        columns = declared | dict.fromkeys(name for row in rows for name in row)
        return pl.DataFrame(
            {name: [row.get(name) or None for row in rows] for name in columns}, dict.fromkeys(columns, pl.String)
        )


def find_subject(
    dataset: str, bundle: Bundle, split: Split | None = None, *, skip_bad: bool = False, track: Track = silent
) -> Subject:
    """Return the images of a data set to measure on; no others are decoded.

    Without `split` it is the test split; of a data set that declares no splits and isn't the one that the model was
    trained on, every image. Raises DataError where there are none, where a label is unknown, or where images show one
    class each and the model says several (or the other way round).
    """
    seed = int(bundle.provenance.get("dataset", {}).get("split_seed", 0))

    def prepared(decode: frozenset[Split]) -> Prepared:
        return prepare(dataset, seed=seed, skip_bad=skip_bad, decode=decode, track=track)

    # A fold is dealt from train and validation, where an image that can't be decoded was left out before.
    folded = split not in {None, Split.TEST} and _fold(bundle.provenance) is not None
    data = prepared(frozenset({Split.TRAIN, Split.VAL} if folded else {split or Split.TEST}))
    subject = _choose(data, bundle, split)
    return _choose(prepared(frozenset(Split)), bundle, split) if subject.name == EVERY else subject


def _choose(data: Prepared, bundle: Bundle, split: Split | None) -> Subject:
    _refuse_another_task(data, bundle)
    own = data.fingerprint == bundle.provenance.get("dataset", {}).get("fingerprint")
    if split is not None or data.declared or own:
        wanted = split or Split.TEST
        parts = _as_trained(data, bundle.provenance) if own and wanted is not Split.TEST else data
        samples, name = parts.of(wanted), wanted.value
        if not samples:
            there = ", ".join(part.value for part in Split if data.of(part))
            raise DataError(f"{data.card.name}: no {name} images (there are: {there}); choose one with --split")
    else:
        samples, name = data.samples, EVERY
    for sample in samples:
        for label in classes_of(sample, bundle.task):
            if label not in bundle.names:
                hint = suggest(label, bundle.names)
                raise DataError(f"{sample.where}: the model knows no class {label!r}; {hint}")
    return Subject(data, samples, name)


def _refuse_another_task(data: Prepared, bundle: Bundle) -> None:
    several = bundle.task is Task.MULTILABEL
    if several != (data.card.task is Task.MULTILABEL):
        kinds = ("any number of classes", "one class")
        says, shows = kinds if several else kinds[::-1]
        remedy = "write task: multilabel in its card" if several else "measure with images of one class each"
        raise DataError(
            f"{data.card.name}: an image shows {shows} (task {data.card.task}), but the model says {says}"
            f" (task {bundle.task}); {remedy}"
        )


def _as_trained(data: Prepared, provenance: Json) -> Prepared:
    """Return the data that a model was trained on with the training's own splits: its fold's, where it had one."""
    named = _fold(provenance)
    if named is None:
        return data
    count, fold = named
    return folds(data, count, seed=int(provenance.get("dataset", {}).get("split_seed", 0)))[fold - 1]


def _fold(provenance: Json) -> tuple[int, int] | None:
    """Return how many folds a cross-validation had and which one a model was trained on (from 1); None without."""
    config: Json = provenance.get("config", {})
    count, fold = config.get("folds"), config.get("fold")
    return (int(count), int(fold)) if count and fold else None
