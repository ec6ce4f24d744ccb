"""Parity: the exported file and the trained model must say the same of every validation image.

Exported is not trained is the loudest complaint of this field. The candidate is the whole file in its runtime, from the
stored image. It's held against the training's own path in two steps that meet at the integer levels which the network
sees: the file's levels against those that training prepares, and against Pillow's; its logits against torch's in
float32 on the file's own levels.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx
import torch

from imaging_ft.bundle import Parity, decide, probabilities
from imaging_ft.errors import ParityError
from imaging_ft.export.candidate import Candidate, candidates
from imaging_ft.export.target import Target
from imaging_ft.models.factory import Classifier
from imaging_ft.preprocess import InputSpec, prepare, reference_levels
from imaging_ft.training.run import ModelInfo
from imaging_ft.types import Floats, Levels, Pixels, Task, Track, silent

TOLERANCE = 1e-3
LEVEL_TOLERANCE = 2
"""A resize rounds twice, by rows and by columns, and each rounding may fall on the other side than Pillow's."""
SIZES = ((97, 131), (224, 224), (301, 200))
BATCHES = (1, 2, 7)
_CHUNK = 16


@dataclass(frozen=True)
class _Found:
    """The worst of what was compared so far."""

    logit: float = 0.0
    probability: float = 0.0
    level: int = 0
    agreed: int = 0
    compared: int = 0


def check_parity(
    graph: onnx.ModelProto,
    model: Classifier,
    info: ModelInfo,
    images: Sequence[Pixels],
    target: Target,
    *,
    track: Track = silent,
) -> Parity:
    """Return how closely a float32 graph agrees with the trained model, in every runtime that the target has here.

    Compared are: every validation image at its own size (the largest class, and probabilities within 1e-3); seven of
    them and seven of seeded noise at three further sizes in batches of 1, 2 and 7. Levels have to be training's own
    (within two where the target resizes by matrix products) and within two of Pillow's. Of a multi-label task the sets
    of classes that reach their thresholds are compared: they can differ only where a threshold lies between two
    probabilities that are within the tolerance, which is counted in `top1_agreement` rather than refused. Raises
    ParityError at the first image that disagrees.
    """
    found = _Found()
    tried = candidates(graph, info.input, target)
    for candidate in tried:
        for batch, where in track(_batches(images, info.input), "parity", None):
            found = _compared(found, candidate, batch, model, info, target, where=f"{where} ({candidate.runtime})")
    return Parity(
        images=len(images),
        top1_agreement=found.agreed / found.compared,
        max_probability_difference=found.probability,
        max_logit_difference=found.logit,
        max_level_difference=found.level,
        tolerance=TOLERANCE,
        sizes=SIZES,
        batches=BATCHES if target.batch is None else (target.batch,),
        provider=", ".join(dict.fromkeys(candidate.runtime for candidate in tried)),
    )


def reference_logits(model: Classifier, spec: InputSpec, images: Sequence[Pixels]) -> Floats:
    """Return the trained model's logits [n, classes] for stored images, by the training's own path."""
    return _logits(model, np.stack([prepare(image, spec).transpose(2, 0, 1) for image in images]))


def _logits(model: Classifier, levels: Levels) -> Floats:
    with torch.inference_mode():
        return model(torch.from_numpy(levels.copy())).double().numpy()


def _compared(
    so_far: _Found,
    candidate: Candidate,
    batch: Sequence[Pixels],
    model: Classifier,
    info: ModelInfo,
    target: Target,
    *,
    where: str,
) -> _Found:
    levels = candidate.levels(batch)
    level = _check_levels(levels, batch, info.input, target, where=where)
    logits, said = candidate.run(batch)
    expected = _logits(model, levels)
    wanted = probabilities(expected, task=info.task, temperature=info.temperature, vector_scaling=info.vector_scaling)
    apart = np.abs(said - wanted).max(axis=1)
    same = _says_the_same(said, wanted, info)
    refused = ~(apart <= TOLERANCE) if info.task is Task.MULTILABEL else ~same | ~(apart <= TOLERANCE)
    for index in np.flatnonzero(refused):
        raise ParityError(
            f"the exported model disagrees with the trained one on {where}, image {int(index)} of the batch:"
            f" trained {wanted[index].round(4).tolist()}, exported {said[index].round(4).tolist()}"
            f" (at most {TOLERANCE} apart is allowed); nothing was written"
        )
    return replace(
        so_far,
        logit=max(so_far.logit, float(np.abs(logits - expected).max())),
        probability=max(so_far.probability, float(apart.max())),
        level=max(so_far.level, level),
        agreed=so_far.agreed + int(same.sum()),
        compared=so_far.compared + len(batch),
    )


def _check_levels(levels: Levels, batch: Sequence[Pixels], spec: InputSpec, target: Target, *, where: str) -> int:
    """Return how far a file's levels are from Pillow's, once they are known to be training's."""
    worst = 0
    for mine, image in zip(levels, batch, strict=True):
        trained, pillow = (
            int(np.abs(mine.astype(np.int16) - other.transpose(2, 0, 1)).max())
            for other in (prepare(image, spec), reference_levels(image, spec))
        )
        for apart, whose, allowed in (
            (trained, "training's", LEVEL_TOLERANCE if target.resize == "matmul" else 0),
            (pillow, "Pillow's", LEVEL_TOLERANCE),
        ):
            if apart > allowed:
                raise ParityError(
                    f"the exported model disagrees with the trained one on {where}: its preprocessing is {apart} levels"
                    f" of 256 from {whose} (at most {allowed} is allowed); nothing was written"
                )
        worst = max(worst, pillow)
    return worst


def _says_the_same(found: Floats, wanted: Floats, info: ModelInfo) -> npt.NDArray[np.bool_]:
    """Return for each image [n] whether both probabilities [n, classes] say the same class, or set of classes."""
    thresholds = [info.thresholds[label] for label in info.labels]
    ours, theirs = (decide(each, task=info.task, thresholds=thresholds) for each in (found, wanted))
    return (ours == theirs).all(axis=1)


def _batches(images: Sequence[Pixels], spec: InputSpec) -> Iterator[tuple[list[Pixels], str]]:
    """Yield batches of images of one size, each with what to call it in a message."""
    by_shape: dict[tuple[int, ...], list[Pixels]] = defaultdict(list)
    for image in images:
        by_shape[image.shape].append(image)
    for shape, alike in by_shape.items():
        for start in range(0, len(alike), _CHUNK):
            yield alike[start : start + _CHUNK], f"validation images of {shape[0]}×{shape[1]}"
    rng = np.random.default_rng(0)
    for height, width in SIZES:
        resized = [at_size(images[index % len(images)], height, width) for index in range(max(BATCHES))]
        noise = list(rng.integers(0, spec.full_scale + 1, (max(BATCHES), height, width, spec.channels), spec.dtype))
        for batch in BATCHES:
            yield resized[:batch], f"a batch of {batch} at {height}×{width}"
            yield noise[:batch], f"a batch of {batch} of noise at {height}×{width}"


def at_size(image: Pixels, height: int, width: int) -> Pixels:
    """Return an image at another size; by nearest neighbour, where only the size matters."""
    rows = np.arange(height) * image.shape[0] // height
    columns = np.arange(width) * image.shape[1] // width
    return np.ascontiguousarray(image[rows][:, columns])
