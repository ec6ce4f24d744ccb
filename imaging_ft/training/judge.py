"""What a model is worth on validation: clean, under the recipe as it is, and under each condition family alone.

Clean validation is soon perfect on small sets, and says nothing of what a model does when the light is bad. So the
validation images are changed once and for all, each family by itself, and every choice of a run (statistics, epoch,
interpolation, odds of augmentation) is made on all of them. The test split has no say in any.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from imaging_ft.augment.recipe import Augment, Recipe
from imaging_ft.data import Images
from imaging_ft.models.factory import Classifier
from imaging_ft.training.engine import Engine
from imaging_ft.training.images import augmented_copies, joined
from imaging_ft.training.metrics import Score, mean_score, score
from imaging_ft.types import Floats, Ints, Json, Levels, Task

AS_TRAINED = "recipe"
"""The recipe as it is, beside the families by their names."""
IMAGES = 800
"""About so many images are changed in all, shared out among the families …"""
LEAST = 40
"""… but at least so many for each, where there are so many."""


@dataclass(frozen=True)
class Judged:
    """Scores on clean validation and under each condition family."""

    clean: Score
    conditions: Mapping[str, Score]
    """By family; `recipe` is the whole recipe as training draws it."""

    @property
    def mean(self) -> Score:
        """The mean over clean and every family."""
        return mean_score([self.clean, *self.conditions.values()])

    @property
    def worst(self) -> tuple[str, float]:
        """The family (or `clean`) with the lowest balanced accuracy that is defined, and that accuracy."""
        every = {"clean": self.clean, **self.conditions}
        defined = {name: found.balanced_accuracy for name, found in every.items()}
        defined = {name: value for name, value in defined.items() if not math.isnan(value)} or defined
        name = min(defined, key=lambda name: round(defined[name], 9))
        return name, defined[name]

    def value(self, metric: str) -> float:
        """Return what is to be large: a metric's mean over clean and conditions, or the worst condition."""
        if metric == "worst_condition":
            return -math.inf if math.isnan(self.worst[1]) else round(self.worst[1], 9)
        return self.mean.value(metric)

    def beats(self, other: "Judged", metric: str) -> bool:
        """Return whether this is better: by a metric, then by the mean loss."""
        mine, theirs = (self.value(metric), -self.mean.loss), (other.value(metric), -other.mean.loss)
        return mine > theirs

    def as_json(self) -> Json:
        """Return the scores by name."""
        return {
            "clean": self.clean.as_json(),
            "conditions": {name: found.as_json() for name, found in self.conditions.items()},
        }

    @classmethod
    def from_json(cls, values: Json) -> "Judged":
        """Return the scores that `as_json` gave."""
        conditions = {name: Score.from_json(found) for name, found in values["conditions"].items()}
        return cls(Score.from_json(values["clean"]), conditions)


@dataclass(frozen=True)
class Judge:
    """The validation images, as they are and changed, and what they are scored as."""

    images: Images
    """Clean first, then the parts in the order of `parts`."""
    clean: int
    parts: Mapping[str, int]
    """How many images each family has."""
    task: Task
    batch_size: int

    def __call__(self, engine: Engine, model: Classifier) -> Judged:
        """Return what a model is worth; in a team, every process gets the same."""
        return self.of_logits(engine.predict_images(model, self.images, self.batch_size))

    def of_logits(self, logits: Floats) -> Judged:
        """Return the scores of logits [n, classes] for `images`."""
        found: dict[str, Score] = {}
        start = self.clean
        for name, count in self.parts.items():
            chosen = slice(start, start + count)
            found[name] = score(logits[chosen], self.images.targets[chosen], task=self.task)
            start += count
        return Judged(score(logits[: self.clean], self.images.targets[: self.clean], task=self.task), found)

    @property
    def families(self) -> tuple[str, ...]:
        """The condition families of the recipe that can be drawn on these images."""
        return tuple(name for name in self.parts if name != AS_TRAINED)

    @property
    def clean_images(self) -> Images:
        """The validation images as they are."""
        return Images(self.images.levels[: self.clean], self.images.targets[: self.clean])


def make_judge(val: Images, recipe: Recipe, clutter: Levels, *, task: Task, batch_size: int, seed: int) -> Judge:
    """Return the judge of a validation split under a recipe's condition families."""
    parts = dict(_parts(val, recipe, clutter, seed))
    counts = {name: len(part) for name, part in parts.items()}
    return Judge(joined([val, *parts.values()]), len(val), counts, task, batch_size)


def _parts(val: Images, recipe: Recipe, clutter: Levels, seed: int) -> Iterator[tuple[str, Images]]:
    if not recipe.transforms:
        return
    families = [name for name in recipe.families(channels=val.levels.shape[-1]) if name != "clutter" or len(clutter)]
    count = min(len(val), max(LEAST, IMAGES // (1 + len(families))))
    for draw, name in enumerate([AS_TRAINED, *families]):
        augment: Augment = recipe.build(clutter, only=None if name == AS_TRAINED else name)
        chosen = val.take(spread(val, count, seed=seed + draw))
        yield name, augmented_copies(chosen, augment, copies=1, seed=seed, draw=-1 - draw)


def spread(images: Images, count: int, *, seed: int) -> Ints:
    """Return about `count` positions, sorted, the same share of each class; at least one of each."""
    if count >= len(images):
        return np.arange(len(images))
    generator = np.random.default_rng(seed)
    labels = images.labels
    chosen: list[Ints] = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        chosen.append(generator.permutation(members)[: max(1, round(count * len(members) / len(images)))])
    return np.sort(np.concatenate(chosen))
