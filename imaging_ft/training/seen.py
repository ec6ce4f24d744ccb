"""What a model has seen: the images it was trained or validated on, its earlier runs' among them."""

import json
from pathlib import Path

from imaging_ft.bundle import Seen
from imaging_ft.data import Prepared, prepare
from imaging_ft.errors import ConfigError, DataError
from imaging_ft.models.earlier import INFO, WEIGHTS
from imaging_ft.models.factory import NONE, PRETRAINED
from imaging_ft.training.settings import TrainSettings
from imaging_ft.types import Split


def seen_by(settings: TrainSettings, data: Prepared) -> Seen:
    """Return the images that a training's model has seen; not complete where an earlier run or data set doesn't say."""
    hashes, complete = _trained_on(data), True
    if settings.retain:
        try:
            retained = prepare(settings.retain, seed=settings.split_seed, decode=frozenset())
            hashes |= _trained_on(retained)
        except DataError:  # gone since it was loaded: no reason to lose a trained model
            complete = False
    start = settings.from_run or settings.weights
    earlier = None if start in {PRETRAINED, NONE} else _seen_before(Path(start))
    return Seen.of(hashes, earlier=[earlier] if earlier else [], complete=complete)


def _trained_on(data: Prepared) -> set[str]:
    return {data.hashes[sample.id] for sample in data.samples if sample.split is not Split.TEST}


def _seen_before(path: Path) -> Seen | None:
    """Return what a run's model has seen, by the run's folder or the weights in it; None of weights that are no run's.

    Of a run that doesn't say, nothing, and that isn't complete.
    """
    info = (path.parent if path.name == WEIGHTS else path) / INFO
    if not info.is_file():
        return None
    try:
        recorded = json.loads(info.read_text(encoding="utf-8"))["seen"]
        return Seen.checked(recorded, where=str(info))
    except (OSError, ValueError, KeyError, TypeError, ConfigError):
        return Seen(images=0, complete=False)
