"""Preparation of images by the very graph that the exported file carries."""

import importlib
from functools import lru_cache
from typing import Any, cast

import numpy as np

from imaging_ft.preprocess.spec import INPUT, InputSpec, conform
from imaging_ft.types import Levels, Pixels


def prepare(pixels: Pixels, spec: InputSpec) -> Levels:
    """Return a stored image as the integer levels [height, width, channels] that the network sees.

    The steps run in onnxruntime on the CPU, from the same ONNX graph that `export` puts into the file: what a
    network was trained on and what its exported file sees are the same bytes. (A resize in another library,
    even one level off in a pixel in two thousand, moved logits by up to 0.26.)
    """
    batch = conform(pixels, spec)[np.newaxis]
    session = _session(spec)  # pyright: ignore[reportArgumentType] - pydantic makes a frozen model hashable
    levels = cast("Levels", session.run(None, {INPUT: batch})[0])
    return np.ascontiguousarray(levels[0].transpose(1, 2, 0))


@lru_cache(maxsize=8)
def _session(spec: InputSpec) -> Any:
    from imaging_ft.preprocess.graph import preprocessing_graph

    ort: Any = importlib.import_module("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # images are prepared side by side
    options.log_severity_level = 3
    model = preprocessing_graph(spec).SerializeToString()
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
