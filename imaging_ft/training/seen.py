"""What a model has seen: the images it was trained or validated on, its earlier runs' among them."""

import json
from pathlib import Path

from imaging_ft.bundle import Seen
from imaging_ft.data import Prepared
from imaging_ft.errors import ConfigError
from imaging_ft.models.earlier import INFO, WEIGHTS
from imaging_ft.training.retain import Retained
from imaging_ft.types import Split


def seen_by(data: Prepared, retained: Retained | None, earlier: Seen | None) -> Seen:
    """Return the images that a training's model has seen; `earlier` is what the run had that it went on from."""
    hashes = {data.hashes[sample.id] for sample in data.samples if sample.split is not Split.TEST}
    if retained is not None:
        hashes |= retained.hashes
    return Seen.of(hashes, earlier=[earlier] if earlier else [])


def seen_before(path: Path) -> Seen:
    """Return what a run's model has seen, by the run's folder or the weights in it.

    Of weights that are no run's, or of a run that doesn't say, nothing is known, and that isn't complete.
    """
    info = (path.parent if path.name == WEIGHTS else path) / INFO
    try:
        recorded = json.loads(info.read_text(encoding="utf-8"))["seen"]
        return Seen.checked(recorded, where=str(info))
    except (OSError, ValueError, KeyError, TypeError, ConfigError):
        return Seen(images=0, complete=False)
