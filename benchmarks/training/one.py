"""One training and its measurement, in a process of its own: `python -m benchmarks.training.one WORK OPTIONS OUT`.

WORK and OPTIONS are JSON; the result is OUT/<name>.json, and what it was made from OUT/work/<name>/.
"""

import json
import platform
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.training import ours
from benchmarks.training.budget import Trained, fair
from benchmarks.training.frozen import freeze
from benchmarks.training.peer import Peer, open_peer
from benchmarks.training.plan import METHODS, SCHEMA, Options, Work
from benchmarks.training.score import measured, write_bundle
from imaging_ft.export.onnx import export_run
from imaging_ft.training.provenance import git_revision
from imaging_ft.training.run import plain, write_text
from imaging_ft.types import Json, Split

_LIBRARIES = ("torch", "torchvision", "timm", "fastai", "albumentations", "onnxruntime-gpu", "onnxruntime", "numpy")


def main(work: Work, options: Options, out: Path) -> None:
    """Train, measure and write the result; what was trained is deleted but for the model."""
    start = time.perf_counter()
    folder = out / "work" / work.name
    frozen = freeze(
        work.dataset, folder / "data", fraction=work.fraction, seed=work.seed, limit_test=options.limit_test
    )
    peer = open_peer(frozen, work, options)
    bundle = folder / "model.onnx"
    if METHODS[work.method].kind == "ours":
        run = ours.train(frozen, work, options, folder)
        curve = ours.curve(run, peer, folder)
        export_run(run.path, bundle, data=str(frozen.card))
        reached = run.summary["validation"]
        trained: Json = {
            "seconds": run.seconds,
            "seconds_by_phase": run.summary["cost"]["seconds_by_phase"],
            "epochs": run.summary["epochs"],
            "mode": run.summary["cost"]["mode"],
            "validation": {name: reached[name] for name in ("accuracy", "balanced_accuracy")},
            "settings": {"options": run.command},
            "curve": curve,
        }
    else:
        train, settings = _peer_method(work.method, peer)
        budget = fair(train, first=options.peer_epochs, most=options.peer_max_epochs)
        best = budget.best
        write_bundle(best.model, peer, bundle)
        trained = {
            "seconds": best.seconds,
            "epochs": best.epochs,
            "mode": peer.engine.mode,
            "validation": {
                "accuracy": best.validation.accuracy,
                "balanced_accuracy": best.validation.balanced_accuracy,
            },
            "settings": settings,
            "schedules": budget.schedules,
            "curve": best.curve,
        }
    found = measured(bundle, frozen.card, threads=options.threads)
    data = frozen.data
    result = {
        "schema": SCHEMA,
        **asdict(work),
        "name": data.card.name,
        "options": options.to_json(),
        "images": {split.value: len(data.of(split)) for split in Split},
        "trained": trained,
        "measured": found,
        "wall_seconds": time.perf_counter() - start,
        "machine": machine(options),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    for name in ("run/checkpoints", "epochs"):
        shutil.rmtree(folder / name, ignore_errors=True)
    write_text(out / f"{work.name}.json", json.dumps(plain(result), indent=1, ensure_ascii=False) + "\n")


def _peer_method(method: str, peer: Peer) -> tuple[Callable[[int], Trained], Json]:
    """Return a peer's training, which takes a number of epochs, and its settings for the result."""
    if METHODS[method].kind == "fastai":
        from benchmarks.training.fastai_peer import settings, train_fastai

        strong = method == "fastai_strong"
        return partial(train_fastai, peer, strong=strong), settings(peer, strong=strong)
    from benchmarks.training.torch_peers import LPFT, TIMM, train_lpft, train_timm

    return (partial(train_timm, peer), TIMM) if method == "timm" else (partial(train_lpft, peer), LPFT)


def machine(options: Options) -> Json:
    """Return what the numbers depend on: processor, threads, versions, revision."""
    return {
        "processor": _processor(),
        "threads": options.threads,
        "gpu": _gpu() if options.device == "cuda" else None,
        "python": platform.python_version(),
        "libraries": {name: found for name in _LIBRARIES if (found := _version(name))},
        "git_revision": git_revision(),
    }


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name()


def _processor() -> str:
    """Return the processor's name as Linux tells it, else the architecture."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    main(Work(**json.loads(sys.argv[1])), Options(**json.loads(sys.argv[2])), Path(sys.argv[3]))
