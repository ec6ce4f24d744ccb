"""A network on a GPU: batches of a few sizes, in memory that stays where it is, by the one thread that uses the GPU."""

import ctypes
import importlib
import logging
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from imaging_ft.config import reason
from imaging_ft.inference.providers import DRIVER, STARTING

_LOG = logging.getLogger("imaging_ft")
_THREAD = ThreadPoolExecutor(max_workers=1, thread_name_prefix="gpu")
"""onnxruntime keeps a CUDA graph for the thread that captured it, and a capture fails where another thread uses the GPU
meanwhile (its cuda_graph.cc): so one thread captures and runs, for every model of the process."""
_UNGRAPHED = "-1"
"""The graph id by which onnxruntime neither captures nor replays a CUDA graph."""
_APART = 0.01
"""By how much, relative to the largest, a value may move by a CUDA graph: kernels add up in another order."""

Values = npt.NDArray[Any]


@dataclass(frozen=True)
class Given:
    """A network's input."""

    name: str
    shape: tuple[int, int, int]
    """For one image."""
    dtype: np.dtype[Any]


class OnGpu:
    """Runs batches of a few sizes, each in memory of its own on the GPU.

    A batch is filled up to the next larger size with its own first image, and a larger one is cut. So kernels are
    chosen once for each size, nothing is allocated while it runs, and a captured CUDA graph can be replayed.
    """

    def __init__(self, session: Any, given: Given, sizes: Sequence[int], *, graphs: bool, memory: str = "cuda") -> None:
        """Take a session; `memory` is onnxruntime's name of the device where the batches lie."""
        self._session = session
        self._given = given
        self.graphs = graphs
        """Whether batches are CUDA graphs, replayed."""
        self._memory = memory
        self._bound: dict[int, _Bound] = {}
        self._sizes = sorted(set(sizes))
        self._names = [output.name for output in session.get_outputs()]
        self._host = np.empty(0, given.dtype)
        """Where a batch is put together, in memory that the GPU reads by itself."""

    @property
    def best(self) -> int:
        """The largest size."""
        return self._sizes[-1]

    def start(self) -> None:
        """Run every size once, so that no request waits for it; sizes that don't fit into the GPU are left out.

        Raises whatever onnxruntime raises where not even the smallest runs, or where a CUDA graph can't be captured;
        after that the session is broken.
        """
        for size in self._sizes:
            if not _THREAD.submit(self._bind, size).result():
                break
        self._sizes = list(self._bound)
        _THREAD.submit(self._take_host).result()

    def run(self, batch: Values, outputs: Sequence[str]) -> dict[str, Values]:
        """Return outputs [n, …] for a batch [n, …]; safe from any thread, one batch at a time."""
        most = self._sizes[-1]
        parts = [
            _THREAD.submit(self._one, batch[start : start + most], outputs) for start in range(0, len(batch), most)
        ]
        found = [part.result() for part in parts]
        return found[0] if len(found) == 1 else {name: np.concatenate([one[name] for one in found]) for name in outputs}

    def _one(self, batch: Values, outputs: Sequence[str]) -> dict[str, Values]:
        count = len(batch)
        size = bucket(count, self._sizes)
        filled = self._host[:size]
        filled[:count] = batch
        filled[count:] = batch[0]  # real values, which overflow nowhere
        found = self._bound[size].run(filled)
        return {name: found[name][:count] for name in outputs}

    def _bind(self, size: int) -> bool:
        """Make a size ready; return whether it fits into the GPU."""
        try:
            bound = _Bound(self._session, self._given, size, self._names, self._memory)
        except Exception as error:
            if not self._bound:
                raise
            _LOG.warning("batches of %d and more don't run on the GPU: %s", size, reason(error))
            return False
        bound.capture(_UNGRAPHED if not self.graphs else str(len(self._bound) + 1))
        self._bound[size] = bound
        return True

    def _take_host(self) -> None:
        shape = (self._sizes[-1], *self._given.shape)
        self._host = np.empty(shape, self._given.dtype)
        if self._memory == "cuda":
            self._host = _pinned(self, shape, self._given.dtype)


