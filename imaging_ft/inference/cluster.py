"""Predictions on many machines: Ray Data hands the files to runners that stay open, and gives the rows in order.

Model and images have to be readable under the same paths on every machine, as on a shared file system.
"""

import importlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from imaging_ft.config import reason
from imaging_ft.errors import InputError
from imaging_ft.inference.predictions import CHUNK, predict_files
from imaging_ft.inference.providers import Device
from imaging_ft.inference.runner import Runner


def predict_on_ray(
    model: Path,
    paths: Iterable[Path],
    *,
    device: Device = Device.AUTO,
    public_key: Path | None = None,
    workers: int | None = None,
    address: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the row of each file, in order: the same as `predict_files` gives here.

    `workers` runners are opened, each on a core or a GPU of its own; by default as many as the cluster has. `address`
    is a cluster's; without one it's the cluster that RAY_ADDRESS names, or one that is started on this machine.
    Raises InputError where Ray isn't installed, can't be reached, or a worker fails.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    try:
        ray = importlib.import_module("ray")
        data = importlib.import_module("ray.data")
    except ImportError as error:
        raise InputError(f"--engine ray needs Ray ({reason(error)}): pip install 'imaging-ft[scale]'") from error
    started = not ray.is_initialized()
    try:
        if started:
            ray.init(address=address, log_to_driver=False, include_dashboard=False, configure_logging=False)
        on_gpu = device in {Device.CUDA, Device.TENSORRT}
        there = ray.cluster_resources()
        count = workers or max(1, int(there.get("GPU" if on_gpu else "CPU", 1)))
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        files = data.from_items([{"path": str(path)} for path in paths])
        rows = files.map_batches(
            Worker,
            fn_constructor_args=(str(model.resolve()), device.value, str(public_key.resolve()) if public_key else None),
            batch_size=CHUNK,
            compute=data.ActorPoolStrategy(size=count),
            num_cpus=0 if on_gpu else 1,
            num_gpus=1 if on_gpu else None,
        )
        for batch in rows.iter_batches(batch_size=None, batch_format="numpy"):
            for text in batch["row"]:
                yield json.loads(text)
    except InputError:
        raise
    except Exception as error:  # Ray wraps whatever a worker raised in kinds of its own
        raise InputError(f"--engine ray: {_cause(error)}") from error
    finally:
        if started:
            ray.shutdown()


class Worker:
    """A runner on one machine of a cluster; opened once, and given chunks of paths."""

    def __init__(self, model: str, device: str, public_key: str | None) -> None:
        key = Path(public_key) if public_key else None
        threads = None if Device(device) in {Device.CUDA, Device.TENSORRT} else 1
        self._runner = Runner.open(Path(model), device=Device(device), threads=threads, public_key=key)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Return each path's row as JSON: what is null in a row would otherwise depend on its batch."""
        names, sha256 = self._runner.bundle.names, self._runner.sha256
        found = predict_files(self._runner, [Path(path) for path in batch["path"]])
        return {"row": [json.dumps(one.row(names, sha256)) for one in found]}


def _cause(error: BaseException) -> str:
    """Return what a worker said, from inside what Ray made of it."""
    while (inner := getattr(error, "cause", None) or error.__cause__) is not None and inner is not error:
        error = inner
    return reason(error).splitlines()[-1]
