"""Where fine-tuning may start: statistics for these images, and a head fitted on the frozen backbone's features."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from imaging_ft.data import Images
from imaging_ft.models.features import Features, embed
from imaging_ft.training.batchnorm import norms, reestimate
from imaging_ft.training.images import augmented_copies, clean_batches, joined, shuffled, with_copies
from imaging_ft.training.job import Job
from imaging_ft.training.judge import Judged, spread
from imaging_ft.training.probe import Probe, fit_probe
from imaging_ft.types import Ints, Json, Task

PROBE_IMAGES = 2000
"""The probe sees augmented copies of the training images, about so many in all …"""
MAX_COPIES = 4
"""… but at least one and at most this many of each."""
PROBE_POOL = 20_000
"""Of more training images than this, it sees only so many, spread over the classes: with a copy of each they take 3 GB
at 160×160×3, and a head of a few thousand weights a class has enough of them."""
STATISTICS_IMAGES = 4000
"""Statistics are re-estimated on at most so many images, clean and augmented."""
FAR = 0.5
"""The domain counts as far where the probe is less than so far from chance (0) to perfect (1), on clean validation."""


@dataclass(frozen=True)
class Start:
    """What fine-tuning starts from."""

    judged: Judged
    statistics: str
    """`frozen` (as pretrained or as in the earlier run) or `reestimated`; of no account without batch normalisation."""
    far: bool
    """Whether the backbone's features say little about these images."""
    head: str
    """`probe`, `earlier run` or `random`."""
    strength: float | None = None
    """The probe's inverse regularisation strength."""
    compared: dict[str, float] | None = None
    """Balanced accuracy by choice, where statistics or heads were compared: mean over clean and conditions."""

    def as_json(self) -> Json:
        """Return the start for a checkpoint."""
        return {**vars(self), "judged": self.judged.as_json()}

    @classmethod
    def from_json(cls, values: Json) -> "Start":
        """Return the start that `as_json` gave."""
        return cls(**{**values, "judged": Judged.from_json(values["judged"])})


@dataclass(frozen=True)
class Candidate:
    """A start, and the model's state dict that it is."""

    start: Start
    state: dict[str, Tensor]


def starts(job: Job) -> list[Candidate]:
    """Return where fine-tuning may start, best first: one start for each kind of statistics that the settings allow.

    From scratch there is nothing to probe. Where accuracy on an earlier data set is to be retained, the earlier run's
    model is the only one. Else a probe is fitted under each kind of statistics, on clean and augmented training images
    (fine-tuning sees nothing else), and an earlier run's head competes where it fits.
    """
    if job.from_scratch:
        order = _for_statistics(len(job.train) * (2 if job.recipe.transforms else 1), job)
        _reestimate(job, with_copies(job.train, job.augment(), order, seed=job.settings.seed))
        found = Start(job.judge(job.engine, job.model), "reestimated", far=True, head="random")
        return [Candidate(found, copy.deepcopy(job.model.state_dict()))]
    if job.retained is not None:
        judged = job.judge(job.engine, job.model)
        found = Start(judged, "frozen", far=_is_far(judged, job), head="earlier run")
        return [Candidate(found, copy.deepcopy(job.model.state_dict()))]
    best: dict[str, Candidate] = {}
    compared: dict[str, float] = {}
    for found in _candidates(job):
        compared[f"{found.statistics}, {found.head}"] = found.judged.value("balanced_accuracy")
        known = best.get(found.statistics)
        if known is None or found.judged.beats(known.start.judged, job.settings.metric):
            best[found.statistics] = Candidate(found, copy.deepcopy(job.model.state_dict()))
    ordered = sorted(best.values(), key=lambda one: -one.start.judged.value(job.settings.metric))
    far = all(_is_far(one.start.judged, job) for one in ordered)
    told = compared if len(compared) > 1 else None
    return [Candidate(replace(one.start, far=far, compared=told), one.state) for one in ordered]


def copies_of(images: Images, job: Job, *, about: int) -> int:
    """Return how many augmented copies of each image make about so many images; none if the recipe is empty."""
    return min(MAX_COPIES, max(1, about // len(images))) if job.recipe.transforms else 0


def probed(images: Images, *, seed: int) -> Images:
    """Return the training images that the probe sees: all, or of very many a seeded share of each class.

    Whatever an image of the whole shows, one of these shows as well.
    """
    if len(images) <= PROBE_POOL:
        return images
    chosen = spread(images, PROBE_POOL, seed=seed)
    shown = images.targets[chosen].any(axis=0)
    lacking = [int(images.targets[:, one].argmax()) for one in np.flatnonzero(~shown)]  # of a multi-label task, rare
    return images.take(np.union1d(chosen, np.array(lacking, np.int64)))


def _kinds(job: Job) -> list[str]:
    """Return the kinds of statistics to probe under."""
    if not norms(job.model):
        return ["frozen"]
    wanted = job.settings.batch_norm
    return ["frozen", "reestimated"] if wanted == "auto" else ["frozen" if wanted == "frozen" else "reestimated"]


def _candidates(job: Job) -> Iterator[Start]:
    """Yield each start; the model is left as it says until the next one."""
    pool = probed(job.train, seed=job.settings.seed)
    copies = copies_of(pool, job, about=PROBE_IMAGES)
    every = joined([pool, augmented_copies(pool, job.augment(), copies=copies, seed=job.settings.seed)])
    given = copy.deepcopy(job.model.head.state_dict())
    for kind in _kinds(job):
        if kind == "reestimated":
            _reestimate(job, every.take(_for_statistics(min(len(every), 2 * len(pool)), job)))
        if job.earlier_head:
            job.model.head.load_state_dict(given)  # the last kind's probe stands there otherwise
            yield Start(job.judge(job.engine, job.model), kind, far=False, head="earlier run")
        features, val_features = _features(job, every), _features(job, job.judge.images)
        fitted = None
        if job.team.leads:
            fitted = fit_probe(
                features.astype(np.float64),
                every.targets,
                val_features.astype(np.float64),
                job.judge.images.targets,
                job.judge.of_logits,
                task=job.task,
                metric=job.settings.metric,
            )
        probe: Probe = job.team.agree(fitted)
        probe.install(job.model)
        yield Start(probe.judged, kind, far=False, head="probe", strength=probe.strength)


def _for_statistics(count: int, job: Job) -> Ints:
    """Return which of so many images statistics are taken over, in mixed order; none is alone in the last batch."""
    order = shuffled(count, job.settings.seed)[:STATISTICS_IMAGES]
    size = job.settings.batch_size
    return order[:-1] if len(order) > size and len(order) % size == 1 else order


def _reestimate(job: Job, images: Images) -> None:
    """Re-estimate statistics on training images, clean and augmented, in their order; every process does the same."""
    reestimate(job.engine, job.model, clean_batches(images, job.settings.batch_size))


def _features(job: Job, images: Images) -> Features:
    """Return features [n, features] of images in the run's precision, from the cache on disk where it holds them."""

    def compute() -> Features:
        found = job.engine.predict_images(job.model, images, job.settings.batch_size, features=True)
        return found.astype(np.float32)

    if job.team.size > 1:
        return compute()
    device = job.engine.fabric.device.type
    return embed(job.model, images.levels, device=device, form=job.engine.mode, compute=compute)


def _is_far(found: Judged, job: Job) -> bool:
    """Return whether clean validation lies nearer to chance than to perfection."""
    chance = 0.5 if job.task is Task.MULTILABEL else 1 / len(job.data.labels)
    return (found.clean.balanced_accuracy - chance) / (1 - chance) < FAR
