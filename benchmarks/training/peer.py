"""What every peer is given: the same images, weights, precision and measure as ours."""

import copy
import random
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image

from benchmarks.training.budget import Stopwatch, Trained
from benchmarks.training.frozen import Frozen
from benchmarks.training.plan import Options, Work
from imaging_ft.augment.recipe import Recipe, load_recipe
from imaging_ft.data import Images, input_spec, load_images
from imaging_ft.models.factory import Classifier, create
from imaging_ft.models.weights import EMBEDDED
from imaging_ft.preprocess import InputSpec
from imaging_ft.training.engine import Engine, make_engine
from imaging_ft.training.images import clean_batches
from imaging_ft.training.metrics import Score, score
from imaging_ft.types import Json, Split

BATCH = 32
_PREDICT_BATCH = 32


@dataclass(frozen=True)
class Peer:
    """The images in memory, and how the network runs."""

    frozen: Frozen
    recipe: Recipe
    """The card's; a peer takes from it only which conditions count as held out."""
    spec: InputSpec
    train: Images
    val: Images
    test: Images
    engine: Engine
    seed: int

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes in the model's order."""
        return self.frozen.data.labels

    def model(self) -> Classifier:
        """Return the pretrained network with a new head, placed; every source of randomness is seeded anew."""
        seed_everything(self.seed)
        return self.engine.place(create(EMBEDDED, classes=len(self.labels)))

    def score(self, model: Classifier, images: Images) -> Score:
        """Return a model's score on images as they are."""
        return score(*self.engine.predict(model, clean_batches(images, _PREDICT_BATCH)))


@dataclass
class Epochs:
    """Follows a training: the best epoch so far, and what every epoch reached."""

    peer: Peer
    watch: Stopwatch = field(default_factory=Stopwatch)
    curve: list[Json] = field(default_factory=list[Json])
    best: Classifier | None = None
    validation: Score | None = None

    def record(self, model: Classifier, validation: Score) -> None:
        """Note an epoch that has been validated, and keep a copy of the model where it is the best so far.

        The test score is a diagnostic: it's taken outside the time and decides nothing.
        """
        seconds = self.watch.seconds
        with self.watch.paused():
            self.curve.append(row(len(self.curve) + 1, seconds, validation, self.peer.score(model, self.peer.test)))
            if self.validation is None or validation.accuracy >= self.validation.accuracy:
                self.best, self.validation = copy.deepcopy(model).eval(), validation

    def trained(self, epochs: int) -> Trained:
        """Return what the training gave; raises RuntimeError where no epoch was recorded."""
        if self.best is None or self.validation is None:
            raise RuntimeError("no epoch was recorded")
        return Trained(self.best, self.validation, epochs, self.watch.seconds, self.curve)


def open_peer(frozen: Frozen, work: Work, options: Options) -> Peer:
    """Return the images of a work as levels [n, size, size, channels], and the fastest engine, as ours measures it."""
    data = frozen.data
    probe = create(EMBEDDED, classes=len(data.labels))
    mean, std = probe.normalisation
    spec = input_spec(data, height=options.size, width=options.size, mean=mean, std=std)
    train, val, test = (load_images(data, data.of(split), spec) for split in (Split.TRAIN, Split.VAL, Split.TEST))
    levels, _ = next(clean_batches(train, BATCH))
    engine = make_engine(probe, levels, device=options.device, precision=options.precision, classes=len(data.labels))
    suited = data.card.augmentation or ("camera" if data.image.channels == 3 else "radiograph")
    return Peer(frozen, load_recipe(suited), spec, train, val, test, engine, work.seed)


def pictures(images: Images) -> list[Image.Image]:
    """Return levels as RGB pictures, which the peers' augmentations take."""
    gray = images.levels.shape[-1] == 1
    levels = np.repeat(images.levels, 3, axis=-1) if gray else images.levels
    return [Image.fromarray(np.ascontiguousarray(picture)) for picture in levels]


def row(epoch: int, seconds: float, validation: Score, test: Score | None) -> Json:
    """Return a row of a curve."""
    found: Json = {
        "epoch": epoch,
        "seconds": seconds,
        "val_accuracy": validation.accuracy,
        "val_balanced_accuracy": validation.balanced_accuracy,
    }
    if test is not None:
        found |= {"test_accuracy": test.accuracy, "test_balanced_accuracy": test.balanced_accuracy}
    return found


def seed_everything(seed: int) -> None:
    """Seed the generators that the peers' libraries draw from."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # timm's RandAugment draws from NumPy's own generator
