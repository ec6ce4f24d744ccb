"""From a DATASET argument and settings to a job: everything is looked at before the first step is made."""

import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from imaging_ft.augment.conditions import usual_suite
from imaging_ft.augment.recipe import Recipe, load_recipe
from imaging_ft.config import to_yaml
from imaging_ft.data import Images, Prepared, input_spec, load_images, prepare
from imaging_ft.data.folds import folds
from imaging_ft.errors import ConfigError, DataError
from imaging_ft.models.earlier import EarlierRun, load_run
from imaging_ft.models.factory import NONE, Classifier, create
from imaging_ft.models.recompute import checkpoint_gradients
from imaging_ft.preprocess import InputSpec
from imaging_ft.training.checkpoint import Checkpoint, latest
from imaging_ft.training.checks import (
    as_earlier,
    compare_input,
    focus_of,
    refuse_other_data,
    refuse_other_start,
    refuse_own_input,
)
from imaging_ft.training.engine import make_engine
from imaging_ft.training.images import clean_batches
from imaging_ft.training.job import Job, Say
from imaging_ft.training.judge import make_judge
from imaging_ft.training.metrics import decides
from imaging_ft.training.objective import Objective, class_weights
from imaging_ft.training.odds import Focus
from imaging_ft.training.provenance import origin_of
from imaging_ft.training.retain import load_retained
from imaging_ft.training.run import RunFolder, write_text
from imaging_ft.training.settings import TrainSettings
from imaging_ft.training.team import is_lead, processes
from imaging_ft.training.tracking import open_tracker
from imaging_ft.types import Json, Levels, Split, Task, Track

_FEW_CORES = 4
_MOST_WORKERS = 8


@dataclass(frozen=True)
class Opened:
    """A job that is ready to begin, or to go on."""

    job: Job
    spec: InputSpec
    checkpoint: Checkpoint | None
    """Where it goes on from."""


def open_job(
    dataset: str,
    out: Path,
    settings: TrainSettings,
    *,
    skip_bad: bool = False,
    overwrite: bool = False,
    resume: bool = False,
    dry: bool = False,
    lap: Callable[[str], None] = lambda _: None,
    track: Track,
    say: Say,
) -> Opened:
    """Return the job of a training; `lap` is told when a phase of it is done.

    What is quick to get wrong is looked at first, and a run that `overwrite` replaces is taken away last: a mistake
    costs neither time nor an earlier run. With `dry`, no run folder is made. Raises DataError, ConfigError,
    WeightsError, DeviceError or RunError.
    """
    epochs, settings = settings.epochs, settings.resolved()
    torch.manual_seed(settings.seed)
    writes = is_lead() and not dry
    if writes:
        refuse_own_input(out, settings)
    earlier = load_run(Path(settings.from_run)) if settings.from_run else None
    settings = as_earlier(settings, earlier, say)
    plan = _Plan(dataset, out, settings, epochs, skip_bad=skip_bad, resume=resume, writes=writes)
    with RunFolder.claimed(out, plan.config(), overwrite=overwrite or resume) if writes else nullcontext():
        return _open(plan, earlier, lap, track, say)


@dataclass(frozen=True)
class _Plan:
    """What a training was asked for."""

    dataset: str
    out: Path
    settings: TrainSettings
    """Resolved, and as the earlier run where nothing else was asked for."""
    epochs: int | None
    """As they were asked for: left to the preset they stay so, for a far domain gets more, also in a run begun anew."""
    skip_bad: bool
    resume: bool
    writes: bool
    """Whether this process makes the run folder."""

    def config(self, settings: TrainSettings | None = None) -> str:
        """Return what `config.yaml` holds."""
        return to_yaml((settings or self.settings).model_copy(update={"epochs": self.epochs}))


