"""Fits what a file rejects: a Gaussian of training's features, and how light, flat and clipped an image may be."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from imaging_ft.bundle import DISTANCE, LOGITS, Ood, Quality
from imaging_ft.errors import ImageError
from imaging_ft.export.target import Target
from imaging_ft.export.validation import Validation
from imaging_ft.image import read_image
from imaging_ft.inference.ahead import ahead
from imaging_ft.inference.head import head_input
from imaging_ft.inference.rejection import Looks, measure
from imaging_ft.preprocess import LEVELS, InputSpec, conform, prepare
from imaging_ft.types import Floats, Ints, Pixels, Track

PREFIX = "distance_"
"""Before the names of the nodes and constants that make the output."""
COMPONENTS = 64
QUANTILE = 0.995
"""Of validation's distances: the threshold lets these through."""
_PER_COMPONENT = 4
"""Training images that a principal direction takes at least."""
_BATCH = 32
_LEAST = 1e-6


@dataclass(frozen=True)
class Gaussian:
    """One Gaussian for all classes but with each class's mean: probabilistic principal components.

    Tied covariance: Lee et al. 2018, arXiv:1807.03888. Its form, some directions and one spread in all others: Tipping
    & Bishop 1999, doi:10.1111/1467-9868.00196. A full covariance of a thousand features would need far more images.
    """

    means: Floats
    """[classes, features]."""
    directions: Floats
    """[features, components], each scaled by √(1/σ² − 1/λ)."""
    spread: float
    """σ: the standard deviation in every other direction."""

    @classmethod
    def fit(cls, features: Floats, labels: Ints) -> "Gaussian":
        """Return the Gaussian of features [n, features] of images of classes [n]; n is 2 or more."""
        classes = np.unique(labels)
        means = np.stack([features[labels == label].mean(axis=0) for label in classes]).astype(np.float64)
        within = features - means[np.searchsorted(classes, labels)]
        freedom = max(1, len(features) - len(classes))
        components = min(COMPONENTS, freedom // _PER_COMPONENT, features.shape[1] - 1)
        _, singular, vectors = np.linalg.svd(within, full_matrices=False)
        variances = singular**2 / freedom
        rest = (variances.sum() - variances[:components].sum()) / (features.shape[1] - components)
        rest = max(float(rest), _LEAST)
        wide = np.maximum(variances[:components], rest)
        return cls(means, vectors[:components].T * np.sqrt(1 / rest - 1 / wide), float(np.sqrt(rest)))

    def distance(self, features: Floats) -> Floats:
        """Return the distance [n] of features [n, features] from the nearest mean."""
        apart = features[:, None] - self.means[None]
        squared = (apart**2).sum(axis=2) / self.spread**2 - ((apart @ self.directions) ** 2).sum(axis=2)
        return np.sqrt(np.maximum(squared.min(axis=1), 0))


def rejecting(
    network: onnx.ModelProto, spec: InputSpec, validation: Validation, target: Target, *, track: Track
) -> tuple[onnx.ModelProto, Ood | None, Quality | None]:
    """Return a network that also says how far an image is from training's, and what the file is to reject.

    No distance is there where the host prepares its images (opset 10 has not the operators) or the network has no
    linear head; nothing at all without training images.
    """
    training = validation.training
    if training is None or not len(training.paths):
        return network, None, None
    looks: list[Looks] = []

    def validating() -> Iterator[npt.NDArray[Any]]:
        for image in track(validation.images, "what to reject", len(validation.images)):
            levels = prepare(image, spec).transpose(2, 0, 1)
            looks.append(measure(levels))
            yield levels

    if target.preprocessing == "outside" or head_input(network.graph) is None:
        for _ in validating():
            pass
        return network, None, fit_quality(looks)
    read: list[int] = []

    def learning() -> Iterator[npt.NDArray[Any]]:
        paths = track(training.paths, "training images", len(training.paths))
        for place, image in enumerate(ahead(_image, paths, workers=2, most=_BATCH)):
            if image is not None:
                read.append(place)
                yield prepare(conform(image, spec), spec).transpose(2, 0, 1)

    features = features_of(network, learning())
    gaussian = Gaussian.fit(features, training.labels[read])
    made = with_distance(network, gaussian)
    ood = fit_ood(gaussian, len(features), gaussian.distance(features_of(network, validating())))
    return made, ood, fit_quality(looks)


def _image(path: Path) -> Pixels | None:
    """Return a training image; None where it can't be read, as training itself left it out."""
    try:
        return read_image(path)
    except ImageError:
        return None


def features_of(network: onnx.ModelProto, levels: Iterator[npt.NDArray[Any]]) -> Floats:
    """Return what goes into a network's head [n, features], for levels [channels, height, width]."""
    source = _source(network)
    probe = onnx.ModelProto()
    probe.CopyFrom(network)
    probe.graph.output.add(name=source)
    session: Any = ort.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    found: list[Floats] = []
    batch: list[npt.NDArray[Any]] = []
    for one in levels:
        batch.append(one)
        if len(batch) == _BATCH:
            found.append(session.run([source], {LEVELS: np.stack(batch)})[0])
            batch.clear()
    if batch:
        found.append(session.run([source], {LEVELS: np.stack(batch)})[0])
    return np.concatenate(found).reshape(sum(map(len, found)), -1).astype(np.float64)


def with_distance(network: onnx.ModelProto, gaussian: Gaussian) -> onnx.ModelProto:
    """Return a network of opset 18 that also gives `distance` [batch, 1], float32: `Gaussian.distance` in the graph."""
    source = _source(network)
    made = onnx.ModelProto()
    made.CopyFrom(network)
    constants = {
        "means": gaussian.means[None].astype(np.float32),
        "directions": gaussian.directions.astype(np.float32),
        "precision": np.array(1 / gaussian.spread**2, np.float32),
        "zero": np.array(0, np.float32),
        "shape": np.array([-1, 1, gaussian.means.shape[1]]),
        "last": np.array([2]),
        "classes": np.array([1]),
    }
    made.graph.initializer.extend(numpy_helper.from_array(value, PREFIX + name) for name, value in constants.items())
    steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Reshape", [source, PREFIX + "shape"], "features", {}),
        ("Sub", [PREFIX + "features", PREFIX + "means"], "apart", {}),
        ("ReduceSumSquare", [PREFIX + "apart", PREFIX + "last"], "whole", {"keepdims": 0}),
        ("Mul", [PREFIX + "whole", PREFIX + "precision"], "even", {}),
        ("MatMul", [PREFIX + "apart", PREFIX + "directions"], "along", {}),
        ("ReduceSumSquare", [PREFIX + "along", PREFIX + "last"], "known", {"keepdims": 0}),
        ("Sub", [PREFIX + "even", PREFIX + "known"], "squared", {}),
        ("ReduceMin", [PREFIX + "squared", PREFIX + "classes"], "nearest", {"keepdims": 1}),
        ("Max", [PREFIX + "nearest", PREFIX + "zero"], "positive", {}),
    ]
    for operator, inputs, output, attributes in steps:
        made.graph.node.append(
            helper.make_node(operator, inputs, [PREFIX + output], name=PREFIX + output, **attributes)
        )
    made.graph.node.append(helper.make_node("Sqrt", [PREFIX + "positive"], [DISTANCE], name=PREFIX + "sqrt"))
    batch = next(value for value in made.graph.output if value.name == LOGITS).type.tensor_type.shape.dim[0]
    made.graph.output.append(
        helper.make_tensor_value_info(DISTANCE, TensorProto.FLOAT, [batch.dim_param or batch.dim_value, 1])
    )
    return made


