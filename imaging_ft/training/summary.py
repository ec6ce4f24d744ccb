"""What a run reached and what it cost: `summary.json`."""

import sys
import time
from dataclasses import asdict

from imaging_ft.training.calibrate import Calibration
from imaging_ft.training.fit import NormChoice
from imaging_ft.training.job import Best, Job
from imaging_ft.training.metrics import Score
from imaging_ft.training.probe import Probe
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
        self._last = time.perf_counter()
        self._processor = time.process_time()

    def lap(self, phase: str) -> None:
        """Count the time since the last lap towards a phase."""
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._last
        self.processor = time.process_time() - self._processor
        self._last = now


def summarise(job: Job, probe: Probe, best: Best, choice: NormChoice, calibration: Calibration, clock: Clock) -> Json:
    """Return what `summary.json` holds."""
    epochs = len(best.rows) - 1
    trainable = sum(parameter.numel() for parameter in job.model.parameters())
    return plain(
        {
            "model": job.model.name,
            "recipe": job.recipe.name,
            "best_epoch": best.epoch,
            "epochs": epochs,
            "interrupted": best.interrupted,
            "validation": {
                **_score(best.clean),
                "n": len(job.val),
                "groups": job.data.units(job.data.of(Split.VAL)),
                "split": job.data.split_method,
            },
            "judged": {**_score(best.score), "n": len(job.judged.images), "what": "validation, clean and augmented"},
            "probe": {
                **_score(probe.score),
                "strength": probe.strength,
            },
            "batch_norm": {
                "statistics": "frozen" if choice.frozen else "trained",
                "why": choice.why,
                "trials": {name: _score(found) for name, found in choice.trials.items()},
            },
            "calibration": asdict(calibration),
            "warnings": list(job.data.warnings),
            "cost": {
                "seconds": round(sum(clock.seconds.values()), 1),
                "seconds_by_phase": {name: round(seconds, 1) for name, seconds in clock.seconds.items()},
                "images_trained": epochs * len(job.train),
                "parameters": trainable,
                "device": job.engine.fabric.device.type,
                "mode": job.engine.mode,
                "images_per_second_by_mode": job.engine.speeds,
                "peak_memory_mib": _peak_memory(),
                "energy": _energy(clock, job.engine.fabric.device.type),
            },
        }
    )


def _score(found: Score) -> Json:
    return {"balanced_accuracy": found.balanced_accuracy, "accuracy": found.accuracy, "loss": found.loss}


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
