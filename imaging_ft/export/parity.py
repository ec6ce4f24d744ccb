"""Parity: the exported file and the trained model must say the same of every validation image.

Exported is not trained is the loudest complaint of this field. The candidate is the whole file in onnxruntime,
from the raw image; the reference is the training's own path, with torch in float32 for the network. The
preprocessing, which both share, is held against NumPy and Pillow as well.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import torch

from imaging_ft.bundle import INPUT, LOGITS, PROBABILITIES, Parity, decide, probabilities
from imaging_ft.errors import ParityError
from imaging_ft.models.factory import Classifier
from imaging_ft.preprocess import InputSpec, prepare, reference_levels
from imaging_ft.training.run import ModelInfo
from imaging_ft.types import Floats, Pixels, Task, Track, silent

TOLERANCE = 1e-3
LEVEL_TOLERANCE = 2
"""A resize rounds twice, by rows and by columns, and each rounding may fall on the other side than Pillow's."""
SIZES = ((97, 131), (224, 224), (301, 200))
BATCHES = (1, 2, 7)
_CHUNK = 16


def check_parity(
    model_bytes: bytes, model: Classifier, info: ModelInfo, images: Sequence[Pixels], *, track: Track = silent
) -> Parity:
    """Return how closely an ONNX model agrees with the trained one.

    Compared are: every validation image at its own size (the largest class, and probabilities within 1e-3),
    and seven of them at three further sizes in batches of 1, 2 and 7. Of a multi-label task the sets of classes that
    reach their thresholds are compared: they can differ only where a threshold lies between two probabilities that
    are within the tolerance, which is counted in `top1_agreement` rather than refused. Raises ParityError at the
    first image that disagrees.
    """
    session: Any = ort.InferenceSession(model_bytes, providers=["CPUExecutionProvider"])
    worst_logit = worst_probability = 0.0
    worst_level = agreed = compared = 0
    for batch, where in track(_batches(images), "parity", None):
        logits, found = session.run([LOGITS, PROBABILITIES], {INPUT: np.stack(batch)})
        expected = reference_logits(model, info.input, batch)
        wanted = _reference_probabilities(expected, info)
        apart = np.abs(found - wanted).max(axis=1)
        same = _says_the_same(found, wanted, info)
        agreed, compared = agreed + int(same.sum()), compared + len(batch)
        refused = ~(apart <= TOLERANCE) if info.task is Task.MULTILABEL else ~same | ~(apart <= TOLERANCE)
        for index in np.flatnonzero(refused):
            raise ParityError(
                f"the exported model disagrees with the trained one on {where}, image {int(index)} of the batch:"
                f" trained {wanted[index].round(4).tolist()}, exported {found[index].round(4).tolist()}"
                f" (at most {TOLERANCE} apart is allowed); nothing was written"
            )
        worst_logit = max(worst_logit, float(np.abs(logits - expected).max()))
        worst_probability = max(worst_probability, float(apart.max()))
        worst_level = max(worst_level, *(_level_difference(image, info.input) for image in batch))
        if worst_level > LEVEL_TOLERANCE:
            raise ParityError(
                f"the preprocessing is {worst_level} levels of 256 from Pillow's on {where}"
                f" (at most {LEVEL_TOLERANCE} is allowed); nothing was written"
            )
    return Parity(
        images=len(images),
        top1_agreement=agreed / compared,
        max_probability_difference=worst_probability,
        max_logit_difference=worst_logit,
        max_level_difference=worst_level,
        tolerance=TOLERANCE,
        sizes=SIZES,
        batches=BATCHES,
        provider=session.get_providers()[0],
    )


def reference_logits(model: Classifier, spec: InputSpec, images: Sequence[Pixels]) -> Floats:
    """Return the trained model's logits [batch, classes] for stored images, by the training's own path."""
    levels = np.stack([prepare(image, spec) for image in images])
    with torch.inference_mode():
        return model(torch.from_numpy(levels.transpose(0, 3, 1, 2).copy())).double().numpy()


def _reference_probabilities(logits: Floats, info: ModelInfo) -> Floats:
    return probabilities(logits, task=info.task, temperature=info.temperature, vector_scaling=info.vector_scaling)


def _says_the_same(found: Floats, wanted: Floats, info: ModelInfo) -> npt.NDArray[np.bool_]:
    """Return for each image [n] whether both probabilities [n, classes] say the same class, or set of classes."""
    thresholds = [info.thresholds[label] for label in info.labels]
    ours, theirs = (decide(each, task=info.task, thresholds=thresholds) for each in (found, wanted))
    return (ours == theirs).all(axis=1)


def _level_difference(image: Pixels, spec: InputSpec) -> int:
    """Return the largest difference in levels between the shared preprocessing and NumPy's and Pillow's."""
    ours, reference = prepare(image, spec), reference_levels(image, spec)
    return int(np.abs(ours.astype(np.int16) - reference).max())


def _batches(images: Sequence[Pixels]) -> Iterator[tuple[list[Pixels], str]]:
    """Yield batches of images of one size, each with what to call it in a message."""
    by_shape: dict[tuple[int, ...], list[Pixels]] = defaultdict(list)
    for image in images:
        by_shape[image.shape].append(image)
    for shape, alike in by_shape.items():
        for start in range(0, len(alike), _CHUNK):
            yield alike[start : start + _CHUNK], f"validation images of {shape[0]}×{shape[1]}"
    for height, width in SIZES:
        resized = [_resized(images[index % len(images)], height, width) for index in range(max(BATCHES))]
        for batch in BATCHES:
            yield resized[:batch], f"a batch of {batch} at {height}×{width}"


def _resized(image: Pixels, height: int, width: int) -> Pixels:
    """Return an image at another size; by nearest neighbour, since only the size matters here."""
    rows = np.arange(height) * image.shape[0] // height
    columns = np.arange(width) * image.shape[1] // width
    return np.ascontiguousarray(image[rows][:, columns])
