"""A file that is about to be written, run by the runtimes that it's for."""

from collections.abc import Sequence
from typing import Any, Protocol

import cv2
import numpy as np
import onnx
import onnxruntime as ort

from imaging_ft.bundle import INPUT, LOGITS, PROBABILITIES
from imaging_ft.export.target import Target
from imaging_ft.inference.parts import split
from imaging_ft.preprocess import LEVELS, InputSpec, conform, prepare
from imaging_ft.types import Floats, Pixels
from imaging_ft.types import Levels as LevelArray

_CPU = ["CPUExecutionProvider"]


class Candidate(Protocol):
    """A runtime with the file loaded."""

    runtime: str
    """Its name and what it runs on."""

    def run(self, images: Sequence[Pixels]) -> tuple[Floats, Floats]:
        """Return logits and probabilities [n, classes] of stored images of one size."""
        ...

    def levels(self, images: Sequence[Pixels]) -> LevelArray:
        """Return what the network sees of stored images of one size: [n, channels, height, width]."""
        ...


def candidates(model: onnx.ModelProto, spec: InputSpec, target: Target) -> list[Candidate]:
    """Return the runtimes here that a target's file is tried in: onnxruntime, and the target's own where it's here."""
    if target.preprocessing == "inside":
        return [_Inside(model)]
    found: list[Candidate] = [_Outside(model, spec, target.batch)]
    if target.runtime == "opencv-dnn":
        found.append(_OpenCv(model, spec))
    return found


class _Inside:
    """The whole file in onnxruntime, from stored images."""

    runtime = "CPUExecutionProvider"

    def __init__(self, model: onnx.ModelProto) -> None:
        self._whole: Any = ort.InferenceSession(model.SerializeToString(), providers=_CPU)
        pre = split(model, where="the graph").pre
        self._pre: Any = ort.InferenceSession(pre.SerializeToString(), providers=_CPU)

    def run(self, images: Sequence[Pixels]) -> tuple[Floats, Floats]:
        logits, said = self._whole.run([LOGITS, PROBABILITIES], {INPUT: np.stack(images)})
        return logits, said

    def levels(self, images: Sequence[Pixels]) -> LevelArray:
        return self._pre.run([LEVELS], {INPUT: np.stack(images)})[0]


class _Outside:
    """A file that leaves the preprocessing to its host, in onnxruntime."""

    runtime = "CPUExecutionProvider"

    def __init__(self, model: onnx.ModelProto, spec: InputSpec, batch: int | None) -> None:
        self._session: Any = ort.InferenceSession(model.SerializeToString(), providers=_CPU)
        self._spec = spec
        self._batch = batch

    def run(self, images: Sequence[Pixels]) -> tuple[Floats, Floats]:
        levels = self.levels(images).astype(np.float32)
        step = self._batch or len(levels)
        parts = [self._forward(levels[start : start + step]) for start in range(0, len(levels), step)]
        logits, said = (np.concatenate(each) for each in zip(*parts, strict=True))
        return logits, said

    def levels(self, images: Sequence[Pixels]) -> LevelArray:
        return np.stack([prepare(conform(image, self._spec), self._spec).transpose(2, 0, 1) for image in images])

    def _forward(self, levels: Floats) -> Sequence[Floats]:
        return self._session.run([LOGITS, PROBABILITIES], {LEVELS: levels})


class _OpenCv(_Outside):
    """A file that leaves the preprocessing to its host, in OpenCV's DNN module."""

    runtime = f"OpenCV {cv2.__version__}"

    def __init__(self, model: onnx.ModelProto, spec: InputSpec) -> None:
        super().__init__(model, spec, 1)
        self._net = cv2.dnn.readNetFromONNX(np.frombuffer(model.SerializeToString(), np.uint8))
        self._outputs = [output.name for output in model.graph.output]

    def _forward(self, levels: Floats) -> Sequence[Floats]:
        self._net.setInput(levels, LEVELS)
        found = dict(zip(self._outputs, self._net.forward(self._outputs), strict=True))
        return [np.asarray(found[name], np.float32) for name in (LOGITS, PROBABILITIES)]
