"""Keeping what was learned: an earlier site's images, on which accuracy must not fall."""

from dataclasses import dataclass, replace

from imaging_ft.data import Images, Prepared, load_images, prepare
from imaging_ft.errors import DataError
from imaging_ft.models.factory import Classifier
from imaging_ft.preprocess import InputSpec
from imaging_ft.training.engine import Engine
from imaging_ft.training.metrics import Score, score
from imaging_ft.types import Json, Split, Task, Track


@dataclass(frozen=True)
class Retained:
    """The images of an earlier data set, in the labels of the new one."""

    name: str
    train: Images
    """What is replayed."""
    val: Images
    """What is held: the interpolation is chosen so that its accuracy falls by no more than is allowed."""
    test: Images | None
    """What says, without having been chosen on, what was forgotten."""
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


def load_retained(dataset: str, data: Prepared, spec: InputSpec, *, split_seed: int, track: Track) -> Retained:
    """Return an earlier data set's images for a training on another one.

    Raises DataError where its labels aren't among the new one's, or its images are stored otherwise.
    """
    earlier = prepare(dataset, seed=split_seed, track=track)
    where = f"retain {earlier.card.name}"
    unknown = [label for label in earlier.labels if label not in data.labels]
    if unknown:
        raise DataError(
            f"{where}: label {unknown[0]!r} is not among those of {data.card.name} ({', '.join(data.labels)});"
            " name the same classes alike"
        )
    if earlier.card.task != data.card.task:
        raise DataError(f"{where}: a {earlier.card.task} task, but {data.card.name} is {data.card.task}")
    if (earlier.image.channels, earlier.image.bits) != (data.image.channels, data.image.bits):
        raise DataError(
            f"{where}: {earlier.image.channels} channels of {earlier.image.bits} bits, but {data.card.name} has"
            f" {data.image.channels} of {data.image.bits}; say in its card what the images are to be read as"
        )
    if not earlier.of(Split.VAL):
        raise DataError(f"{where}: no val images to hold the accuracy of")
    alike = replace(earlier, labels=data.labels)
    train, val, test = (
        load_images(alike, alike.of(split), spec, track=track, what=f"loading retained {split}") for split in Split
    )
    return Retained(earlier.card.name, train, val, test if len(test) else None, data.card.task)
