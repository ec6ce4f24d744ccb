"""Short trials on validation: how batch normalisation is treated, and whether a far domain needs other rates."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice

from imaging_ft.training.batchnorm import norms
from imaging_ft.training.images import Batch, TrainingBatches
from imaging_ft.training.job import Job
from imaging_ft.training.judge import Judged
from imaging_ft.training.settings import TrainSettings
from imaging_ft.training.start import Candidate, Start
from imaging_ft.training.trainer import NotFinite, Trainer
from imaging_ft.types import Json

STEPS = 20
FAR_STEPS = 60
"""In a far domain, what starts slowly may end higher: a longer look."""
LONGER = 1.5
"""A far domain trains so many times the preset's epochs."""
_EPOCHS = 1 << 19
"""Trials draw from epochs that no training reaches."""


@dataclass(frozen=True)
class Treatment:
    """How a model is fine-tuned, and what decided it."""

    frozen: bool
    """Whether batch-normalisation statistics stay as they are at the start."""
    changes: Json
    """Settings that differ from those that were asked for."""
    why: str
    trials: dict[str, Judged]
    """What each choice was worth after a short trial; empty where nothing was compared."""

    @property
    def statistics(self) -> str:
        """`frozen` or `trained`."""
        return "frozen" if self.frozen else "trained"

    def as_json(self) -> Json:
        """Return the treatment for a checkpoint."""
        return {**vars(self), "trials": {name: found.as_json() for name, found in self.trials.items()}}

    @classmethod
    def from_json(cls, values: Json) -> "Treatment":
        """Return the treatment that `as_json` gave."""
        trials = {name: Judged.from_json(found) for name, found in values["trials"].items()}
        return cls(**{**values, "trials": trials})

    def describe(self) -> str:
        """Return the treatment in words."""
        trials = ", ".join(f"{name} {found.value('balanced_accuracy'):.3f}" for name, found in self.trials.items())
        return f"{self.statistics} ({self.why}{': ' + trials if trials else ''})"


def choose_treatment(job: Job, candidates: Sequence[Candidate]) -> tuple[Treatment, Start]:
    """Return how the model is fine-tuned and where from: as set, else whatever validates best in short trials.

    Training with frozen statistics begins from the best start, with trained ones from the re-estimated start: the
    batches' own statistics are near to those. Where the probe shows a far domain, training that touches everything at
    one rate competes too (the plain fine-tune that no preset may end below), every stage trains from the first step,
    without a moving average (weights move too far for one), and there are half as many epochs again. The model is left
    at the start that was chosen.
    """
    options = _options(job, candidates)
    far = candidates[0].start.far and job.settings.adapt
    chosen, trials, why = next(iter(options)), dict[str, Judged](), _only_reason(job)
    if len(options) > 1:
        steps = min(FAR_STEPS if far else STEPS, max(1, (job.settings.epochs or 0) * len(job.batches())))
        for name, option in options.items():
            found = _trial(job, option, steps=steps, annealed=far, what=f"trial: {name}")
            if found is not None:
                trials[name] = found
        for name, found in trials.items():
            if chosen not in trials or found.beats(trials[chosen], job.settings.metric):
                chosen = name
        why = f"validated best after {steps} steps"
    option = options[chosen]
    job.model.load_state_dict(option.candidate.state)
    return Treatment(option.frozen, option.changes, why, trials), option.candidate.start


@dataclass(frozen=True)
class _Option:
    candidate: Candidate
    frozen: bool
    changes: Json


def _options(job: Job, candidates: Sequence[Candidate]) -> dict[str, _Option]:
    """Return what may be tried, by name; the first one is taken where every trial breaks down."""
    best = candidates[0]
    own = next((one for one in candidates if one.start.statistics == "reestimated"), best)
    far = best.start.far and job.settings.adapt
    base: Json = _far_base(job.settings) if far else {}
    found = {name: _Option(best if frozen else own, frozen, base) for name, frozen in _statistics(job)}
    if far and job.settings.layer_decay < 1:
        name, frozen = _statistics(job)[-1]  # trained statistics, where they are open
        found[f"{name}, one rate"] = _Option(best if frozen else own, frozen, {**base, "layer_decay": 1.0})
    return found


def _statistics(job: Job) -> list[tuple[str, bool]]:
    """Return the ways to treat statistics that are open: name, and whether they are frozen."""
    if not norms(job.model):
        return [("as it is", True)]
    wanted = job.settings.batch_norm
    if wanted == "auto" and job.from_scratch:
        return [("trained", False)]
    if wanted == "auto" and job.retained is None:
        return [("frozen", True), ("trained", False)]
    return [("trained", False)] if wanted == "trained" else [("frozen", True)]


def _only_reason(job: Job) -> str:
    if not norms(job.model):
        return "the backbone has no batch normalisation"
    if job.settings.batch_norm != "auto":
        return "as set"
    if job.retained is not None:
        return "frozen as in the earlier run, so that weights between the two keep their meaning"
    return "from scratch, statistics can only be trained"


def _far_base(settings: TrainSettings) -> Json:
    changes: Json = {"trained": "all", "unfreeze_over": 0.0, "average": False}
    return {name: value for name, value in changes.items() if getattr(settings, name) != value}


def _trial(job: Job, option: _Option, *, steps: int, annealed: bool, what: str) -> Judged | None:
    """Return what a few steps make of a copy of the model; None where they break it.

    The rates rise to the peak, and the look ends there; or, `annealed`, they fall again as the run's own will. At the
    peak, a net whose statistics move far validates by chance.
    """
    copied = copy.deepcopy(job.model)
    copied.load_state_dict(option.candidate.state)
    batches = job.batches()
    fixed: Json = {} if annealed else {"annealing": "constant"}
    settings = job.settings.model_copy(update={**option.changes, **fixed, "average": False, "l2_sp": 0.0})
    trainer = Trainer(job.engine, copied, batches, settings, job.objective, frozen=option.frozen, steps=steps)
    try:
        for step, (batch, images) in enumerate(job.track(islice(endless(batches), steps), what, steps)):
            trainer.factor = 1.0 if annealed else (step + 1) / steps
            trainer.step(batch, step, images)
    except NotFinite:
        return None
    return job.judge(job.engine, copied)


def endless(batches: TrainingBatches) -> Iterator[tuple[Batch, int]]:
    """Yield batches without end, each with its size over all processes, of epochs that no training reaches."""
    for number in count(_EPOCHS):
        for step, batch in enumerate(batches.epoch(number)):
            yield batch, batches.size_of(step)
