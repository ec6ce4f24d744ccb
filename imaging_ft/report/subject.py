"""What is measured: the images of a data set that a bundle is held against, with what they show."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from imaging_ft.bundle import Bundle, digest
from imaging_ft.catalog import suggest
from imaging_ft.data import Prepared, Sample, prepare
from imaging_ft.data.draws import units_of
from imaging_ft.data.folds import folds
from imaging_ft.data.samples import classes_of
from imaging_ft.errors import DataError
from imaging_ft.image import read_tags
from imaging_ft.types import Json, Split, Task, Track, silent

EVERY = "all"
"""The split's name where every image is measured."""


_WHO = ("the model", "the model that it is held against")


@dataclass(frozen=True)
class Subject:
    """The images that are measured."""

    data: Prepared
    samples: tuple[Sample, ...]
    name: str
    """`test`, or `all` for a data set that declares no splits and isn't the one trained on."""
    notes: tuple[str, ...] = ()
    """What to know of them: how many were left out because the model has seen them, which others it may have seen."""

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
    dataset: str,
    bundle: Bundle,
    split: Split | None = None,
    *,
    against: Bundle | None = None,
    skip_bad: bool = False,
    track: Track = silent,
) -> Subject:
    """Return the images of a data set to measure on; no others are decoded.

    Without `split` it is the test split; of a data set that declares no splits and isn't the one that the model was
    trained on, every image. Images that the model (or the one that it's held `against`) was trained or validated on
    are left out, unless `split` asks for train or val. Raises DataError where there are none, where a label is unknown,
    or where images show one class each and the model says several (or the other way round).
    """
    seed = int(bundle.provenance.get("dataset", {}).get("split_seed", 0))

    def prepared(decode: frozenset[Split]) -> Prepared:
        return prepare(dataset, seed=seed, skip_bad=skip_bad, decode=decode, track=track)

    # A fold is dealt from train and validation, where an image that can't be decoded was left out before.
    folded = split not in {None, Split.TEST} and _fold(bundle.provenance) is not None
    bundles = [bundle] if against is None else [bundle, against]
    subject = _choose(
        prepared(frozenset({Split.TRAIN, Split.VAL} if folded else {split or Split.TEST})), bundles, split
    )
    return _choose(prepared(frozenset(Split)), bundles, split) if subject.name == EVERY else subject


def _choose(data: Prepared, bundles: Sequence[Bundle], split: Split | None) -> Subject:
    """Return what is measured; the first bundle says which split that is, and what its classes are."""
    bundle = bundles[0]
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
    samples, notes = _unseen(data, samples, name, bundles)
    doubts = [note for one, who in zip(bundles, _WHO, strict=False) for note in _doubts(data, one, who)]
    for sample in samples:
        for label in classes_of(sample, bundle.task):
            if label not in bundle.names:
                hint = suggest(label, bundle.names)
                raise DataError(f"{sample.where}: the model knows no class {label!r}; {hint}")
    return Subject(data, samples, name, (*notes, *doubts))


def _unseen(
    data: Prepared, samples: tuple[Sample, ...], name: str, bundles: Sequence[Bundle]
) -> tuple[tuple[Sample, ...], list[str]]:
    """Return the samples that no model was trained or validated on, and what to say of it.

    Of train and val, which are only measured where they are asked for, nothing is left out.
    """
    seen: set[str] = set()
    notes: list[str] = []
    for bundle, who in zip(bundles, _WHO, strict=False):
        known = bundle.seen.known() if bundle.seen is not None else frozenset[bytes]()
        met = {sample.id for sample in data.samples if digest(data.hashes[sample.id]) in known}
        count = sum(1 for sample in samples if sample.id in met)
        if count:
            notes.append(f"{count} of {len(samples)} images are among those that {who} was trained or validated on")
        seen |= met
    if name in {Split.TRAIN, Split.VAL}:
        return samples, [f"{note}: what is measured on {name} is too good" for note in notes]
    kept = tuple(sample for sample in samples if sample.id not in seen)
    if not kept:
        raise DataError(
            f"{data.card.name}: {'; '.join(notes)}: none is left to measure ({name}); give images that were not seen"
        )
    if not seen:
        return kept, []
    notes = [f"{note}: they are left out" for note in notes]
    units = units_of(data.samples, data.hashes)
    trained = {units[name] for name in seen}
    kin = sum(1 for sample in kept if units[sample.id] in trained)
    if kin:
        notes.append(
            f"{kin} of the {len(kept)} measured images are of groups (patients, series, cameras) of which other images"
            " were seen in training: what is measured is too good"
        )
    return kept, notes


def _doubts(data: Prepared, bundle: Bundle, who: str) -> list[str]:
    """Return why images that a model was trained on may be measured all the same."""
    if bundle.seen is not None:
        if bundle.seen.complete:
            return []
        return [
            f"not every image that {who} has seen is known (they are too many to list, were left out, or it started"
            " from a run or weights that don't say): some may be among those measured"
        ]
    trained: Json = bundle.provenance.get("dataset", {})
    if trained.get("name") != data.card.name or trained.get("fingerprint") == data.fingerprint:
        return []
    return [
        f"{who} was trained on {data.card.name} as it was before (fingerprints differ), and its file doesn't say on"
        " which images: some may be among those measured; train and export it again, or measure on others"
    ]


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
