"""What the phases of one training share, and the phases themselves: probe, fine-tuning."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from imaging_ft.augment.recipe import Augment, Recipe
from imaging_ft.data import Images, Prepared
from imaging_ft.models.factory import Classifier
from imaging_ft.training.batchnorm import reestimate
from imaging_ft.training.engine import Engine
from imaging_ft.training.fit import Epoch, NormChoice, Trainer, Validation, choose_batch_norm
from imaging_ft.training.images import Batch, TrainingBatches, augmented_batches, clean_batches
from imaging_ft.training.metrics import Score
from imaging_ft.training.probe import Probe, fit_probe
from imaging_ft.training.run import RunFolder, plain, save_weights
from imaging_ft.training.settings import TrainSettings
from imaging_ft.types import Json, Track

Say = Callable[[str], None]

PROBE_IMAGES = 2000
"""The probe sees augmented copies of the training images, about so many in all …"""
MAX_COPIES = 4
"""… but at least one and at most this many of each."""


def copies_of(images: Images, recipe: Recipe, *, about: int) -> int:
    """Return how many augmented copies of each image make about so many images; none if the recipe is empty."""
    return min(MAX_COPIES, max(1, about // len(images))) if recipe.transforms else 0


@dataclass(frozen=True)
class Job:
    """One training: its settings, its images, its model and where it goes."""

    settings: TrainSettings
    data: Prepared
    recipe: Recipe
    augment: Augment
    run: RunFolder
    engine: Engine
    model: Classifier
    train: Images
    val: Images
    judged: Validation
    """Validation clean and augmented."""
    workers: int
    track: Track
    say: Say

    def batches(self, images: Images) -> Iterator[Batch]:
        """Yield images as clean batches of the run's size."""
        return clean_batches(images, self.settings.batch_size)


@dataclass
class Best:
    """The best model so far, by validation; the linear probe is the first."""

    model: Classifier
    clean: Score
    score: Score
    epoch: int = 0
    rows: list[Json] = field(default_factory=list[Json])
    """`history.csv`."""
    interrupted: bool = False


def start_from_probe(job: Job) -> Probe:
    """Give the model batch-normalisation statistics of these images and a head fitted on its frozen features.

    Both see augmented copies of the training images too: fine-tuning, which starts here, sees nothing else.
    """
    size, seed = job.settings.batch_size, job.settings.seed
    copies = copies_of(job.train, job.recipe, about=PROBE_IMAGES)
    order = np.random.default_rng(seed).permutation(len(job.train))
    reestimate(
        job.engine,
        job.model,
        augmented_batches(job.train, job.augment, size, order=order, copies=min(copies, 1), seed=seed),
    )
    train = augmented_batches(job.train, job.augment, size, order=order, copies=copies, seed=seed)
    probe = fit_probe(job.engine, job.model, train, job.batches(job.val), classes=len(job.data.labels))
    probe.install(job.model)
    return probe


def fine_tune(job: Job) -> tuple[Best, NormChoice]:
    """Fine-tune from the probe and return the best model, with how batch normalisation was treated.

    A KeyboardInterrupt ends it and keeps the best so far.
    """
    clean, score = job.judged.score(job.engine, job.model, job.settings.batch_size)
    best = Best(copy.deepcopy(job.model).eval(), clean, score)
    _record(job, best, Epoch(0, float("nan"), 0.0, clean, score, 0.0), job.model)
    batches = TrainingBatches(
        job.train, job.augment, batch_size=job.settings.batch_size, seed=job.settings.seed, workers=job.workers
    )
    choice = NormChoice(frozen=True, trials={}, why="no epoch was trained")
    try:
        if job.settings.epochs:
            choice = choose_batch_norm(job.engine, job.model, batches, job.judged, job.settings, job.track)
            job.say(f"batch norm statistics: {describe(choice)}")
        trainer = Trainer(job.engine, job.model, batches, job.settings, frozen=choice.frozen)
        for number in range(1, job.settings.epochs + 1):
            epoch = trainer.epoch(number, job.judged, job.track)
            _record(job, best, epoch, trainer.averaged)
            job.say(_line(epoch, best))
    except KeyboardInterrupt:
        best.interrupted = True
        job.say(f"stopped; the best model so far (epoch {best.epoch}) is kept")
    return best, choice


def describe(choice: NormChoice) -> str:
    """Return a batch-normalisation choice in words."""
    trials = ", ".join(f"{name} {trial.balanced_accuracy:.3f}" for name, trial in choice.trials.items())
    return f"{'frozen' if choice.frozen else 'trained'} ({choice.why}{': ' + trials if trials else ''})"


def _record(job: Job, best: Best, epoch: Epoch, model: Classifier) -> None:
    """Add an epoch to the history, and keep its weights where they are the best so far."""
    best.rows.append(
        plain(
            {
                "epoch": epoch.number,
                "phase": "fine-tune" if epoch.number else "probe",
                "learning_rate": epoch.learning_rate,
                "train_loss": epoch.train_loss if epoch.number else None,
                "val_loss": epoch.clean.loss,
                "val_accuracy": epoch.clean.accuracy,
                "val_balanced_accuracy": epoch.clean.balanced_accuracy,
                "judged_loss": epoch.score.loss,
                "judged_balanced_accuracy": epoch.score.balanced_accuracy,
                "seconds": epoch.seconds,
            }
        )
    )
    job.run.write_history(best.rows)
    names = ["last"]
    if epoch.number == 0 or epoch.score.beats(best.score):
        best.model = copy.deepcopy(model).eval()
        best.clean, best.score, best.epoch = epoch.clean, epoch.score, epoch.number
        names.append("best")
    for name in names:
        save_weights(job.run.checkpoints / f"{name}.safetensors", model.state_dict())
        job.run.write_json(f"checkpoints/{name}.json", best.rows[-1])


def _line(epoch: Epoch, best: Best) -> str:
    mark = "  best" if best.epoch == epoch.number else ""
    return (
        f"epoch {epoch.number:>3}  loss {epoch.train_loss:.3f}  validation {epoch.clean.balanced_accuracy:.3f}"
        f"  augmented too {epoch.score.balanced_accuracy:.3f}  {epoch.seconds:.0f} s{mark}"
    )
