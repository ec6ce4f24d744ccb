"""Ours, by the command line that a user would type."""

import csv
import json
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file

from benchmarks.training.frozen import Frozen
from benchmarks.training.peer import Peer, row
from benchmarks.training.plan import METHODS, Options, Work
from imaging_ft.training.metrics import Score
from imaging_ft.training.run import RunFolder
from imaging_ft.types import Json

SET_UP = ("model", "check", "load", "measure")
"""Phases of `summary.json` that the peers' seconds hold no counterpart of: their images are in memory already."""
AFTER = ("interpolate", "calibrate")
"""Phases that follow the epochs; whatever else is neither set-up nor an epoch is laid before the first epoch."""
_LOOK_EVERY = 0.5


@dataclass(frozen=True)
class Run:
    """A finished run and what it cost."""

    path: Path
    summary: Json
    seconds: float
    """Of training: probe, trials, epochs with their validation, calibration; without set-up."""
    command: list[str]
    """The options of `imaging-ft train`."""


def train(frozen: Frozen, work: Work, options: Options, folder: Path) -> Run:
    """Run `imaging-ft train` in a process of its own; raises CalledProcessError where it fails.

    Each epoch's weights are kept aside as they are written, for the test curve that is drawn afterwards.
    """
    out = folder / "run"
    if out.exists():
        shutil.rmtree(out)  # of an attempt that was broken off
    chosen = [*METHODS[work.method].options, "--seed", str(work.seed), "--size", str(options.size)]
    chosen += ["--device", options.device]
    if options.epochs is not None:
        chosen += ["--epochs", str(options.epochs)]
    if options.precision != "auto":
        chosen += ["--set", f"precision={options.precision}"]
    command = [sys.executable, "-m", "imaging_ft", "train", str(frozen.card), "--out", str(out), *chosen]
    done = threading.Event()
    keeper = threading.Thread(target=_keep_epochs, args=(out / "checkpoints", folder / "epochs", done))
    keeper.start()
    try:
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    finally:
        done.set()
        keeper.join()
    summary = RunFolder.open(out).read_json("summary.json")
    phases: dict[str, float] = summary["cost"]["seconds_by_phase"]
    seconds = sum(found for phase, found in phases.items() if phase not in SET_UP)
    return Run(out, summary, seconds, chosen)


def curve(run: Run, peer: Peer, folder: Path) -> list[Json]:
    """Return a row an epoch: seconds of training until then, validation scores and, where kept, test scores.

    What else the training took (probe, trials) is laid before the first epoch; epoch 0 is the probe.
    """
    with (run.path / "history.csv").open(newline="") as file:
        history = list(csv.DictReader(file))
    phases: dict[str, float] = run.summary["cost"]["seconds_by_phase"]
    in_epochs = sum(float(found["seconds"]) for found in history)
    before = max(0.0, run.seconds - in_epochs - sum(phases.get(phase, 0.0) for phase in AFTER))
    seconds = phases.get("probe", before)
    rows: list[Json] = []
    for found in history:
        epoch = int(found["epoch"])
        seconds = (before if epoch == 1 else seconds) + float(found["seconds"])
        validation = Score(float(found["val_balanced_accuracy"]), float(found["val_accuracy"]), float("nan"))
        rows.append(row(epoch, seconds, validation, _test_score(peer, run, folder / "epochs", epoch)))
    return rows


def _test_score(peer: Peer, run: Run, kept: Path, epoch: int) -> Score | None:
    """Return the test score of an epoch's kept weights, or None where none were kept."""
    path = kept / f"{epoch}.safetensors"
    if not path.is_file():
        return None
    model, _ = RunFolder.open(run.path).read_model()
    stored = load_file(path)
    wanted = {name: stored[name] for name in model.state_dict() if name in stored}
    model.load_state_dict(wanted)
    return peer.score(peer.engine.place(model), peer.test)


def _keep_epochs(checkpoints: Path, kept: Path, done: threading.Event) -> None:
    """Copy the last checkpoint's weights whenever it is of a new epoch, until the training is done.

    The weights are renamed into place before the JSON file that names their epoch, so the two belong together for
    as long as an epoch takes.
    """
    if kept.exists():
        shutil.rmtree(kept)
    kept.mkdir(parents=True)
    last = None
    while True:
        finished = done.wait(_LOOK_EVERY)
        try:
            epoch = json.loads((checkpoints / "last.json").read_text(encoding="utf-8"))["epoch"]
        except (OSError, ValueError, KeyError):
            epoch = None  # none was written yet
        weights = checkpoints / "last.safetensors"
        if epoch is not None and epoch != last and weights.is_file():
            shutil.copyfile(weights, kept / f"{epoch}.safetensors")
            last = epoch
        if finished:
            return
