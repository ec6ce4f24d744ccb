"""Where a model came from: what a bundle's `provenance` holds."""

import hashlib
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from imaging_ft import __version__
from imaging_ft.augment.conditions import usual
from imaging_ft.augment.recipe import Recipe
from imaging_ft.bundle import file_sha256
from imaging_ft.config import to_yaml
from imaging_ft.data import Prepared
from imaging_ft.models.earlier import WEIGHTS, practised
from imaging_ft.models.factory import NONE, PRETRAINED
from imaging_ft.training.settings import TrainSettings
from imaging_ft.types import Json, Split

_LIBRARIES = (
    "torch",
    "timm",
    "monai",
    "albumentations",
    "opencv-python-headless",
    "numpy",
    "pillow",
    "onnxruntime-gpu",
)


def provenance(settings: TrainSettings, data: Prepared, recipe: Recipe) -> Json:
    """Return the data set, the settings, the code and the libraries that a model was made with."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "tool": f"imaging_ft {__version__}",
        "dataset": {
            "name": data.card.name,
            "fingerprint": data.fingerprint,
            "split_method": data.split_method,
            "split_seed": settings.split_seed,
            "n": {split.value: len(data.of(split)) for split in Split},
            "warnings": list(data.warnings),
            "licence": data.card.licence,
            "citation": data.card.citation,
        },
        "backbone": settings.model,
        "augmentation": recipe.name,
        "practised": sorted({*recipe.practised(), *practised_before(settings)}),
        "held_out": list(settings.hold_out),
        "went_on_from": _earlier(settings),
        "conditions": data.card.conditions or recipe.conditions or usual(data.image.channels),
        "positive": list(data.card.positive),
        "config": _without_folders(settings).model_dump(mode="json"),
        "config_sha256": hashlib.sha256(to_yaml(settings).encode()).hexdigest(),
        "git_revision": git_revision(),
        "python": platform.python_version(),
        "libraries": {name: found for name in _LIBRARIES if (found := _version(name))},
    }


def _earlier(settings: TrainSettings) -> Json | None:
    """Return which model an earlier run's weights are, for a training that went on from it."""
    if settings.from_run is None:
        return None
    return {"run": Path(settings.from_run).name, "model_sha256": file_sha256(Path(settings.from_run) / WEIGHTS)}


def practised_before(settings: TrainSettings) -> list[str]:
    """Return the conditions that an earlier run had met, from whose weights a training goes on."""
    start = settings.from_run or settings.weights
    return [] if start in {PRETRAINED, NONE} else practised(Path(start))


def _without_folders(settings: TrainSettings) -> TrainSettings:
    """Return settings whose paths are names alone: where they lay is no business of a model's host."""
    paths = ("weights", "augmentation", "from_run", "focus", "retain")
    named = {name: Path(value).name for name in paths if (value := getattr(settings, name)) is not None}
    return settings.model_copy(update=named)


def git_revision() -> str | None:
    """Return the revision of the checkout that this code runs from (with `-dirty`), or None outside of one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
