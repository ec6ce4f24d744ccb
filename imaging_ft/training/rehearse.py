"""Before a long training: one batch through everything, with a picture; and the learning-rate range test."""

import copy
from pathlib import Path

import numpy as np

from imaging_ft.errors import RunError
from imaging_ft.training.batchnorm import norms
from imaging_ft.training.dry_run import ROWS, target_title, write_samples
from imaging_ft.training.job import Job, Say
from imaging_ft.training.lr_finder import STEPS, RateSearch, find_rate, write_rate_plot
from imaging_ft.training.mixing import Mixer
from imaging_ft.training.run import try_to_write
from imaging_ft.training.settings import TrainSettings
from imaging_ft.training.setup import open_job
from imaging_ft.training.start import starts
from imaging_ft.training.trainer import NotFinite, Trainer
from imaging_ft.training.trials import endless
from imaging_ft.types import Json, Track, silent

VERSIONS = 4
"""Augmented versions of each image in the picture."""
_PEAK = 1.0


def dry_run(
    dataset: str,
    out: Path,
    settings: TrainSettings,
    *,
    skip_bad: bool = False,
    track: Track = silent,
    say: Say = lambda _: None,
) -> Json:
    """Pass one batch through everything that a training does, and return what was seen; no run folder is made.

    `OUT.samples.png` shows images as they are and as training sees them. Raises what `train` raises.
    """
    picture = _beside(out, "samples")
    job = open_job(dataset, out, settings, skip_bad=skip_bad, dry=True, track=track, say=say).job
    batches = job.batches()
    trainer = Trainer(job.engine, job.model, batches, job.settings, job.objective, frozen=not norms(job.model))
    batch = next(batches.epoch(1))
    try:
        loss = trainer.step(batch, 0, batches.size_of(0))
    except NotFinite as error:
        raise RunError(
            "the loss of the first batch is no number; look at the weights, or --set precision=fp32"
        ) from error
    judged = job.judge(job.engine, trainer.averaged)
    _draw(job, picture)
    return {
        "picture": str(picture),
        "model": job.model.name,
        "recipe": job.recipe.name,
        "families": list(job.families),
        "images": {"train": len(job.train), "val": job.judge.clean, "judged": len(job.judge.images)},
        "batch": list(batch[0].shape),
        "steps_an_epoch": len(batches),
        "epochs": job.settings.epochs,
        "loss": loss,
        "validation_accuracy": judged.clean.accuracy,
        "trainable_share": trainer.trainable_share,
        "mode": job.engine.mode,
    }


def rate_search(
    dataset: str,
    out: Path,
    settings: TrainSettings,
    *,
    skip_bad: bool = False,
    track: Track = silent,
    say: Say = lambda _: None,
) -> tuple[RateSearch, Path]:
    """Return a range test of the head's learning rate from where fine-tuning starts, and its plot `OUT.rates.png`.

    Raises what `train` raises.
    """
    plot = _beside(out, "rates")
    job = open_job(dataset, out, settings, skip_bad=skip_bad, dry=True, track=track, say=say).job
    job.model.load_state_dict(starts(job)[0].state)
    flat = job.settings.model_copy(
        update={"learning_rate": _PEAK, "annealing": "constant", "warmup": 0.0, "unfreeze_over": 0.0, "average": False}
    )
    batches = job.batches()
    model = copy.deepcopy(job.model)
    trainer = Trainer(job.engine, model, batches, flat, job.objective, frozen=True, steps=STEPS)
    feed = endless(batches)
    numbers = iter(job.track(range(STEPS), "rates", STEPS))

    def step(rate: float) -> float:
        trainer.factor = rate / _PEAK
        batch, images = next(feed)
        try:
            return trainer.step(batch, next(numbers, STEPS - 1), images)
        except NotFinite:
            return float("nan")

    found = find_rate(step)
    write_rate_plot(found, plot)
    return found, plot


def _beside(out: Path, what: str) -> Path:
    """Return `OUT.<what>.png`, its folder made; raises RunError where it can't be written, before minutes of work."""
    if out.name in {"", ".."}:
        raise RunError(f"--out {out}: has no name to call a picture by; write for example --out runs/a")
    path = out.with_name(f"{out.name}.{what}.png")
    try_to_write(path, into=path.parent)
    return path


def _draw(job: Job, path: Path) -> None:
    """Write the picture of some training images, of every class in turn, and their samples."""
    s, labels = job.settings, job.data.labels
    mixer = Mixer(job.train, job.augment(job.odds), mixup=s.mixup, augmix=s.augmix)
    chosen = _some_of_each(job)
    made = [[mixer(index, 1000 * index + version) for version in range(VERSIONS)] for index in chosen]
    write_samples(
        path,
        np.stack([job.train.levels[index] for index in chosen]),
        np.stack([np.stack([levels for levels, _ in row]) for row in made]),
        [target_title(job.train.targets[index], labels) for index in chosen],
        captions=[[target_title(target, labels) for _, target in row] for row in made] if s.mixup else None,
    )


def _some_of_each(job: Job) -> list[int]:
    """Return positions of training images: the first of each class, then the second, and so on."""
    labels = job.train.labels
    by_class = [np.flatnonzero(labels == label).tolist() for label in np.unique(labels)]
    turns = [members[turn] for turn in range(ROWS) for members in by_class if turn < len(members)]
    return turns[:ROWS]
