"""A trained run as a MONAI bundle: a folder that MONAI's own tools check and run, with nothing of imaging_ft.

The network takes levels, float32 `[batch, channels, height, width]` from 0 to 255 that nobody has normalised yet, and
gives probabilities float32 `[batch, classes]`. It's written in names of torch, timm and MONAI alone.

```
<folder>/
  configs/metadata.json    what it takes and gives; under `imaging_ft` the thresholds and where it came from
  configs/inference.json   the network, and a run over a folder of images
  models/model.pt          the state dict of `network_def`
  docs/README.md
```
What MONAI reads was taken from MONAI 1.6.1 (monai/bundle), its bundle specification and its metadata schema.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from imaging_ft.bundle import Bundle, probabilities
from imaging_ft.config import reason
from imaging_ft.errors import InputError, ParityError
from imaging_ft.export.monai_about import OURS, metadata, readme
from imaging_ft.export.monai_inference import inference
from imaging_ft.export.monai_network import network_items
from imaging_ft.models.factory import Classifier
from imaging_ft.preprocess import prepare
from imaging_ft.training.run import ModelInfo
from imaging_ft.types import Json

TOLERANCE = 1e-4
"""How far a probability of the written network may be from the trained model's."""
METADATA, INFERENCE, WEIGHTS = "configs/metadata.json", "configs/inference.json", "models/model.pt"
README = "docs/README.md"
FILES = (METADATA, INFERENCE, WEIGHTS, README)


def write_monai_bundle(model: Classifier, info: ModelInfo, bundle: Bundle, folder: Path, *, name: str) -> list[Path]:
    """Write a trained model as a MONAI bundle called `name`, in float32, and return its files.

    Before the folder stands, MONAI builds the network from the written files, and its probabilities have to be those
    of the trained model within 1e-4 on the golden sample and on noise. An earlier bundle in the folder is replaced.
    Raises ParityError where they aren't; InputError where the folder holds something else (`check_folder`), where the
    network can't be rebuilt by its name, and where the disk refuses.
    """
    check_folder(folder)
    network, state = network_items(model, info)
    texts = {
        METADATA: _json(metadata(info, bundle, name)),
        INFERENCE: _json(inference(info.input, network)),
        README: readme(info, bundle, name),
    }
    try:
        with _replacing(folder) as part:
            for path, text in texts.items():
                (part / path).parent.mkdir(exist_ok=True)
                (part / path).write_text(text, encoding="utf-8")
            (part / WEIGHTS).parent.mkdir()
            torch.save(state, part / WEIGHTS)
            _check(part, model, info, bundle, where=folder)
    except OSError as error:
        raise InputError(f"{folder}: the MONAI bundle can't be written: {reason(error)}") from error
    return [folder / path for path in FILES]


def check_folder(folder: Path) -> None:
    """Raise InputError where a bundle can't take a folder: it has to be new, empty, or an earlier bundle of ours."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: a file stands where the MONAI bundle should be; choose another folder")
    if not folder.is_dir():
        return
    there = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    others = [path for path in there if path not in FILES]
    if others:
        raise InputError(
            f"{folder}: holds {others[0]}, which is no part of an exported MONAI bundle and would be lost; move it"
            " away, or choose another folder"
        )
    if there and not _is_ours(folder / METADATA):
        raise InputError(
            f"{folder}: holds {there[0]}, which imaging-ft didn't write, as {METADATA} shows; choose another folder"
        )


def _is_ours(metadata: Path) -> bool:
    try:
        values = json.loads(metadata.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and OURS in values


def _check(part: Path, model: Classifier, info: ModelInfo, bundle: Bundle, *, where: Path) -> None:
    """Raise unless MONAI builds the network from the written files, and it says what the trained model says."""
    from monai.bundle.config_parser import ConfigParser

    parser: Any = ConfigParser()
    parser.read_config(str(part / INFERENCE))
    parser.read_meta(str(part / METADATA))
    try:
        network: nn.Module = parser.get_parsed_content("network_def").eval()
        network.load_state_dict(torch.load(part / WEIGHTS, weights_only=True))
    except RuntimeError as error:
        raise InputError(
            f"{where}: MONAI can't build {info.backbone} as it was trained: {reason(error)}; train another backbone"
            " (imaging-ft models list), or leave the MONAI bundle out"
        ) from error
    spec = info.input
    levels = np.random.default_rng(0).integers(0, 256, (3, spec.channels, spec.height, spec.width), np.uint8)
    levels[0] = prepare(bundle.golden.image()[0], spec).transpose(2, 0, 1)
    with torch.inference_mode():
        logits = model.eval().cpu()(torch.from_numpy(levels)).numpy()
        found = network(torch.from_numpy(levels).float()).numpy()
    wanted = probabilities(logits, task=info.task, temperature=info.temperature, vector_scaling=info.vector_scaling)
    apart = float(np.abs(found - wanted).max())
    if not apart <= TOLERANCE:
        raise ParityError(
            f"{where}: the MONAI bundle disagrees with the trained model: probabilities {apart:.2g} apart (at most"
            f" {TOLERANCE:g} is allowed); nothing was written; export with the versions of torch, timm and monai that"
            " it was trained with"
        )


def _json(values: Json) -> str:
    return json.dumps(values, indent=2) + "\n"  # ASCII: MONAI reads it in the machine's own encoding


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """Give an empty folder beside `folder`, and rename it into its place on success."""
    place = folder.absolute()
    part, old = (place.with_name(f".{place.name}.{os.getpid()}.{end}") for end in ("part", "old"))
    part.mkdir(parents=True)
    try:
        yield part
        if place.exists():
            place.replace(old)
        part.replace(place)
    finally:
        if old.exists() and not place.exists():
            old.replace(place)
        for left in (part, old):
            if left.exists():
                shutil.rmtree(left)
