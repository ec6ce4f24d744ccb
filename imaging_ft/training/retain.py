"""Keeping what was learned: an earlier site's images, on which accuracy must not fall."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from imaging_ft.data import Images, Prepared, Sample, load_images, prepare
from imaging_ft.errors import DataError
from imaging_ft.models.factory import Classifier
from imaging_ft.preprocess import InputSpec
from imaging_ft.training.engine import Engine
from imaging_ft.training.metrics import Score, decides, score
from imaging_ft.types import Json, Split, Task, Track

Say = Callable[[str], None]


@dataclass(frozen=True)
class Retained:
    """The images of an earlier data set, in the labels of the new one."""

    name: str
    fingerprint: str
    hashes: frozenset[str]
    """The SHA-256 of the files of `train` and `val`."""
    train: Images
    """What is replayed."""
    val: Images
    """What is held: the interpolation is chosen so that its accuracy falls by no more than is allowed."""
    test: Images | None
    """What says, without having been chosen on, what was forgotten; None where there is none that could."""
    task: Task

    def score(self, engine: Engine, model: Classifier, batch_size: int) -> Score:
        """Return a model's score on the retained validation images."""
        return self._score(engine, model, batch_size, self.val)

    def scores(self, engine: Engine, model: Classifier, batch_size: int) -> Json:
        """Return a model's scores on retained validation and, where there is one, test."""
        found: Json = {"val": self._score(engine, model, batch_size, self.val).as_json()}
        if self.test is not None:
            found["test"] = self._score(engine, model, batch_size, self.test).as_json()
        return found

    def _score(self, engine: Engine, model: Classifier, batch_size: int, images: Images) -> Score:
        return score(engine.predict_images(model, images, batch_size), images.targets, task=self.task)


def load_retained(
    dataset: str, data: Prepared, spec: InputSpec, *, split_seed: int, skip_bad: bool, track: Track, say: Say
) -> Retained:
    """Return an earlier data set's images for a training on another one.

    What would be met on both sides is left out, with a warning: of the replayed images those that validate or test the
    new model, of the held ones those that it trains on. Raises DataError where the labels aren't among the new one's,
    the images are stored otherwise, or validation can't say whether accuracy falls.
    """
    earlier = prepare(dataset, seed=split_seed, skip_bad=skip_bad, track=track)
    where = f"retain {earlier.card.name}"
    unknown = [label for label in earlier.labels if label not in data.labels]
    if unknown:
        raise DataError(
            f"{where}: label {unknown[0]!r} is not among those of {data.card.name} ({', '.join(data.labels)});"
            " name the same classes alike"
        )
    if earlier.card.task != data.card.task:
        raise DataError(f"{where}: a {earlier.card.task} task, but {data.card.name} is {data.card.task}")
    if earlier.image != data.image:
        raise DataError(
            f"{where}: {_stored(earlier)}, but {data.card.name} has {_stored(data)}; say in its card what the images"
            " are to be read as"
        )
    kept = {split: _apart(earlier, split, data) for split in Split}
    left_out = sum(len(earlier.of(split)) - len(samples) for split, samples in kept.items())
    if left_out:
        say(
            f"warning: {where}: {left_out} images left out that stand on the other side in {data.card.name}: validated"
            " or tested with there, or trained on"
        )
    alike = replace(earlier, labels=data.labels)
    train, val, test = (
        load_images(alike, samples, spec, track=track, what=f"loading retained {split}")
        for split, samples in kept.items()
    )
    if not len(val):
        raise DataError(f"{where}: no val images to hold the accuracy of")
    if not decides(val.targets, task=data.card.task):
        raise DataError(f"{where}: no class has val images both with and without it, so no accuracy can be held")
    said = test if len(test) and decides(test.targets, task=data.card.task) else None
    hashes = frozenset(earlier.hashes[sample.id] for sample in (*kept[Split.TRAIN], *kept[Split.VAL]))
    return Retained(earlier.card.name, earlier.fingerprint, hashes, train, val, said, data.card.task)


def _apart(earlier: Prepared, split: Split, data: Prepared) -> tuple[Sample, ...]:
    """Return the samples of a retained split that aren't on the other side in the new data."""
    other = (Split.VAL, Split.TEST) if split is Split.TRAIN else (Split.TRAIN,)
    taken = {data.hashes[sample.id] for side in other for sample in data.of(side)}
    return tuple(sample for sample in earlier.of(split) if earlier.hashes[sample.id] not in taken)


def _stored(data: Prepared) -> str:
    image = data.image
    window = f" with a window {list(image.window)}" if image.window else ""
    return f"{image.channels} channels of {image.bits} bits{window}"
