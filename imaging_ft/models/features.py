"""Features of images under a frozen backbone, kept on disk.

They lie in the image cache's folder and count to its size. The key holds what they depend on: the images, the
model's name, its weights and statistics, and the kind of device.
"""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from imaging_ft.data.images import cache_folder
from imaging_ft.errors import DeviceError
from imaging_ft.models.factory import Classifier
from imaging_ft.types import Levels, Track, silent

Features = npt.NDArray[np.float32]
"""[n, features]."""

_FORM = "features/1"
"""Part of every key; it changes when embedding does."""


def embed(
    model: Classifier,
    levels: Levels,
    *,
    batch_size: int = 64,
    device: str = "cpu",
    cache: bool = True,
    form: str = "",
    compute: Callable[[], Features] | None = None,
    track: Track = silent,
    what: str = "features",
) -> Features:
    """Return features [n, features] in float32 of images [n, height, width, channels], from the cache if it has them.

    The model runs in evaluation mode without gradients, and is left in evaluation mode on `device` (`cpu`,
    `cuda` or `auto`). `compute` gives them in another way, such as in another precision; `form` then names that way,
    for the cache to tell them apart. Raises DeviceError where CUDA was asked for and isn't there.
    """
    place = pick_device(device)
    folder = cache_folder() if cache else None
    path = folder / f"{_key(model, levels, place, form)}.features.npy" if folder else None
    if path is not None and (stored := _read(path, len(levels))) is not None:
        return stored
    found = compute() if compute else _compute(model, levels, batch_size, place, track, what)
    if path is not None:
        _write(path, found)
    return found


def pick_device(device: str) -> torch.device:
    """Return the device that `auto`, `cpu` or `cuda` means here; raises DeviceError where it isn't there."""
    if device not in {"auto", "cpu", "cuda"}:
        raise DeviceError(f"--device {device}: write auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("--device cuda: torch sees no CUDA device here; imaging-ft doctor says more")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def _compute(
    model: Classifier, levels: Levels, batch_size: int, device: torch.device, track: Track, what: str
) -> Features:
    # Measured on a CPU: channels_last is faster, and bf16 changes features by more than models differ.
    model = model.to(device).to(memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]
    found = np.empty((len(levels), model.head.in_features), np.float32)
    starts = range(0, len(levels), batch_size)
    with torch.inference_mode():
        for start in track(starts, what, len(starts)):
            # A copy: the image cache is read-only, and torch wants to be able to write.
            batch = np.array(levels[start : start + batch_size].transpose(0, 3, 1, 2), order="C")
            placed = torch.from_numpy(batch).to(device).contiguous(memory_format=torch.channels_last)
            found[start : start + batch_size] = model.embed(placed).float().cpu().numpy()
    return found


def _key(model: Classifier, levels: Levels, device: torch.device, form: str) -> str:
    digest = hashlib.sha256(
        f"{_FORM}{form}\n{model.name}\n{model.normalisation}\n{device.type}\n{levels.shape}\n".encode()
    )
    digest.update(np.ascontiguousarray(levels).data)
    for name, tensor in model.backbone.state_dict().items():
        value = tensor.detach().cpu().contiguous()
        digest.update(f"\n{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def _read(path: Path, n: int) -> Features | None:
    try:
        stored = np.load(path)
        os.utime(path)  # the cache drops what was not used for longest
    except (OSError, ValueError, EOFError):
        return None
    return stored if stored.ndim == 2 and len(stored) == n and stored.dtype == np.float32 else None


def _write(path: Path, features: Features) -> None:
    """Write features under a temporary name and rename; a cache that can't be written costs time, no more."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.save(file, features)
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
