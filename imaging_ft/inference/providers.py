"""onnxruntime sessions on the device that was asked for; a device that can't run is an error, never a silent CPU."""

import ctypes
import importlib
import io
import logging
import os
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from imaging_ft.config import reason
from imaging_ft.errors import BundleError, DeviceError
from imaging_ft.preprocess import LEVELS
from imaging_ft.types import Precision

_LOG = logging.getLogger("imaging_ft")
_CPU = "CPUExecutionProvider"
_WARNING = 2
_SILENT = 4
"""onnxruntime's severity for fatal messages only: what goes wrong is said by our errors."""


class Device(StrEnum):
    """Where a model runs."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    TENSORRT = "tensorrt"


DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
"""NVIDIA's driver, as a library."""
STARTING = threading.Lock()
"""Held while a session starts on a GPU, and while a CUDA graph is captured: what one thread allocates on the GPU breaks
another's capture."""

_ORDER = (Device.TENSORRT, Device.CUDA, Device.CPU)
"""What `auto` tries."""
_PROVIDERS: dict[Device, tuple[str, ...]] = {
    Device.CPU: (_CPU,),
    Device.CUDA: ("CUDAExecutionProvider",),
    Device.TENSORRT: ("TensorrtExecutionProvider", "CUDAExecutionProvider"),
}


@dataclass(frozen=True)
class Tuning:
    """What a GPU has to know of a network beforehand."""

    shape: tuple[int, int, int]
    """Of its input for one image, such as channels, height, width."""
    batches: tuple[int, ...]
    precision: Precision
    cache: Path | None
    """The folder for TensorRT's engines and timings, of this very file; None: they are built at each start."""
    for_tensorrt: bool
    """Whether `auto` may take TensorRT: it builds for minutes, so by itself for files that were exported for it."""
    name: str = LEVELS
    """Of its input."""


@dataclass(frozen=True)
class Opened:
    """A session and the device it really runs on."""

    session: Any
    """An `onnxruntime.InferenceSession`."""
    device: Device
    graphs: bool = False
    """Whether it captures CUDA graphs."""
    memory: str = "cuda"
    """onnxruntime's name of where a GPU's batches lie."""


def open_session(
    model: bytes,
    device: Device,
    *,
    where: str,
    threads: int | None = None,
    spinning: bool = True,
    tuning: Tuning | None = None,
    graphs: bool = True,
) -> Opened:
    """Return a session for a model on a device; `auto` is TensorRT for its own files, else CUDA, else the CPU.

    `threads` run one batch on the CPU; None is as many as there are cores for this process. They wait for work
    `spinning`, or asleep. CUDA graphs are captured where `graphs` and `tuning` are given and the network allows it.
    Raises DeviceError where a device that was asked for can't run, and BundleError where the model can't be loaded at
    all.
    """
    started: Opened | str = ""
    for wanted in _ORDER if device is Device.AUTO else (device,):
        if device is Device.AUTO and wanted is Device.TENSORRT and not (tuning and tuning.for_tensorrt):
            continue
        started = start(model, wanted, where=where, threads=threads, spinning=spinning, tuning=tuning, graphs=graphs)
        if isinstance(started, Opened):
            return started
    raise DeviceError(f"--device {device}: can't run here: {started}; see imaging-ft doctor, or use --device cpu")


def start(
    model: bytes,
    device: Device,
    *,
    where: str,
    threads: int | None = None,
    spinning: bool = True,
    tuning: Tuning | None = None,
    graphs: bool = True,
) -> Opened | str:
    """Return a session for a model on a device (not `auto`), or in a few words why the device can't run.

    Raises BundleError where the model can't be loaded on the CPU.
    """
    ort: Any = importlib.import_module("onnxruntime")
    wanted = _PROVIDERS[device]
    if wanted[0] not in ort.get_available_providers():
        return f"this onnxruntime was built without {wanted[0]}"
    if device is not Device.CPU:
        return _no_driver() or _start_on_gpu(ort, model, device, where, tuning, graphs=graphs)
    try:
        options = _options(ort, threads, spinning=spinning)
        return Opened(ort.InferenceSession(model, options, providers=list(wanted)), device)
    except Exception as error:  # onnxruntime raises its own kinds, without a common base
        raise BundleError(f"{where}: onnxruntime can't load it: {reason(error)}") from error


def _start_on_gpu(
    ort: Any, model: bytes, device: Device, where: str, tuning: Tuning | None, *, graphs: bool
) -> Opened | str:
    """Open a session that may not fall back; where only single nodes lack a GPU kernel, say so and go on.

    Listing CUDA alone isn't enough: onnxruntime adds the CPU by itself, and only warns where CUDA can't start. A CUDA
    graph is taken where all that computes can be captured; shapes may be reckoned on the CPU.
    """
    first = _PROVIDERS[device][0]
    strict, lenient = _options(ort, None), _options(ort, None)
    strict.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    captured = [True, False] if device is Device.CUDA and tuning is not None and graphs else [False]
    refusal: Exception | None = None
    if device is Device.TENSORRT and tuning is not None:
        tuning = replace(tuning, cache=_made(tuning.cache))
    with STARTING, _quiet(ort):
        _preload(ort)
        for options, graph in [(options, graph) for options in (strict, lenient) for graph in captured]:
            try:
                providers = gpu_providers(device, tuning, graph=graph)
                session = ort.InferenceSession(model, options, providers=providers, enable_fallback=0)
            except Exception as error:  # noqa: BLE001 - onnxruntime raises its own kinds, without a common base
                refusal = error
                if missing := _missing_library(first):
                    return missing
                continue
            if first in session.get_providers():
                if options is lenient and not graph:
                    _LOG.warning("%s: some nodes have no kernel on %s and run on the CPU", where, device)
                return Opened(session, device, graph)
    return _missing_library(first) or (_short(refusal) if refusal else f"{first} didn't start")


