"""The fine-tuning loop: optimiser, schedule, moving average, one epoch after the other."""

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from imaging_ft.data import Images
from imaging_ft.errors import RunError
from imaging_ft.models.factory import Classifier
from imaging_ft.models.stages import parameter_depths
from imaging_ft.training.batchnorm import norms, train_mode
from imaging_ft.training.engine import Engine
from imaging_ft.training.images import Batch, TrainingBatches, clean_batches
from imaging_ft.training.metrics import Score, score
from imaging_ft.training.settings import TrainSettings
from imaging_ft.types import Track

TRIAL_STEPS = 20


@dataclass(frozen=True)
class Epoch:
    """What one epoch did."""

    number: int
    train_loss: float
    learning_rate: float
    """The head's rate at the epoch's end."""
    clean: Score
    """On the validation images as they are."""
    score: Score
    """On the validation images as they are and augmented: what the best epoch is chosen by."""
    seconds: float


@dataclass(frozen=True)
class Validation:
    """The validation images, as they are and augmented once and for all.

    Clean validation is soon perfect on small sets; what an epoch is worth then shows only under change.
    """

    images: Images
    """The clean images first."""
    clean: int
    """How many of the images are clean."""

    def score(self, engine: Engine, model: Classifier, batch_size: int) -> tuple[Score, Score]:
        """Return a model's score on the clean images, and on all."""
        logits, labels = engine.predict(model, clean_batches(self.images, batch_size))
        return score(logits[: self.clean], labels[: self.clean]), score(logits, labels)


@dataclass(frozen=True)
class NormChoice:
    """How batch-normalisation statistics are treated, and what decided it."""

    frozen: bool
    trials: dict[str, Score]
    """Validation after a short trial, by choice; empty where nothing was compared."""
    why: str


class Trainer:
    """Fine-tunes one model; holds what goes from one epoch to the next."""

    def __init__(
        self, engine: Engine, model: Classifier, batches: TrainingBatches, settings: TrainSettings, *, frozen: bool
    ) -> None:
        self._engine = engine
        self._model = model
        self._batches = batches
        self._settings = settings
        self._frozen = frozen
        self._optimiser = _optimiser(model, settings)
        steps = max(1, settings.epochs * len(batches))
        self._schedule = LambdaLR(self._optimiser, lambda step: _rate(step, steps, settings.warmup))
        self._average = MovingAverage(model, steps_per_epoch=len(batches))
        self._loss = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)

    @property
    def averaged(self) -> Classifier:
        """The moving average of the weights: what is validated and kept."""
        return self._average.model

    def epoch(self, number: int, val: Validation, track: Track) -> Epoch:
        """Train one epoch and validate the moving average.

        Raises RunError where the loss is no longer a number.
        """
        start = time.perf_counter()
        what = f"epoch {number}/{self._settings.epochs}"
        losses = [self._step(batch) for batch in track(self._batches.epoch(number), what, len(self._batches))]
        clean, every = val.score(self._engine, self.averaged, self._settings.batch_size)
        rate = max(group["lr"] for group in self._optimiser.param_groups)
        return Epoch(number, sum(losses) / len(losses), rate, clean, every, time.perf_counter() - start)

    def trial(self, steps: int, val: Validation, track: Track, what: str) -> Score:
        """Train a few steps and validate the weights themselves."""
        for step, batch in enumerate(track(islice(self._endless(), steps), what, steps)):
            for group in self._optimiser.param_groups:  # a warm-up of its own: this is a short look, not a run
                group["lr"] = group["initial_lr"] * (step + 1) / steps
            self._backward(batch)
        return val.score(self._engine, self._model, self._settings.batch_size)[1]

    def _endless(self) -> Iterator[Batch]:
        for number in count():
            yield from self._batches.epoch(number)

    def _step(self, batch: Batch) -> float:
        loss = self._backward(batch)
        self._schedule.step()
        self._average.update(self._model)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise RunError(
                "the training loss is no longer a number; lower --set learning_rate=…, or --set precision=fp32"
            )
        return value

    def _backward(self, batch: Batch) -> Tensor:
        levels, targets = batch
        train_mode(self._model, freeze_statistics=self._frozen)
        with self._engine.fabric.autocast():
            logits = self._model(self._engine.to_device(levels))
            loss = self._loss(logits.float(), targets.to(logits.device))
        self._optimiser.zero_grad(set_to_none=True)
        self._engine.fabric.backward(loss)
        nn.utils.clip_grad_norm_(self._model.parameters(), self._settings.clip)
        self._optimiser.step()
        return loss


class MovingAverage:
    """An exponential moving average of a model's weights and statistics.

    Its decay fits the run: min(0.999, 1 − 1 / (2 · steps per epoch)), a memory of about two epochs.
    """

    def __init__(self, model: Classifier, *, steps_per_epoch: int) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
        self.decay = min(0.999, 1 - 1 / (2 * max(1, steps_per_epoch)))

    @torch.no_grad()
    def update(self, model: Classifier) -> None:
        """Take in the weights after a step."""
        current = model.state_dict()
        for name, averaged in self.model.state_dict().items():
            if averaged.is_floating_point():
                averaged.lerp_(current[name], 1 - self.decay)
            else:
                averaged.copy_(current[name])


def choose_batch_norm(
    engine: Engine, model: Classifier, batches: TrainingBatches, val: Validation, settings: TrainSettings, track: Track
) -> NormChoice:
    """Return whether statistics are frozen or trained: as set, else whichever validates better in a trial.

    The model is left as it was.
    """
    if not norms(model):
        return NormChoice(frozen=True, trials={}, why="the backbone has no batch normalisation")
    if settings.batch_norm != "auto":
        return NormChoice(frozen=settings.batch_norm == "frozen", trials={}, why="as set")
    steps = min(TRIAL_STEPS, max(1, settings.epochs * len(batches)))
    trials: dict[str, Score] = {}
    for name in ("frozen", "trained"):
        copied = copy.deepcopy(model)
        trainer = Trainer(engine, copied, batches, settings, frozen=name == "frozen")
        trials[name] = trainer.trial(steps, val, track, f"batch norm {name}?")
    frozen = not trials["trained"].beats(trials["frozen"])
    return NormChoice(frozen, trials, f"validated better after {steps} steps")


def _optimiser(model: Classifier, settings: TrainSettings) -> AdamW:
    """Return AdamW with a group for each stage and kind; biases and norms are not decayed."""
    depths, top = parameter_depths(model)
    grouped: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        grouped.setdefault((depths[name], parameter.ndim > 1), []).append(parameter)
    groups = [
        {
            "params": parameters,
            "lr": settings.learning_rate * settings.layer_decay ** (top - depth),
            "weight_decay": settings.weight_decay if decayed else 0.0,
        }
        for (depth, decayed), parameters in grouped.items()
    ]
    return AdamW(groups)


def _rate(step: int, steps: int, warmup: float) -> float:
    """Return the share of the peak rate: linear warm-up, then half a cosine to zero."""
    rising = round(steps * warmup)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))