def _open(plan: _Plan, earlier: EarlierRun | None, lap: Callable[[str], None], track: Track, say: Say) -> Opened:
    dataset, out, settings, skip_bad, resume = plan.dataset, plan.out, plan.settings, plan.skip_bad, plan.resume
    recipe = _recipe(settings, settings.augmentation) if settings.augmentation else None
    model = _model(settings, earlier)
    origin = origin_of(settings)
    lap("model")
    data = prepare_fold(dataset, settings, skip_bad=skip_bad, track=track)
    for split in (Split.TRAIN, Split.VAL):
        if not data.of(split):
            raise DataError(f"{data.card.name}: no {split} images; add some, or leave the split column out")
    name = settings.augmentation or data.card.augmentation or _usual_recipe(data, say)
    recipe = recipe or _recipe(settings, name)
    settings = settings.model_copy(update={"augmentation": name})
    model.reset_head(len(data.labels))
    shared = earlier.install_head(model, data.labels) if earlier else ()
    if settings.retain and set(shared) != set(data.labels):
        missing = next(label for label in data.labels if label not in shared)
        raise ConfigError(
            f"retain: {settings.from_run} knows no class {missing!r}; an earlier model can only be kept whole"
        )
    mean, std = model.normalisation
    size = settings.size
    spec = input_spec(data, height=size, width=size, resize=settings.resize, mean=mean, std=std)
    checkpoint = None
    if resume:
        refuse_other_data(out, data)
        checkpoint = latest(out / "checkpoints", say)
        if checkpoint is None:
            say(f"{out}: no checkpoint to go on from; the training begins anew (preset {settings.preset})")
    if earlier:
        compare_input(earlier, spec, retain=settings.retain is not None and checkpoint is None, say=say)
    lap("check")

    for warning in data.warnings:
        say(f"warning: {warning}")
    met = sorted({*settings.hold_out}.intersection(origin.practised if origin else ()))
    if met:
        say(f"warning: {', '.join(met)}: held out, but the earlier run has practised it, and reports will say so")
    train = load_images(data, data.of(Split.TRAIN), spec, track=track, what="loading train")
    val = load_images(data, data.of(Split.VAL), spec, track=track, what="loading val")
    if not decides(val.targets, task=data.card.task):
        raise DataError(
            f"{data.card.name}: no class has val images both with and without it, so nothing can be chosen on them;"
            " add some, or leave the split column out"
        )
    retained = None
    if settings.retain:
        retained = load_retained(
            settings.retain, data, spec, split_seed=settings.split_seed, skip_bad=skip_bad, track=track, say=say
        )
    begun_with: Json = {
        "weights_sha256": origin.sha256 if origin else None,
        "retained_fingerprint": retained.fingerprint if retained else None,
    }
    if resume:
        refuse_other_start(out, begun_with)
    objective = _objective(settings, data, train)
    open_tracker(settings.track if plan.writes else "none", out, {})  # writes nothing before its first figure
    lap("load")

    if settings.recompute and not checkpoint_gradients(model):
        say(f"warning: {model.name} can't recompute activations; they are kept in memory")
    devices, machines = processes()
    levels, _ = next(clean_batches(train, max(2, settings.batch_size // (devices * machines * settings.accumulate))))
    mode = str(checkpoint.progress["mode"]) if checkpoint else None
    engine = make_engine(
        model, levels, device=settings.device, precision=settings.precision, classes=len(data.labels), mode=mode
    )
    speeds = ", ".join(f"{name} {speed:.0f}/s" for name, speed in engine.speeds.items())
    measured = f" (measured: {speeds})" if speeds else ""
    team = f", {engine.team.size} processes" if engine.team.size > 1 else ""
    say(
        f"{model.name} at {settings.size}×{settings.size} on {engine.fabric.device.type}{team}, {engine.mode}{measured}"
    )
    clutter = _clutter(recipe, data, train, say)
    judge = make_judge(val, recipe, clutter, task=data.card.task, batch_size=settings.batch_size, seed=settings.seed)
    if checkpoint is None:
        focus = focus_of(settings, data, judge.families, say)
    else:  # its odds are the checkpoint's; the report may be another one by now
        focus = Focus({}, RunFolder(out).read_json("dataset.json").get("focus") or {})
    lap("measure")

    run = RunFolder(out)
    if plan.writes and checkpoint is not None:
        run.sweep()
    elif plan.writes:
        run = RunFolder.create(out, overwrite=True)
        write_text(run.path / "config.yaml", plan.config(settings))
        described = {**data.summary(), "argument": _lasting(dataset), **_splitting(settings)}
        run.write_json("dataset.json", described | {"begun_with": begun_with, "focus": focus.about or None})
    job = Job(
        settings=settings,
        data=data,
        recipe=recipe,
        clutter=clutter,
        run=run,
        engine=engine,
        model=engine.place(model),
        train=train,
        judge=judge,
        objective=objective,
        workers=_workers(settings),
        track=track,
        say=say,
        odds=focus.odds,
        retained=retained,
        origin=origin,
        focus=focus.about,
        earlier_head=earlier is not None and set(shared) == set(data.labels),
    )
    return Opened(job, spec, checkpoint)


def prepare_fold(dataset: str, settings: TrainSettings, *, skip_bad: bool, track: Track) -> Prepared:
    """Return the data set, checked and split; of a cross-validation, with the fold's validation images."""
    data = prepare(dataset, seed=settings.split_seed, skip_bad=skip_bad, track=track)
    if settings.folds is None or settings.fold is None:
        return data
    return folds(data, settings.folds, seed=settings.split_seed)[settings.fold - 1]


def _recipe(settings: TrainSettings, name: str) -> Recipe:
    recipe = load_recipe(name)
    return recipe.without(settings.hold_out) if settings.hold_out else recipe


def _model(settings: TrainSettings, earlier: EarlierRun | None) -> Classifier:
    """Return the backbone with its starting weights and a head that is still to be replaced."""
    if earlier is None:
        return create(settings.model, classes=2, weights=settings.weights, size=settings.size)
    model = create(settings.model, classes=2, weights=NONE, size=settings.size)
    earlier.install_backbone(model)
    return model


def _objective(settings: TrainSettings, data: Prepared, train: Images) -> Objective:
    multilabel = data.card.task is Task.MULTILABEL
    weights = class_weights(
        settings.class_weights,
        train.targets.sum(axis=0).astype(np.int64),
        data.labels,
        images=len(train) if multilabel else None,
    )
    return Objective(
        data.card.task,
        settings.loss,
        torch.from_numpy(weights) if weights is not None else None,
        settings.label_smoothing,
        settings.focal_gamma,
    )


def _clutter(recipe: Recipe, data: Prepared, images: Images, say: Say) -> Levels:
    """Return what the recipe lays over images: training images of the negative classes, where it lays any."""
    if not recipe.lays_clutter:
        return images.levels[:0]
    positive = [index for index, label in enumerate(data.labels) if label in data.card.positive]
    clutter = images.levels[images.targets[:, positive].sum(axis=1) == 0] if positive else images.levels[:0]
    if not len(clutter):
        say(
            f"warning: recipe {recipe.name} lays no clutter: the card names no positive classes, or every image has one"
        )
    return clutter


def _workers(settings: TrainSettings) -> int:
    if settings.workers is not None:
        return settings.workers
    cores = os.cpu_count() or 1
    return 0 if cores <= _FEW_CORES else min(_MOST_WORKERS, cores - 1)


def _usual_recipe(data: Prepared, say: Say) -> str:
    """Return the recipe for images that no card speaks of, and say what they are taken for."""
    name = usual_suite(data.image.channels)
    say(f"no recipe is named: the images are augmented as {name} (--augmentation NAME, or the card, says otherwise)")
    return name


def _lasting(dataset: str) -> str:
    """Return a DATASET argument that still holds when the working directory has changed."""
    path = Path(dataset)
    return str(path.resolve()) if path.exists() else dataset


def _splitting(settings: TrainSettings) -> dict[str, int | None]:
    """Return what a later command needs to draw the same splits."""
    found: dict[str, int | None] = {"split_seed": settings.split_seed}
    return found | ({"folds": settings.folds, "fold": settings.fold} if settings.fold else {})