def gpu_providers(device: Device, tuning: Tuning | None, *, graph: bool) -> list[tuple[str, dict[str, str]]]:
    """Return onnxruntime's providers for a GPU, each with its options.

    CUDA takes just the memory it's asked for, and chooses kernels by heuristics: CUDA graphs over kernels that were
    chosen by trial replay into memory that the trial had (docs/gpu.md). TensorRT keeps its engines: without them a
    start takes minutes.
    """
    found: list[tuple[str, dict[str, str]]] = []
    for name in _PROVIDERS[device]:
        options: dict[str, str] = {}
        if name == "CUDAExecutionProvider":
            options = {"arena_extend_strategy": "kSameAsRequested", "cudnn_conv_algo_search": "HEURISTIC"}
            options |= {"enable_cuda_graph": "1"} if graph else {}
        elif tuning is not None:
            sizes = {"min": min(tuning.batches), "opt": max(tuning.batches), "max": max(tuning.batches)}
            item = "x".join(str(side) for side in tuning.shape)
            if tuning.cache is not None:
                for kind in ("engine", "timing"):
                    options |= {f"trt_{kind}_cache_enable": "1", f"trt_{kind}_cache_path": str(tuning.cache)}
            options |= {
                "trt_fp16_enable": "1" if tuning.precision is Precision.FP16 else "0",
                "trt_int8_enable": "1" if tuning.precision is Precision.INT8 else "0",
                **{f"trt_profile_{end}_shapes": f"{tuning.name}:{count}x{item}" for end, count in sizes.items()},
            }
        found.append((name, options))
    return found


def engine_cache(path: Path, sha256: str) -> Path:
    """Return the folder for TensorRT's engines of a model file: beside it, or where that can't be written, the user's.

    It is the file's own: onnxruntime finds an engine by the names of tensors, and not by the weights.
    """
    beside = path.with_name(f"{path.name}.trt")
    there = beside if os.access(path.parent, os.W_OK) else Path.home() / ".cache" / "imaging_ft" / "trt"
    return there / sha256[:16]


def _made(cache: Path | None) -> Path | None:
    """Return a folder for engines once it's there, or None where it can't be: onnxruntime makes no parents."""
    try:
        if cache is not None:
            cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _LOG.warning("%s: can't be made (%s): TensorRT builds its engine at each start", cache, reason(error))
        return None
    return cache


def _no_driver() -> str | None:
    """Return that there is no NVIDIA driver, before gigabytes of CUDA libraries are loaded in vain."""
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        return f"no NVIDIA driver ({DRIVER} can't be loaded)"
    return None


def _missing_library(provider: str) -> str | None:
    """Return which library a provider of onnxruntime lacks, which its own errors don't say; None where none."""
    capi = importlib.import_module("onnxruntime.capi")
    name = provider.removesuffix("ExecutionProvider").lower()
    folders = [Path(folder) for folder in capi.__path__]
    found = [path for folder in folders for path in folder.glob(f"*onnxruntime_providers_{name}.*")]
    try:
        for path in found:
            ctypes.CDLL(str(path))
    except OSError as error:
        return _short(error)
    return None


@contextmanager
def _quiet(ort: Any) -> Generator[None]:
    """Keep onnxruntime from writing on stderr that a provider can't start; its default is to warn."""
    ort.set_default_logger_severity(_SILENT)
    try:
        yield
    finally:
        ort.set_default_logger_severity(_WARNING)


def _options(ort: Any, threads: int | None, *, spinning: bool = True) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = _SILENT
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    wanted = usable_cores() if threads is None else threads
    if wanted is not None:
        options.intra_op_num_threads = wanted
    return options


def usable_cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int | None:
    """Return how many cores this process may use; None where it's all of the machine's.

    onnxruntime counts the machine's: in a container with two of 64 it would start 64 threads.
    """
    there = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else there
    try:
        share, period = quota.read_text(encoding="ascii").split()
        allowed = min(allowed, max(1, int(share) // int(period)))
    except (OSError, ValueError):  # not a Linux container, or without a limit ("max")
        pass
    return allowed if allowed < there else None


def _preload(ort: Any) -> None:
    """Let onnxruntime find the CUDA libraries that torch or NVIDIA's wheels brought, where it can look for them."""
    preload = getattr(ort, "preload_dlls", None)
    if preload is None:
        return
    with redirect_stdout(io.StringIO()):  # it prints what it did not find; the session says it better
        try:
            preload()
        except Exception as error:  # noqa: BLE001 - what can't be preloaded, the session names
            _LOG.debug("onnxruntime.preload_dlls: %s", error)


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 160 else f"{text[:157]}…"
