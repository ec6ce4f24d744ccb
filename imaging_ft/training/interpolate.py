"""Between where fine-tuning started and where it ended: the share that validates best, and forgets little enough."""

import copy
from dataclasses import dataclass

from torch import Tensor

from imaging_ft.models.factory import Classifier
from imaging_ft.training.average import interpolated
from imaging_ft.training.job import Job
from imaging_ft.training.judge import Judged
from imaging_ft.training.loop import Outcome, start_weights
from imaging_ft.types import Json

ALPHAS = (1.0, 0.9, 0.8, 0.65, 0.5, 0.3, 0.0)
"""Shares of the fine-tuned weights that are tried; 1 is fine-tuned, 0 the start."""


@dataclass(frozen=True)
class Mixed:
    """The weights that are kept."""

    model: Classifier
    judged: Judged
    alpha: float
    tried: dict[str, float]
    """The metric by α; of those that forget too much, too."""
    forgetting: dict[str, float]
    """By α, how far balanced accuracy on the retained validation images fell; empty where nothing is retained."""
    note: str | None = None

    def as_json(self) -> Json:
        """Return what `summary.json` holds."""
        return {"alpha": self.alpha, "tried": self.tried, "forgetting": self.forgetting, "note": self.note}


def mix(job: Job, outcome: Outcome) -> Mixed:
    """Return the interpolation (WiSE-FT) that validates best, clean and under conditions.

    The fine-tuned weights are tried first, and another share must be better, not as good. With retained images, only
    shares count under which accuracy on them falls by no more than `max_forgetting`; the start itself (α = 0) always
    does. Raises RunError where the starting weights are gone.
    """
    retained, size, metric = job.retained, job.settings.batch_size, job.settings.metric
    if outcome.epoch == 0 or not (job.settings.interpolate or retained):
        return Mixed(outcome.model, outcome.judged, 1.0, {}, {})
    start = start_weights(job)
    end = {name: value.cpu() for name, value in outcome.model.state_dict().items()}
    model = copy.deepcopy(outcome.model)
    tried: dict[str, float] = {}
    forgetting: dict[str, float] = {}
    best: tuple[float, Judged] | None = None
    before = _retained_accuracy(job, model, interpolated(start, end, 0.0)) if retained else 0.0
    for alpha in job.track(ALPHAS, "interpolating", len(ALPHAS)):
        model.load_state_dict(interpolated(start, end, alpha))
        judged = outcome.judged if alpha == 1 else job.judge(job.engine, model)
        tried[f"{alpha:g}"] = judged.value(metric)
        if retained:
            after = retained.score(job.engine, model, size).balanced_accuracy
            forgetting[f"{alpha:g}"] = before - after
            if before - after > job.settings.max_forgetting:
                continue
        if best is None or judged.value(metric) > best[1].value(metric):
            best = alpha, judged
    if best is None:
        raise RuntimeError("not even the start retains its own accuracy")
    alpha, judged = best
    model.load_state_dict(interpolated(start, end, alpha))
    note = None
    if retained and alpha == 0:
        note = (
            f"every other share forgets more than {job.settings.max_forgetting:g}: the earlier model was kept as it is"
        )
    return Mixed(model, judged, alpha, tried, forgetting, note)


def _retained_accuracy(job: Job, model: Classifier, state: dict[str, Tensor]) -> float:
    if job.retained is None:
        return 0.0
    model.load_state_dict(state)
    return job.retained.score(job.engine, model, job.settings.batch_size).balanced_accuracy
