"""Fine-tuning from a data set to a run folder: start, try, train, interpolate, calibrate, write."""

import copy
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import cv2
import torch

from imaging_ft.training.calibrate import calibrate, operating_points
from imaging_ft.training.interpolate import ALPHAS, mix
from imaging_ft.training.job import Job, Say
from imaging_ft.training.loop import Loop, Progress
from imaging_ft.training.plot import write_history_plot
from imaging_ft.training.provenance import provenance
from imaging_ft.training.run import ModelInfo, RunFolder
from imaging_ft.training.seen import seen_by
from imaging_ft.training.settings import TrainSettings
from imaging_ft.training.setup import Opened, open_job
from imaging_ft.training.start import Candidate, Start, starts
from imaging_ft.training.summary import Clock, Finished, summarise
from imaging_ft.training.team import is_lead
from imaging_ft.training.tracking import open_tracker
from imaging_ft.training.trainer import NotFinite, Trainer
from imaging_ft.training.trials import LONGER, Treatment, choose_treatment
from imaging_ft.types import Json, Track, silent

_PACE_STEPS = 4


def train(
    dataset: str,
    out: Path,
    settings: TrainSettings | None = None,
    *,
    skip_bad: bool = False,
    overwrite: bool = False,
    resume: bool = False,
    track: Track = silent,
    say: Say = lambda _: None,
) -> Json:
    """Fine-tune a model on a data set and return what `summary.json` holds.

    `dataset` is any form of the DATASET argument; `out` becomes the run folder. With `resume`, a run that was broken
    off there goes on from its last checkpoint (`settings` are then its own: `settings.resumed_settings`); a finished
    one is left alone. A KeyboardInterrupt while epochs run ends the training and keeps the best model so
    far. With `settings.folds`, each fold becomes a run below `out`. Raises DataError, ConfigError, WeightsError,
    DeviceError or RunError.
    """
    asked = settings or TrainSettings()
    if resume and settings is None and (out / "config.yaml").is_file():
        asked = TrainSettings.from_yaml(out / "config.yaml")
    if not is_lead():
        track, say = silent, lambda _: None
    options = {"skip_bad": skip_bad, "overwrite": overwrite, "resume": resume}
    if asked.folds and asked.fold is None:
        from imaging_ft.training.crossval import cross_validate

        return cross_validate(dataset, out, asked, track=track, say=say, **options)
    if resume and (finished := finished_summary(out)) is not None:
        say(f"{out}: finished already; nothing to resume")
        return finished
    with _settled(asked):
        clock = Clock()
        opened = open_job(dataset, out, asked, **options, lap=clock.lap, track=track, say=say)
        return _train(opened, clock, longer=asked.epochs is None and asked.time_budget is None)


def finished_summary(out: Path) -> Json | None:
    """Return the summary of a run that came to its end, or None: one that was interrupted can go on."""
    if not (out / "summary.json").is_file():
        return None
    summary = RunFolder(out).read_json("summary.json")
    return None if summary.get("interrupted") else summary


def _train(opened: Opened, clock: Clock, *, longer: bool) -> Json:
    job, checkpoint = opened.job, opened.checkpoint
    before = job.retained.scores(job.engine, job.model, job.settings.batch_size) if job.retained else None
    if checkpoint is not None:
        progress = Progress.from_json(copy.deepcopy(checkpoint.progress))
        job.say(f"going on after epoch {progress.epoch} of {progress.epochs}, step {progress.step}")
    else:
        candidates = starts(job)
        job.say(_start_line(candidates[0].start))
        clock.lap("probe")
        treatment, begun = _treatment(job, candidates)
        clock.lap("trials")
        progress = _plan(job, begun, treatment, clock, longer=longer)
    job = job.with_settings(job.settings.model_copy(update=progress.treatment.changes))
    batches = job.batches()
    trainer = Trainer(
        job.engine,
        job.model,
        batches,
        job.settings,
        job.objective,
        frozen=progress.treatment.frozen,
        steps=max(1, progress.epochs * len(batches)),
    )
    budget = job.settings.budget_seconds
    stop_at = clock.began + budget if budget is not None else None
    tracker = open_tracker(
        job.settings.track if job.team.leads else "none",
        job.run.path,
        job.settings.model_dump(mode="json"),
        resume=checkpoint is not None,
        say=job.say,
    )
    summary: Json | None = None
    try:
        loop = Loop(job, trainer, progress, steps=len(batches), stop_at=stop_at, on_epoch=tracker.log)
        if checkpoint is not None:
            loop.resume(checkpoint)
        else:
            loop.begin()
        outcome = loop.run()
        clock.lap("fine_tune")
        mixed = mix(job, outcome)
        if mixed.tried:
            job.say(f"interpolation: α {mixed.alpha:g} of " + ", ".join(f"{a} {v:.3f}" for a, v in mixed.tried.items()))
        clock.lap("interpolate")
        summary = _finish(opened, job, Finished(outcome, mixed, before), clock)
        return summary
    finally:
        tracker.close(summary)


