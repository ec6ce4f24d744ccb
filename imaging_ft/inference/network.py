"""The network of a bundle on a device: levels in, outputs out, from any number of threads."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from imaging_ft.config import reason
from imaging_ft.errors import DeviceError
from imaging_ft.inference.gpu import Given, OnGpu
from imaging_ft.inference.providers import Device, Opened

Batch = npt.NDArray[np.uint8 | np.float32]
"""Levels [n, channels, height, width]."""
Outputs = dict[str, npt.NDArray[Any]]

MAX_BATCH = 32
PIECE = 4
"""Images that a core runs together."""
TOO_LARGE = 256 << 20
"""Bytes of a network that isn't kept twice."""
SIZES = (1, 2, 4, 8, 16, 32)
"""The batches of a file that names none."""
_LOG = logging.getLogger("imaging_ft")
_DTYPES = {"tensor(uint8)": np.dtype(np.uint8), "tensor(float)": np.dtype(np.float32)}


class Network(Protocol):
    """Runs batches."""

    @property
    def best(self) -> int:
        """How many images at once keep the device busy; more of them only wait longer."""
        ...

    def run(self, batch: Batch, outputs: Sequence[str]) -> Outputs:
        """Return outputs [n, …] for a batch [n, …]; raises whatever onnxruntime raises."""
        ...


class OnCpu:
    """Runs a few images on all cores together, and more of them side by side: pieces of a batch, a core each.

    Cores that share a layer wait for each other at its end, and a large batch leaves their caches: on two cores, pieces
    of four are a tenth faster than a batch of 32 on both. A session's `run` is safe from many threads.
    """

    def __init__(self, session: Any, name: str, *, most: int, alone: Any = None, lanes: int = 1) -> None:
        """Take a session for all cores and its input's name; `alone` is one for a single core, of which `lanes` run.

        `most` images go together at most.
        """
        self._session = session
        self._name = name
        self._most = most
        self._alone = session if alone is None else alone
        self._lanes = 1 if alone is None else lanes
        self._pool = ThreadPoolExecutor(lanes, thread_name_prefix="lane") if self._lanes > 1 else None

    @property
    def best(self) -> int:
        """Two pieces for each core, so that one which is done early isn't idle."""
        return 2 * self._lanes * min(self._most, PIECE)

    def run(self, batch: Batch, outputs: Sequence[str]) -> Outputs:
        """Return outputs [n, …] for a batch [n, …]."""
        names, count = list(outputs), len(batch)
        few = count < self._lanes
        session = self._session if few else self._alone
        size = self._most if few else min(self._most, PIECE, -(-count // self._lanes))

        def run(start: int) -> list[Any]:
            return session.run(names, {self._name: batch[start : start + size]})

        starts = range(0, count, size)
        found = list(map(run, starts) if few or self._pool is None else self._pool.map(run, starts))
        merged = found[0] if len(found) == 1 else [np.concatenate(parts) for parts in zip(*found, strict=True)]
        return dict(zip(names, merged, strict=True))


class Start(Protocol):
    """Opens a session."""

    def __call__(self, *, graphs: bool) -> Opened:
        """Return a session, with CUDA graphs where it can and may."""
        ...


@dataclass(frozen=True)
class Lanes:
    """How many images run side by side on a CPU, and what opens a session that runs on one core."""

    count: int
    open: Callable[[], Any]


def open_network(
    start: Start,
    shape: tuple[int, int, int],
    sizes: Sequence[int],
    *,
    most: int = MAX_BATCH,
    lanes: Lanes | None = None,
) -> tuple[Opened, Network]:
    """Return a session and what runs it, as `network_of` does; without CUDA graphs where one can't be captured.

    On the CPU `most` images go together at most, and with `lanes` so many pieces of a batch side by side. Raises
    DeviceError where the GPU can't run even the smallest batch, and what `start` raises.
    """
    opened = start(graphs=True)
    if opened.device is Device.CPU:
        alone = None if lanes is None else lanes.open()
        name = opened.session.get_inputs()[0].name
        return opened, OnCpu(opened.session, name, most=most, alone=alone, lanes=lanes.count if lanes else 1)
    if opened.graphs:
        try:
            return opened, network_of(opened, shape, sizes, graphs=True)
        except Exception as error:  # noqa: BLE001 - onnxruntime raises its own kinds, without a common base
            _LOG.debug("without CUDA graphs: %s", error)
        opened = start(graphs=False)
    try:
        return opened, network_of(opened, shape, sizes, graphs=False)
    except Exception as error:
        raise DeviceError(
            f"--device {opened.device}: started, but can't run this model: {reason(error)}; use --device cpu"
        ) from error


def network_of(opened: Opened, shape: tuple[int, int, int], sizes: Sequence[int], *, graphs: bool) -> Network:
    """Return what runs a session on a GPU for images of a shape, in batches of `sizes`.

    Each size has run once then; raises whatever onnxruntime raises where that fails.
    """
    given = opened.session.get_inputs()[0]
    network = OnGpu(
        opened.session, Given(given.name, shape, _DTYPES[given.type]), sizes, graphs=graphs, memory=opened.memory
    )
    network.start()
    return network
