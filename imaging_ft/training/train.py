"""Fine-tuning from a data set to a run folder: check, probe, fine-tune, calibrate, write."""

import os
from pathlib import Path

import numpy as np
import torch

from imaging_ft.augment.recipe import Augment, Recipe, load_recipe
from imaging_ft.config import to_yaml
from imaging_ft.data import Images, Prepared, load_images, prepare
from imaging_ft.errors import DataError
from imaging_ft.models.factory import Classifier, create
from imaging_ft.preprocess import InputSpec
from imaging_ft.training.calibrate import fit_temperature
from imaging_ft.training.engine import make_engine
from imaging_ft.training.fit import Validation
from imaging_ft.training.images import clean_batches, with_augmented
from imaging_ft.training.job import Job, Say, copies_of, fine_tune, start_from_probe
from imaging_ft.training.plot import write_history_plot
from imaging_ft.training.provenance import provenance
from imaging_ft.training.run import ModelInfo, RunFolder, write_text
from imaging_ft.training.settings import TrainSettings
from imaging_ft.training.summary import Clock, summarise
from imaging_ft.types import Json, Split, Track, silent

JUDGED_IMAGES = 400
"""Validation is augmented to about so many images, with at least one copy and at most `job.MAX_COPIES` of each."""


def train(
    dataset: str,
    out: Path,
    settings: TrainSettings | None = None,
    *,
    skip_bad: bool = False,
    overwrite: bool = False,
    track: Track = silent,
    say: Say = lambda _: None,
) -> Json:
    """Fine-tune a model on a data set and return what `summary.json` holds.

    `dataset` is any form of the DATASET argument; `out` becomes the run folder. A KeyboardInterrupt while
    epochs run ends the training and keeps the best model so far. Raises DataError, ConfigError, WeightsError,
    DeviceError or RunError.
    """
    settings = settings or TrainSettings()
    clock = Clock()
    torch.manual_seed(settings.seed)
    # What is quick to get wrong is looked at first, and the run folder is made last.
    recipe = load_recipe(settings.augmentation) if settings.augmentation else None
    model = create(settings.model, classes=2, weights=settings.weights)
    RunFolder.check_free(out, overwrite=overwrite)
    clock.lap("model")
    data = prepare(dataset, seed=settings.split_seed, skip_bad=skip_bad, track=track)
    for split in (Split.TRAIN, Split.VAL):
        if not data.of(split):
            raise DataError(f"{data.card.name}: no {split} images; add some, or leave the split column out")
    recipe = recipe or load_recipe(data.card.augmentation or _recipe_for(data))
    settings = settings.model_copy(update={"augmentation": settings.augmentation or recipe.name})
    model.reset_head(len(data.labels))
    spec = _input_spec(data, settings, model)
    clock.lap("check")

    run = RunFolder.create(out, overwrite=overwrite)
    write_text(run.path / "config.yaml", to_yaml(settings))
    run.write_json("dataset.json", {**data.summary(), "argument": _lasting(dataset), "split_seed": settings.split_seed})
    for warning in data.warnings:
        say(f"warning: {warning}")
    train_images = load_images(data, data.of(Split.TRAIN), spec, track=track, what="loading train")
    val_images = load_images(data, data.of(Split.VAL), spec, track=track, what="loading val")
    clock.lap("load")

    job = _job(settings, data, recipe, run, model, train_images, val_images, track, say)
    clock.lap("measure")
    probe = start_from_probe(job)
    say(f"linear probe: validation balanced accuracy {probe.score.balanced_accuracy:.3f}")
    clock.lap("probe")
    best, choice = fine_tune(job)
    clock.lap("fine_tune")
    calibration = fit_temperature(*job.engine.predict(best.model, job.batches(val_images)))
    if calibration.note:
        say(f"warning: {calibration.note}")
    clock.lap("calibrate")

    summary = summarise(job, probe, best, choice, calibration, clock)
    info = ModelInfo(
        backbone=model.name,
        task=data.card.task,
        labels=data.labels,
        input=spec,
        temperature=calibration.temperature,
        thresholds=dict.fromkeys(data.labels, 0.5),
        metrics=summary["validation"],
        provenance=provenance(settings, data, recipe),
        intended_use=data.card.intended_use,
    )
    run.write_model(best.model.cpu(), info)
    run.write_json("summary.json", summary)
    write_history_plot(best.rows, run.path / "history.png")
    return summary


def _job(
    settings: TrainSettings,
    data: Prepared,
    recipe: Recipe,
    run: RunFolder,
    model: Classifier,
    train_images: Images,
    val_images: Images,
    track: Track,
    say: Say,
) -> Job:
    levels, _ = next(clean_batches(train_images, min(8, settings.batch_size)))
    engine = make_engine(model, levels, device=settings.device, precision=settings.precision, classes=len(data.labels))
    speeds = ", ".join(f"{name} {speed:.0f}/s" for name, speed in engine.speeds.items())
    measured = f" (measured: {speeds})" if speeds else ""
    say(f"{model.name} at {settings.size}×{settings.size} on {engine.fabric.device.type}, {engine.mode}{measured}")
    cores = os.cpu_count() or 1
    workers = settings.workers if settings.workers is not None else (0 if cores <= 4 else min(8, cores - 1))
    augment = _augment(recipe, data, train_images, say)
    copies = copies_of(val_images, recipe, about=JUDGED_IMAGES)
    judged = with_augmented(val_images, augment, copies=copies, seed=settings.seed)
    return Job(
        settings=settings,
        data=data,
        recipe=recipe,
        augment=augment,
        run=run,
        engine=engine,
        model=engine.place(model),
        train=train_images,
        val=val_images,
        judged=Validation(judged, len(val_images)),
        workers=workers,
        track=track,
        say=say,
    )


def _augment(recipe: Recipe, data: Prepared, images: Images, say: Say) -> Augment:
    """Return the recipe's augmentation; what it lays over images are training images of the negative classes."""
    negative = [index for index, label in enumerate(data.labels) if label not in data.card.positive]
    clutter = images.levels[np.isin(images.labels, negative)] if data.card.positive else images.levels[:0]
    if recipe.lays_clutter and not len(clutter):
        say(f"warning: recipe {recipe.name} lays no clutter: the card names no positive classes, or no others")
    return recipe.build(clutter)


def _recipe_for(data: Prepared) -> str:
    """Return the recipe for images that no card speaks of: gray is taken for a radiograph, colour for a camera's."""
    return "camera" if data.image.channels == 3 else "radiograph"


def _lasting(dataset: str) -> str:
    """Return a DATASET argument that still holds when the working directory has changed."""
    path = Path(dataset)
    return str(path.resolve()) if path.exists() else dataset


def _input_spec(data: Prepared, settings: TrainSettings, model: Classifier) -> InputSpec:
    mean, std = model.normalisation
    values = {
        "channels": data.image.channels,
        "dtype": f"uint{data.image.bits}",
        "height": settings.size,
        "width": settings.size,
        "window": data.image.window,
        "resize": settings.resize,
        "mean": mean,
        "std": std,
    }
    return InputSpec.checked(values, where=f"{data.card.name}: image")
