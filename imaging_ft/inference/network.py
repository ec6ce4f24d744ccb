"""The network of a bundle on a device: levels in, outputs out, from any number of threads."""

import logging
from collections.abc import Sequence
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
SIZES = (1, 2, 4, 8, 16, 32)
"""The batches of a file that names none."""
_LOG = logging.getLogger("imaging_ft")
_DTYPES = {"tensor(uint8)": np.dtype(np.uint8), "tensor(float)": np.dtype(np.float32)}


class Network(Protocol):
    """Runs batches."""

    def run(self, batch: Batch, outputs: Sequence[str]) -> Outputs:
        """Return outputs [n, …] for a batch [n, …]; raises whatever onnxruntime raises."""
        ...


class OnCpu:
    """Runs batches as they come: a session's `run` is safe from many threads, and the CPU gains nothing by padding."""

    def __init__(self, session: Any, name: str, most: int) -> None:
        """Take a session, its input's name, and how many images it runs at a time: its memory grows with them."""
        self._session = session
        self._name = name
        self._most = most

    def run(self, batch: Batch, outputs: Sequence[str]) -> Outputs:
        """Return outputs [n, …] for a batch [n, …]."""
        names = list(outputs)
        found = [
            self._session.run(names, {self._name: batch[start : start + self._most]})
            for start in range(0, len(batch), self._most)
        ]
        merged = found[0] if len(found) == 1 else [np.concatenate(parts) for parts in zip(*found, strict=True)]
        return dict(zip(names, merged, strict=True))


class Start(Protocol):
    """Opens a session."""

    def __call__(self, *, graphs: bool) -> Opened:
        """Return a session, with CUDA graphs where it can and may."""
        ...


def open_network(
    start: Start, shape: tuple[int, int, int], sizes: Sequence[int], *, most: int = MAX_BATCH
) -> tuple[Opened, Network]:
    """Return a session and what runs it, as `network_of` does; without CUDA graphs where one can't be captured.

    Raises DeviceError where the GPU can't run even the smallest batch, and what `start` raises.
    """
    opened = start(graphs=True)
    if opened.graphs:
        try:
            return opened, network_of(opened, shape, sizes, graphs=True, most=most)
        except Exception as error:  # noqa: BLE001 - onnxruntime raises its own kinds, without a common base
            _LOG.debug("without CUDA graphs: %s", error)
        opened = start(graphs=False)
    try:
        return opened, network_of(opened, shape, sizes, graphs=False, most=most)
    except Exception as error:
        raise DeviceError(
            f"--device {opened.device}: started, but can't run this model: {reason(error)}; use --device cpu"
        ) from error


def network_of(
    opened: Opened, shape: tuple[int, int, int], sizes: Sequence[int], *, graphs: bool, most: int = MAX_BATCH
) -> Network:
    """Return what runs a session for images of a shape: on a GPU in batches of `sizes`, on the CPU `most` at a time.

    On a GPU each size has run once then; raises whatever onnxruntime raises where that fails.
    """
    given = opened.session.get_inputs()[0]
    if opened.device is Device.CPU:
        return OnCpu(opened.session, given.name, most)
    network = OnGpu(
        opened.session, Given(given.name, shape, _DTYPES[given.type]), sizes, graphs=graphs, memory=opened.memory
    )
    network.start()
    return network
