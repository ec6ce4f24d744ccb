"""The network of a bundle on a device: levels in, outputs out, from any number of threads."""

import importlib
import logging
import threading
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from imaging_ft.bundle import LEVELS
from imaging_ft.inference.providers import Device, Opened

Batch = npt.NDArray[np.uint8 | np.float32]
"""Levels [n, channels, height, width]."""
Outputs = dict[str, npt.NDArray[Any]]

_LOG = logging.getLogger("imaging_ft")
_UNGRAPHED = "-1"
"""The graph id by which onnxruntime neither captures nor replays a CUDA graph."""


class Network(Protocol):
    """Runs batches of levels."""

    def run(self, levels: Batch, outputs: Sequence[str]) -> Outputs:
        """Return outputs [n, …] for levels [n, channels, height, width]; raises whatever onnxruntime raises."""
        ...


class OnCpu:
    """Runs a batch as it comes: a session's `run` is safe from many threads, and the CPU gains nothing by padding."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def run(self, levels: Batch, outputs: Sequence[str]) -> Outputs:
        """Return outputs [n, …] for levels [n, channels, height, width]."""
        return dict(zip(outputs, self._session.run(list(outputs), {LEVELS: levels}), strict=True))


class OnGpu:
    """Runs batches of a few sizes, each in memory of its own on both sides that stays where it is.

    A batch is padded to the next larger size with its own first image, and larger ones are cut. So kernels are tuned
    once for each size, nothing is allocated while it runs, and a captured CUDA graph can be replayed. One batch at a
    time: the buffers are shared.
    """

    def __init__(self, opened: Opened, shape: tuple[int, int, int], batches: Sequence[int], *, graphs: bool) -> None:
        self._session = opened.session
        self._shape = shape
        self._sizes = sorted(set(batches))
        self._graphs = graphs
        self._alone = threading.Lock()
        self._bound: dict[int, _Bound] = {}
        self._names = [output.name for output in opened.session.get_outputs()]

    def run(self, levels: Batch, outputs: Sequence[str]) -> Outputs:
        """Return outputs [n, …] for levels [n, channels, height, width]."""
        parts: list[Outputs] = []
        with self._alone:
            for start in range(0, len(levels), self._sizes[-1]):
                part = levels[start : start + self._sizes[-1]]
                parts.append(self._one(part, outputs))
        return parts[0] if len(parts) == 1 else {name: np.concatenate([one[name] for one in parts]) for name in outputs}

    def _one(self, levels: Batch, outputs: Sequence[str]) -> Outputs:
        size = bucket(len(levels), self._sizes)
        if size not in self._bound:
            self._bound[size] = self._bind(size, levels.dtype)
        found = self._bound[size].run(padded(levels, size))
        return {name: found[name][: len(levels)].copy() for name in outputs}

    def _bind(self, size: int, dtype: np.dtype[Any]) -> "_Bound":
        if self._graphs:
            try:
                return _Bound(self._session, (size, *self._shape), dtype, self._names, graph=len(self._bound))
            except Exception as error:  # noqa: BLE001 - onnxruntime raises its own kinds, without a common base
                _LOG.debug("no CUDA graph for batches of %d: %s", size, error)
                self._graphs = False
        return _Bound(self._session, (size, *self._shape), dtype, self._names, graph=None)


class _Bound:
    """A batch size's input and outputs on the device, bound to a session once."""

    def __init__(
        self, session: Any, shape: tuple[int, ...], dtype: np.dtype[Any], names: Sequence[str], *, graph: int | None
    ) -> None:
        ort: Any = importlib.import_module("onnxruntime")

        self._session = session
        self._names = list(names)
        self._options: Any = ort.RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", _UNGRAPHED if graph is None else str(graph + 1))
        self._input: Any = ort.OrtValue.ortvalue_from_shape_and_type(shape, dtype.type, "cuda", 0)
        self._binding: Any = session.io_binding()
        self._binding.bind_ortvalue_input(LEVELS, self._input)
        blank = np.zeros(shape, dtype)
        if graph is None:
            for name in self._names:
                self._binding.bind_output(name, "cuda", 0)
        else:
            # A graph replays into the addresses that it was captured with, so the outputs' shapes are asked for first.
            for name, value in zip(self._names, self._probe(session, blank), strict=True):
                self._binding.bind_ortvalue_output(
                    name, ort.OrtValue.ortvalue_from_shape_and_type(value.shape, value.dtype.type, "cuda", 0)
                )
        self.run(blank)  # tunes kernels and, with a graph, captures it

    def _probe(self, session: Any, blank: Batch) -> list[Any]:
        ort: Any = importlib.import_module("onnxruntime")

        options: Any = ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", _UNGRAPHED)
        return session.run(self._names, {LEVELS: blank}, options)

    def run(self, levels: Batch) -> Outputs:
        """Return every output for a batch of just this size."""
        self._input.update_inplace(np.ascontiguousarray(levels))
        self._session.run_with_iobinding(self._binding, self._options)
        return dict(zip(self._names, self._binding.copy_outputs_to_cpu(), strict=True))


def network_of(opened: Opened, shape: tuple[int, int, int], batches: Sequence[int], *, graphs: bool) -> Network:
    """Return what runs a session for levels of a shape [channels, height, width], on the device that it's on."""
    if opened.device is Device.CPU:
        return OnCpu(opened.session)
    return OnGpu(opened, shape, batches, graphs=graphs)


def bucket(count: int, sizes: Sequence[int]) -> int:
    """Return the smallest of some sizes, in their order, that holds so many images."""
    return next(size for size in sizes if size >= count)


def padded(levels: Batch, size: int) -> Batch:
    """Return a batch of a size, its first image repeated at the end: real values, which overflow nowhere."""
    missing = size - len(levels)
    return levels if missing == 0 else np.concatenate([levels, np.repeat(levels[:1], missing, axis=0)])