def _source(network: onnx.ModelProto) -> str:
    source = head_input(network.graph)
    if source is None:
        raise ValueError("the network has no linear head")
    return source


def fit_ood(gaussian: Gaussian, training: int, validation: Floats) -> Ood:
    """Return the threshold for a file, from the distances [n] that it gives validation's images.

    Of few images the quantile says little of the tail, so it is widened by 10/n.
    """
    threshold = float(np.quantile(validation, QUANTILE)) * (1 + 10 / len(validation))
    return Ood(
        threshold=threshold,
        images=training,
        components=gaussian.directions.shape[1],
        validation=len(validation),
        rejected=float(np.mean(validation > threshold)),
    )


def fit_quality(looks: Sequence[Looks]) -> Quality:
    """Return bounds that images of these looks meet, and half of what is beyond them.

    Half the way from validation's extremes to what no picture can be: black, white, flat, all clipped. It catches a
    lens cap and a lamp in the lens; what lies in between is the model's to answer for, and the report's to measure.
    """
    dark, bright = min(one.brightness for one in looks), max(one.brightness for one in looks)
    return Quality(
        brightness=(dark / 2, (1 + bright) / 2),
        contrast=min(one.contrast for one in looks) / 2,
        clipped=(1 + max(one.clipped for one in looks)) / 2,
        validation=len(looks),
    )
