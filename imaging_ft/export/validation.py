"""The validation images of a run, as a host would hand them over."""

from collections.abc import Sequence
from pathlib import Path

from imaging_ft.data import prepare
from imaging_ft.errors import DataError, RunError
from imaging_ft.image import read_image
from imaging_ft.preprocess import conform
from imaging_ft.training.run import ModelInfo, RunFolder
from imaging_ft.types import Pixels, Split, Track


def validation_images(run: RunFolder, info: ModelInfo, *, data: str | None, track: Track) -> Sequence[Pixels]:
    """Return the run's validation images in the model's dtype and channels, at their own sizes.

    Raises DataError where the data set isn't there, or isn't the one that the run was trained on.
    """
    recorded = run.read_json("dataset.json")
    argument = data or str(recorded.get("argument", ""))
    if not data and ("/" in argument or "\\" in argument) and not Path(argument).exists():
        raise RunError(f"{argument}: the run's data set is no longer there; say where it is with --data DATASET")
    prepared = prepare(
        argument,
        seed=int(recorded.get("split_seed", 0)),
        skip_bad=bool(recorded.get("skipped")),
        decode=frozenset({Split.VAL}),
        track=track,
    )
    if prepared.fingerprint != recorded.get("fingerprint"):
        raise DataError(
            f"{argument}: the images are not the ones that {run.path} was trained on (fingerprints differ);"
            " parity is proven on its own validation images: say where they are with --data DATASET"
        )
    return [conform(read_image(sample.path), info.input) for sample in prepared.of(Split.VAL)]
