"""From a DATASET argument and settings to a job: everything is looked at before the first step is made."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from imaging_ft.augment.conditions import usual
from imaging_ft.augment.recipe import Recipe, load_recipe
from imaging_ft.config import to_yaml
from imaging_ft.data import Images, Prepared, input_spec, load_images, prepare
from imaging_ft.data.folds import folds
from imaging_ft.errors import ConfigError, DataError, RunError
from imaging_ft.models.earlier import EarlierRun, load_run
from imaging_ft.models.factory import NONE, PRETRAINED, Classifier, create
from imaging_ft.models.recompute import checkpoint_gradients
from imaging_ft.preprocess import InputSpec
from imaging_ft.training.checkpoint import Checkpoint, latest
from imaging_ft.training.engine import make_engine
from imaging_ft.training.images import clean_batches
from imaging_ft.training.job import Job, Say
from imaging_ft.training.judge import make_judge
from imaging_ft.training.metrics import decides
from imaging_ft.training.objective import Objective, class_weights
from imaging_ft.training.odds import Focus, read_focus
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

    What is quick to get wrong is looked at first, and the run folder is made last (with `dry`, not at all), so that a
    mistake costs neither time nor the run that `overwrite` replaces. Raises DataError, ConfigError, WeightsError,
    DeviceError or RunError.
    """
    epochs, settings = settings.epochs, settings.resolved()
    torch.manual_seed(settings.seed)
    lead = is_lead()
    if lead and not dry:
        _refuse_own_input(out, settings)
        if not resume:
            RunFolder.check_free(out, overwrite=overwrite)
    recipe = _recipe(settings, settings.augmentation) if settings.augmentation else None
    earlier = load_run(Path(settings.from_run)) if settings.from_run else None
    settings = _as_earlier(settings, earlier, say)
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
    if earlier:
        _compare_input(earlier, spec, retain=settings.retain is not None, say=say)
    checkpoint = None
    if resume:
        _refuse_other_data(out, data)
        checkpoint = latest(out / "checkpoints", say)
        if checkpoint is None:
            say(f"{out}: no checkpoint to go on from; the training begins anew (preset {settings.preset})")
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
        _refuse_other_start(out, begun_with)
    objective = _objective(settings, data, train)
    open_tracker(settings.track if lead else "none", out, {})  # writes nothing before its first figure
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
    focus = _focus(settings, data, judge.families, say)
    lap("measure")

    run = RunFolder(out)
    if lead and checkpoint is not None:
        run.sweep()
    elif lead and not dry:
        run = RunFolder.create(out, overwrite=overwrite or resume)
        # Epochs that are left to the preset stay so: a far domain gets more, also where the run begins anew.
        write_text(run.path / "config.yaml", to_yaml(settings.model_copy(update={"epochs": epochs})))
        described = {**data.summary(), "argument": _lasting(dataset), **_splitting(settings), "begun_with": begun_with}
        run.write_json("dataset.json", described)
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
        odds=focus.odds if focus else {},
        retained=retained,
        origin=origin,
        focus=focus.about if focus else {},
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


def _as_earlier(settings: TrainSettings, earlier: EarlierRun | None, say: Say) -> TrainSettings:
    """Return the settings with the earlier run's backbone and size of images, where no others were asked for."""
    if earlier is None:
        return settings
    seen = earlier.input
    values: Json = {"model": earlier.model}
    if seen is not None and seen.height == seen.width:
        values |= {"size": seen.height, "resize": seen.resize}
    values = {name: value for name, value in values.items() if name not in settings.model_fields_set}
    taken = [f"{name} {value}" for name, value in values.items() if value != getattr(settings, name)]
    if taken:
        say(f"as the earlier run: {', '.join(taken)}")
    return settings.model_copy(update=values)


def _model(settings: TrainSettings, earlier: EarlierRun | None) -> Classifier:
    """Return the backbone with its starting weights and a head that is still to be replaced."""
    if earlier is None:
        return create(settings.model, classes=2, weights=settings.weights, size=settings.size)
    model = create(settings.model, classes=2, weights=NONE, size=settings.size)
    earlier.install_backbone(model)
    return model


def _compare_input(earlier: EarlierRun, spec: InputSpec, *, retain: bool, say: Say) -> None:
    """Say where images now reach an earlier model otherwise than before; raise ConfigError where it is to be kept."""
    seen = earlier.input
    if seen is None:
        return
    changed = [
        f"{name} {getattr(spec, name)} (it saw {getattr(seen, name)})"
        for name in ("height", "width", "resize", "mean", "std")
        if getattr(spec, name) != getattr(seen, name)
    ]
    if changed and retain:
        raise ConfigError(
            f"retain: images would reach the model of {earlier.path} otherwise than before: {', '.join(changed)};"
            " leave out --size, resize and --model, which are then its own"
        )
    if changed:
        say(f"warning: images reach the earlier model otherwise than before: {', '.join(changed)}")


def _focus(settings: TrainSettings, data: Prepared, families: Sequence[str], say: Say) -> Focus | None:
    if settings.focus is None:
        return None
    focus = read_focus(Path(settings.focus), families)
    name, split = focus.about["name"], focus.about["split"]
    if focus.about["fingerprint"] not in {None, data.fingerprint}:
        say(f"warning: focus: the report is of other images than these ({name})")
    if split not in {None, Split.VAL.value}:
        say(
            f"warning: focus: the report is of {name}'s {split} images, so this model's figures on them will be too"
            " good; choose on validation (report --split val)"
        )
    return focus


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
    name = usual(data.image.channels)
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


def _refuse_other_data(out: Path, data: Prepared) -> None:
    """Raise RunError where a run that is taken up again was of other images."""
    if not (out / "dataset.json").is_file():
        return
    recorded = RunFolder(out).read_json("dataset.json")
    if recorded.get("fingerprint") != data.fingerprint:
        raise RunError(
            f"{out}: was begun on other images than {data.card.name} now holds (fingerprints differ);"
            " restore them, or train anew with --overwrite"
        )


def _refuse_other_start(out: Path, begun_with: Json) -> None:
    """Raise RunError where a run that is taken up again would start from other weights, or retain other images."""
    if not (out / "dataset.json").is_file():
        return
    recorded = RunFolder(out).read_json("dataset.json").get("begun_with", begun_with)
    for name, what in (("weights_sha256", "weights"), ("retained_fingerprint", "retained images")):
        if recorded.get(name) != begun_with[name]:
            raise RunError(
                f"{out}: was begun with other {what} than there now are; restore them, or train anew with --overwrite"
            )


def _refuse_own_input(out: Path, settings: TrainSettings) -> None:
    """Raise ConfigError where a run would replace the model that it starts from."""
    for option, start in (("--from", settings.from_run), ("weights", settings.weights)):
        if start in {None, PRETRAINED, NONE}:
            continue
        path = Path(str(start)).resolve()
        if out.resolve() in (path, *path.parents):
            raise ConfigError(f"{option} {start}: lies in --out {out}, which a new run replaces; choose another --out")