class _Bound:
    """A batch size's input and outputs on the device, bound to a session once."""

    def __init__(self, session: Any, given: Given, size: int, names: Sequence[str], memory: str) -> None:
        ort: Any = importlib.import_module("onnxruntime")

        def room(shape: Sequence[int], dtype: np.dtype[Any]) -> Any:
            return ort.OrtValue.ortvalue_from_shape_and_type(shape, dtype.type, memory, 0)

        self._session = session
        self._given = given.name
        self._names = list(names)
        self._blank = np.zeros((size, *given.shape), given.dtype)
        self._options: Any = _for_graph(_UNGRAPHED)
        # Chooses the kernels, and says the outputs' shapes: a graph replays into the addresses it was captured with.
        shapes = session.run(self._names, {given.name: self._blank}, self._options)
        self._input = room(self._blank.shape, given.dtype)
        self._binding: Any = session.io_binding()
        self._binding.bind_ortvalue_input(given.name, self._input)
        for name, value in zip(self._names, shapes, strict=True):
            self._binding.bind_ortvalue_output(name, room(value.shape, value.dtype))

    def capture(self, graph: str) -> None:
        """Run once, as it will be run from now on: a graph of a new id is captured, and has to change nothing.

        Raises RuntimeError where it gives other values, as graphs over kernels that were chosen by trial did on an
        H100: they replay into memory that the trial had, and nothing says so.
        """
        self._options = _for_graph(graph)
        with STARTING:
            self.run(self._blank)
            if graph != _UNGRAPHED:
                self._prove()
        self._blank = np.empty(0)

    def _prove(self) -> None:
        noise = np.random.default_rng(0).integers(0, 256, self._blank.shape).astype(self._blank.dtype)
        wanted = self._session.run(self._names, {self._given: noise}, _for_graph(_UNGRAPHED))
        found = self.run(noise)
        for name, values in zip(self._names, wanted, strict=True):
            if not np.allclose(found[name], values, rtol=_APART, atol=_APART * float(np.abs(values).max())):
                raise RuntimeError(f"a CUDA graph of {len(noise)} images gives other {name}")

    def run(self, batch: Values) -> dict[str, Values]:
        """Return every output for a batch of just this size, contiguous."""
        self._input.update_inplace(batch)
        self._session.run_with_iobinding(self._binding, self._options)
        return dict(zip(self._names, self._binding.copy_outputs_to_cpu(), strict=True))


def bucket(count: int, sizes: Sequence[int]) -> int:
    """Return the smallest of some sizes, in their order, that holds so many images."""
    return next(size for size in sizes if size >= count)


def _for_graph(graph: str) -> Any:
    ort: Any = importlib.import_module("onnxruntime")
    options = ort.RunOptions()
    options.add_run_config_entry("gpu_graph_id", graph)
    return options


def _pinned(owner: object, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Values:
    """Return memory that stays in RAM, which the GPU reads twice as fast; ordinary where the driver gives none.

    It is given back once its owner is gone. To be called by the thread that has used the GPU.
    """
    size = int(np.prod(shape)) * dtype.itemsize
    address = ctypes.c_void_p()
    try:
        driver = ctypes.CDLL(DRIVER)
        code = driver.cuMemHostAlloc(ctypes.byref(address), ctypes.c_size_t(size), ctypes.c_uint(0))
    except (OSError, AttributeError) as error:
        _LOG.debug("no pinned memory: %s", error)
        return np.empty(shape, dtype)
    if code or not address.value:
        _LOG.debug("no pinned memory: the driver's error %d", code)
        return np.empty(shape, dtype)
    weakref.finalize(owner, _give_back, driver, address).atexit = False
    memory = memoryview((ctypes.c_uint8 * size).from_address(address.value))
    return np.asarray(memory).view(dtype).reshape(shape)


def _give_back(driver: Any, address: ctypes.c_void_p) -> None:
    with suppress(RuntimeError):  # where the interpreter ends, the process gives back all
        _THREAD.submit(driver.cuMemFreeHost, address)
