"""What a run reached and what it cost: `summary.json`."""

import sys
import time
from dataclasses import dataclass

from imaging_ft.training.calibrate import Calibration
from imaging_ft.training.interpolate import Mixed
from imaging_ft.training.job import Job
from imaging_ft.training.judge import Judged
from imaging_ft.training.loop import Outcome
from imaging_ft.training.run import plain
from imaging_ft.types import Json, Split

WATTS_PER_CORE = 15.0
"""Assumed draw of a busy processor core, with its share of memory and cooling; no meter is read."""


class Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.processor = 0.0
        """Processor seconds (all cores) since the start."""
        self.began = time.monotonic()
        """On `time.monotonic`."""
        self._last = time.perf_counter()
        self._processor = time.process_time()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began

    def lap(self, phase: str) -> None:
        """Count the time since the last lap towards a phase."""
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._last
        self.processor = time.process_time() - self._processor
        self._last = now


@dataclass(frozen=True)
class Finished:
    """What training gave."""

    outcome: Outcome
    mixed: Mixed
    retained_before: Json | None
    """Scores on the retained data before training."""


def summarise(
    job: Job, finished: Finished, calibration: Calibration, points: Json, retained_after: Json | None, clock: Clock
) -> Json:
    """Return what `summary.json` holds."""
    outcome, mixed = finished.outcome, finished.mixed
    progress = outcome.progress
    return plain(
        {
            "model": job.model.name,
            "preset": job.settings.preset,
            "recipe": job.recipe.name,
            "held_out": list(job.settings.hold_out),
            "best_epoch": outcome.epoch,
            "epochs": progress.epoch,
            "interrupted": outcome.interrupted,
            "ended": progress.ended,
            "validation": {
                **mixed.judged.clean.as_json(),
                "n": job.judge.clean,
                "groups": job.data.units(job.data.of(Split.VAL)),
                "split": job.data.split_method,
            },
            "judged": {
                **mixed.judged.mean.as_json(),
                "worst": {"condition": mixed.judged.worst[0], "balanced_accuracy": mixed.judged.worst[1]},
                "conditions": {name: found.balanced_accuracy for name, found in mixed.judged.conditions.items()},
                "n": len(job.judge.images),
                "what": "mean over validation as it is and under each condition family",
            },
            "probe": {
                **progress.start.judged.clean.as_json(),
                "judged": progress.start.judged.value("balanced_accuracy"),
                "head": progress.start.head,
                "strength": progress.start.strength,
                "far_domain": progress.start.far,
                "compared": progress.start.compared,
            },
            "batch_norm": {
                "statistics": _statistics(outcome),
                "start": progress.start.statistics,
                "why": progress.treatment.why,
                "trials": {name: _brief(found) for name, found in progress.treatment.trials.items()},
            },
            "adapted": progress.treatment.changes,
            "odds": progress.odds,
            "interpolation": mixed.as_json(),
            "retained": _retained(job, finished, retained_after),
            "calibration": calibration.as_json(),
            "operating_points": points,
            "warnings": list(job.data.warnings),
            "cost": _cost(job, outcome, clock),
        }
    )


def _statistics(outcome: Outcome) -> str:
    """Return what became of batch-normalisation statistics, in a word."""
    treatment, start = outcome.progress.treatment, outcome.progress.start
    return start.statistics if treatment.frozen else "trained"


def _brief(judged: Judged) -> Json:
    return {"balanced_accuracy": judged.clean.balanced_accuracy, "judged": judged.value("balanced_accuracy")}


def _retained(job: Job, finished: Finished, after: Json | None) -> Json | None:
    if job.retained is None or finished.retained_before is None or after is None:
        return None
    before = finished.retained_before
    return {
        "dataset": job.retained.name,
        "before": before,
        "after": after,
        "forgetting": {
            split: before[split]["balanced_accuracy"] - after[split]["balanced_accuracy"] for split in before
        },
        "max_forgetting": job.settings.max_forgetting,
        "replay": job.settings.replay,
    }


def _cost(job: Job, outcome: Outcome, clock: Clock) -> Json:
    progress = outcome.progress
    parameters = sum(parameter.numel() for parameter in job.model.parameters())
    return {
        "seconds": round(sum(clock.seconds.values()), 1),
        "seconds_by_phase": {name: round(seconds, 1) for name, seconds in clock.seconds.items()},
        "images_trained": progress.images,
        "parameters": parameters,
        "trainable_share": outcome.trainable_share,
        "waiting_share": progress.waited / progress.seconds if progress.seconds else None,
        "device": job.engine.fabric.device.type,
        "processes": job.team.size,
        "mode": job.engine.mode,
        "images_per_second_by_mode": job.engine.speeds,
        "batch_parts": progress.parts,
        "rollbacks": progress.rollbacks,
        "peak_memory_mib": _peak_memory(),
        "energy": _energy(clock, job.engine.fabric.device.type),
    }


def _peak_memory() -> int | None:
    """Return the process's largest resident set in MiB, or None where the system doesn't say."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _energy(clock: Clock, device: str) -> Json:
    if device != "cpu":
        return {"watt_hours": None, "method": "not estimated on a GPU: no meter is read"}
    return {
        "watt_hours": clock.processor * WATTS_PER_CORE / 3600,
        "method": f"{clock.processor:.0f} processor seconds at an assumed {WATTS_PER_CORE:.0f} W a core",
    }
