"""The validation images of a run, as a host would hand them over."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imaging_ft.augment.conditions import usual_suite
from imaging_ft.data import Prepared, Sample, prepare
from imaging_ft.data.folds import folds
from imaging_ft.data.images import targets
from imaging_ft.errors import DataError, RunError
from imaging_ft.image import read_image
from imaging_ft.preprocess import conform
from imaging_ft.training.run import ModelInfo, RunFolder
from imaging_ft.types import Json, Pixels, Split, Task, Track

MOST_TRAINING = 1000
"""Training images that are looked at, as many of each class."""


@dataclass(frozen=True)
class Validation:
    """What an exported file is held against before it's written."""

    samples: Sequence[Sample]
    images: Sequence[Pixels]
    """In the model's dtype and channels, at their own sizes."""
    truth: npt.NDArray[np.bool_]
    """[images, classes]."""
    suite: str
    """The data set's condition suite."""
    training: "Training | None" = None
    """None: what the file rejects can't be fitted, and it rejects nothing."""


@dataclass(frozen=True)
class Training:
    """Some of the training images, for what a file has to know of them."""

    paths: Sequence[Path]
    labels: npt.NDArray[np.int64]
    """[images], the class; of a multi-label task all 0, for there is no one class."""


def validation_images(run: RunFolder, info: ModelInfo, *, data: str | None, track: Track) -> Validation:
    """Return the run's validation images; of a fold of a cross-validation they are that fold's.

    Raises DataError where the data set isn't there, or isn't the one that the run was trained on, and RunError where
    `dataset.json` names no fold that there is.
    """
    recorded = run.read_json("dataset.json")
    argument = data or str(recorded.get("argument", ""))
    if not data and ("/" in argument or "\\" in argument) and not Path(argument).exists():
        raise RunError(f"{argument}: the run's data set is no longer there; say where it is with --data DATASET")
    seed = int(recorded.get("split_seed", 0))
    # Folds are dealt from train as well, where an image that can't be decoded was left out before.
    decode = {Split.TRAIN, Split.VAL} if recorded.get("folds") else {Split.VAL}
    prepared = prepare(
        argument, seed=seed, skip_bad=bool(recorded.get("skipped")), decode=frozenset(decode), track=track
    )
    if prepared.fingerprint != recorded.get("fingerprint"):
        raise DataError(
            f"{argument}: the images are not the ones that {run.path} was trained on (fingerprints differ);"
            " parity is proven on its own validation images: say where they are with --data DATASET"
        )
    split = _as_trained(prepared, recorded, seed=seed, run=run)
    samples = split.of(Split.VAL)
    return Validation(
        samples,
        [conform(read_image(sample.path), info.input) for sample in samples],
        targets(samples, list(info.labels), info.task) > 0,
        prepared.card.conditions or info.provenance.get("conditions") or usual_suite(info.input.channels),
        _training(split.of(Split.TRAIN), info),
    )


def _training(samples: Sequence[Sample], info: ModelInfo) -> Training:
    """Return at most `MOST_TRAINING` of the training images, evenly over their order within each class."""
    labels = (
        np.zeros(len(samples), np.int64)
        if info.task is Task.MULTILABEL
        else targets(samples, list(info.labels), info.task).argmax(axis=1)
    )
    share = MOST_TRAINING // max(1, len(np.unique(labels)))
    taken = np.sort(
        np.concatenate(
            [evenly(np.flatnonzero(labels == label), share) for label in np.unique(labels)] or [labels]
        ).astype(np.int64)
    )
    return Training([samples[place].path for place in taken], labels[taken])


def evenly(places: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Return at most `count` of some places, evenly over their order, the first and the last among them."""
    return places[np.unique(np.linspace(0, len(places) - 1, min(count, len(places))).astype(int))]


def _as_trained(prepared: Prepared, recorded: Json, *, seed: int, run: RunFolder) -> Prepared:
    """Return the data set with the splits of the run: those prepared, or the fold that `dataset.json` names."""
    count, fold = recorded.get("folds"), recorded.get("fold")
    if not count:
        return prepared
    if not (isinstance(count, int) and isinstance(fold, int) and 1 <= fold <= count):
        raise RunError(f"{run.path / 'dataset.json'}: there is no fold {fold!r} of {count!r}; train again")
    return folds(prepared, count, seed=seed)[fold - 1]