def _treatment(job: Job, candidates: list[Candidate]) -> tuple[Treatment, Start]:
    """Return how the model is fine-tuned and where from; nothing is tried where nothing is trained."""
    if not job.settings.epochs:
        job.model.load_state_dict(candidates[0].state)
        return Treatment(frozen=True, changes={}, why="no epoch was trained", trials={}), candidates[0].start
    found, begun = choose_treatment(job, candidates)
    job.say(f"batch norm statistics: {found.describe()}")
    if begun.far and job.settings.adapt:
        job.say(
            "far domain: the probe says little, so every stage trains from the first step"
            + (", at one rate for all" if "layer_decay" in found.changes else "")
        )
    return found, begun


def _plan(job: Job, begun: Start, treatment: Treatment, clock: Clock, *, longer: bool) -> Progress:
    """Return the progress of a run that has not begun, with as many epochs as it is to have."""
    epochs = job.settings.epochs or 0
    if begun.far and longer and job.settings.adapt and not job.from_scratch:
        epochs = round(epochs * LONGER)
        job.say(f"far domain: {epochs} epochs instead of {job.settings.epochs}")
    budget = job.settings.budget_seconds
    if budget is not None and epochs:
        fits = job.team.agree(_epochs_that_fit(job, treatment, budget - clock.elapsed))
        if fits < epochs:
            job.say(f"time budget {job.settings.time_budget}: {fits} of {epochs} epochs")
            epochs = fits
    return Progress(begun, treatment, job.engine.mode, epochs, odds=dict(job.odds), parts=job.settings.accumulate)


def _epochs_that_fit(job: Job, treatment: Treatment, seconds: float) -> int:
    """Return how many epochs, with their validation and what follows, take no longer than some seconds; at least 1."""
    batches = job.batches()
    settings = job.settings.model_copy(update=treatment.changes)
    copied = copy.deepcopy(job.model)
    trainer = Trainer(job.engine, copied, batches, settings, job.objective, frozen=treatment.frozen)
    times: list[float] = [time.monotonic()]
    with suppress(NotFinite):  # the run itself will roll back, or say so
        for step, batch in zip(range(_PACE_STEPS), batches.epoch(1), strict=False):
            trainer.step(batch, step, batches.size_of(step))
            times.append(time.monotonic())
    pace = min((after - first for first, after in pairwise(times)), default=0.0)
    before = time.monotonic()
    job.judge(job.engine, copied)
    judging = time.monotonic() - before
    after_epochs = len(ALPHAS) * judging if settings.interpolate else judging
    return max(1, int((seconds - after_epochs) / max(1e-6, pace * len(batches) + judging)))


def _finish(opened: Opened, job: Job, finished: Finished, clock: Clock) -> Json:
    """Calibrate, choose thresholds, write the model and the summary; return the summary."""
    settings, judge = job.settings, job.judge
    model = job.engine.place(finished.mixed.model)
    logits = job.engine.predict_images(model, judge.clean_images, settings.batch_size)
    targets = judge.clean_images.targets
    calibration = calibrate(logits, targets, method=settings.calibration, task=job.task)
    if calibration.note and settings.calibration != "none":
        job.say(f"warning: {calibration.note}")
    thresholds, points = operating_points(
        calibration.probabilities(logits, job.task), targets, job.data.labels, settings.operating_point
    )
    after = job.retained.scores(job.engine, model, settings.batch_size) if job.retained else None
    clock.lap("calibrate")
    summary = summarise(job, finished, calibration, points, after, clock)
    if not job.team.leads:
        job.team.wait()
        return summary
    info = ModelInfo(
        backbone=model.name,
        task=job.task,
        labels=job.data.labels,
        input=opened.spec,
        temperature=calibration.temperature,
        vector_scaling=calibration.vector_scaling,
        thresholds=thresholds,
        metrics=summary["validation"],
        provenance=provenance(settings, job.data, job.recipe, job.origin, job.focus),
        seen=seen_by(job.data, job.retained, job.origin.seen if job.origin else None),
        intended_use=job.data.card.intended_use,
    )
    job.run.write_model(model.cpu(), info)
    write_history_plot(finished.outcome.progress.rows, job.run.path / "history.png")
    job.run.write_json("summary.json", summary)
    job.team.wait()
    return summary


def _start_line(begun: Start) -> str:
    compared = ""
    if begun.compared:
        compared = " (" + ", ".join(f"{name} {value:.3f}" for name, value in begun.compared.items()) + ")"
    what = {"probe": "linear probe", "earlier run": "the earlier run's head", "random": "random weights"}[begun.head]
    return (
        f"start: {what}, validation {begun.judged.clean.balanced_accuracy:.3f},"
        f" conditions {begun.judged.mean.balanced_accuracy:.3f}{compared}"
    )


@contextmanager
def _settled(settings: TrainSettings) -> Iterator[None]:
    """Keep OpenCV to one thread (images are small, and torch's threads have the cores), and torch deterministic."""
    threads, deterministic = cv2.getNumThreads(), torch.are_deterministic_algorithms_enabled()
    cv2.setNumThreads(1)
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(mode=True)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
        torch.use_deterministic_algorithms(mode=deterministic)
