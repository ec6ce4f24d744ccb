"""Checkpoints: weights and all that the next step depends on, so that a killed run goes on as if it had not been.

`last.safetensors` holds the averaged weights by their names, and beside them the raw weights and the optimiser's
moments; its header holds the progress as JSON, so that one rename makes both whole. `last.json` repeats
the epoch for a reader. The one before stays as `previous.safetensors`, for the day when `last` is damaged.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from imaging_ft.config import reason
from imaging_ft.errors import RunError
from imaging_ft.training.run import replacing, write_text
from imaging_ft.types import Json

SCHEMA = "imaging_ft.checkpoint/1"
LAST, PREVIOUS, BEST, START = "last", "previous", "best", "start"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds."""

    tensors: dict[str, Tensor]
    progress: Json


def write_checkpoint(folder: Path, name: str, tensors: dict[str, Tensor], progress: Json, *, row: Json) -> None:
    """Write `NAME.safetensors`, and `NAME.json` with a row for a reader; of `last`, the one before is kept.

    Raises RunError where the disk refuses; what was there before is then still whole.
    """
    path = folder / f"{name}.safetensors"
    stored = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    text = json.dumps(progress)
    header = {"schema": SCHEMA, "progress": text, "sha256": _digest(stored, text)}
    with replacing(path) as temporary:
        temporary.write_bytes(save(stored, header))
        if name == LAST and path.exists():
            path.replace(folder / f"{PREVIOUS}.safetensors")
    write_text(folder / f"{name}.json", json.dumps(row, indent=2) + "\n")


def read_checkpoint(path: Path) -> Checkpoint:
    """Return what a checkpoint holds; raises RunError where it's missing, damaged, or not one."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError as error:
        raise RunError(f"{path}: no such checkpoint") from error
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path}: damaged: {reason(error)}") from error
    if header.get("schema") != SCHEMA:
        raise RunError(f"{path}: not a checkpoint of this version")
    if header.get("sha256") != _digest(tensors, header.get("progress", "")):
        raise RunError(f"{path}: damaged: its content does not match its checksum")
    return Checkpoint(tensors, json.loads(header["progress"]))


def latest(folder: Path, say: Callable[[str], None]) -> Checkpoint | None:
    """Return the last checkpoint that is whole, or None where there is none; says which one is damaged.

    Raises RunError where there are checkpoints, and every one is damaged.
    """
    problems: list[str] = []
    for name in (LAST, PREVIOUS):
        path = folder / f"{name}.safetensors"
        if not path.exists():
            continue
        try:
            found = read_checkpoint(path)
        except RunError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            say(f"warning: {problem}; going on from {path.name}")
        return found
    if problems:
        raise RunError(f"{problems[0]}; no other checkpoint is whole: train again with --overwrite")
    return None


def _digest(tensors: dict[str, Tensor], progress: str) -> str:
    digest = hashlib.sha256(f"{progress}\n".encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
