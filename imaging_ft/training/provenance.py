"""Where a model came from: what a bundle's `provenance` holds."""

import hashlib
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from imaging_ft import __version__
from imaging_ft.augment.conditions import usual_suite
from imaging_ft.augment.recipe import Recipe
from imaging_ft.bundle import Seen, file_sha256
from imaging_ft.config import to_yaml
from imaging_ft.data import Prepared
from imaging_ft.models.earlier import WEIGHTS, practised
from imaging_ft.models.factory import NONE, PRETRAINED
from imaging_ft.training.seen import seen_before
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


@dataclass(frozen=True)
class Origin:
    """The file of weights that a training starts from."""

    name: str
    """Of the run's folder, or of the file."""
    sha256: str
    practised: tuple[str, ...]
    """The conditions that an earlier run had met; of weights that are no run's, none is known."""
    seen: Seen
    """The images that an earlier run had seen."""


def origin_of(settings: TrainSettings) -> Origin | None:
    """Return the file that a training starts from, or None where it starts from a library's weights or from none.

    It is read once, before anything is written: the file may be gone by the end of a long training.
    """
    start = settings.from_run or settings.weights
    if start in {PRETRAINED, NONE}:
        return None
    path = Path(start)
    file = path / WEIGHTS if path.is_dir() else path
    return Origin(path.name, file_sha256(file), tuple(practised(path)), seen_before(path))


def provenance(settings: TrainSettings, data: Prepared, recipe: Recipe, origin: Origin | None, focus: Json) -> Json:
    """Return the data set, the settings, the code and the libraries that a model was made with.

    `focus` is what the report was of that gave the odds to begin with.
    """
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
        "practised": sorted({*recipe.practised(), *(origin.practised if origin else ())}),
        "held_out": list(settings.hold_out),
        "focus": focus or None,
        "went_on_from": {"run": origin.name, "model_sha256": origin.sha256} if origin and settings.from_run else None,
        "conditions": data.card.conditions or recipe.conditions or usual_suite(data.image.channels),
        "positive": list(data.card.positive),
        "config": _without_folders(settings).model_dump(mode="json"),
        "config_sha256": hashlib.sha256(to_yaml(settings).encode()).hexdigest(),
        "git_revision": git_revision(),
        "python": platform.python_version(),
        "libraries": {name: found for name in _LIBRARIES if (found := _version(name))},
    }


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
