"""How long the trainings that are left will take: from results so far, else from this machine's speed."""
# ruff: noqa: T201 - a command prints

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.training.plan import METHODS, Options, Work
from imaging_ft.augment.conditions import load_suite
from imaging_ft.data import prepare
from imaging_ft.types import Json, Split

PASSES = {"ours": 14.0, "fastai": 1.2, "torch": 1.1}
"""Passes over the training images: in all for ours (probe, trials, 8 epochs, validation under change), and per epoch
of a schedule for a peer (validation and its test curve included)."""
_INFERENCE = 6.0
"""Images that are measured in the time that one takes to train on, conditions included."""
_AROUND = 40.0
"""Seconds of imports, decoding, export and parity."""
_FALLBACK_SUITE = "camera"


def estimate(left: Sequence[Work], options: Options, done: Sequence[Json]) -> dict[Work, float]:
    """Return seconds for each training that is left.

    Where the same method has been run on the data set with the same share, its wall time is taken. Else they are
    worked out from images, passes and the speed of a few steps; a peer may need fewer schedules than it is allowed.
    """
    known: dict[tuple[str, str, float], list[float]] = {}
    for result in done:
        key = (result["dataset"], result["method"], result["fraction"])
        known.setdefault(key, []).append(result["wall_seconds"])
    guessed = [work for work in left if (work.dataset, work.method, work.fraction) not in known]
    speed = _speed(options) if guessed else 1.0
    counts = {dataset: _counts(dataset, options) for dataset in {work.dataset for work in guessed}}
    return {
        work: float(np.mean(known[key]))
        if (key := (work.dataset, work.method, work.fraction)) in known
        else _worked_out(work, options, speed, *counts[work.dataset])
        for work in left
    }


def spoken(seconds: float) -> str:
    """Return a time as a person says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _worked_out(work: Work, options: Options, speed: float, train: int, measured: int) -> float:
    kind = METHODS[work.method].kind
    if kind == "ours":
        passes = PASSES[kind] * (1 if options.epochs is None else (options.epochs + 3) / 11)
    else:
        epochs, schedules = options.peer_epochs, 0
        while epochs <= options.peer_max_epochs:
            schedules += epochs
            epochs *= 2
        passes = PASSES[kind] * schedules
    return _AROUND + passes * train * work.fraction / speed + measured / (_INFERENCE * speed)


def _counts(dataset: str, options: Options) -> tuple[int, int]:
    """Return how many images train, and how many are measured under all conditions together."""
    data = prepare(dataset, decode=frozenset())
    tested = min(len(data.of(Split.TEST)), options.limit_test or sys.maxsize)
    settings = load_suite(data.card.conditions or _FALLBACK_SUITE).settings()
    return len(data.of(Split.TRAIN)), tested * len(settings)


def _speed(options: Options) -> float:
    """Return training images a second in the fastest mode, from a few steps in a process of its own."""
    program = [sys.executable, "-m", "benchmarks.training.estimate", json.dumps(options.to_json())]
    env = {**os.environ, "OMP_NUM_THREADS": str(options.threads), "PYTHONWARNINGS": "ignore"}
    root = Path(__file__).resolve().parents[2]
    found = subprocess.run(program, cwd=root, env=env, capture_output=True, text=True, check=True)
    return float(found.stdout.split()[-1])


def _measure(options: Options) -> float:
    import torch

    from imaging_ft.models.factory import create
    from imaging_ft.models.weights import EMBEDDED
    from imaging_ft.training.engine import make_engine

    levels = torch.randint(0, 256, (32, 1, options.size, options.size), dtype=torch.uint8)
    model = create(EMBEDDED, classes=4)
    # Every mode is timed, so that there is a speed even where the precision is set.
    engine = make_engine(model, levels, device=options.device, precision="auto", classes=4)
    wanted = [speed for mode, speed in engine.speeds.items() if options.precision in {"auto", mode.partition(",")[0]}]
    return max(wanted)


if __name__ == "__main__":
    print(_measure(Options(**json.loads(sys.argv[1]))))
