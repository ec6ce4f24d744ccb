"""What a MONAI bundle says of itself: its metadata in MONAI's schema, and its README."""

import re
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from imaging_ft import __version__
from imaging_ft.bundle import Bundle
from imaging_ft.export.monai_inference import SUFFIXES
from imaging_ft.models.catalogue import describe
from imaging_ft.models.factory import PRETRAINED
from imaging_ft.training.run import ModelInfo
from imaging_ft.types import Json, Task

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
"""Where MONAI publishes the schema of a bundle's metadata; `verify_metadata` fetches it from there."""
OURS = "imaging_ft"
"""Our own key of the metadata, by which a later export knows the folder as its own."""

_KEPT = {"task", "labels", "thresholds", "temperature", "vector_scaling", "input", "provenance"}
"""What is under it: what the exported file says of itself, for a host that has to decide."""
_CHANNELS = {1: ("gray",), 3: ("red", "green", "blue")}


def metadata(info: ModelInfo, bundle: Bundle, name: str) -> Json:
    spec, classes = info.input, bundle.names
    data = info.provenance.get("dataset", {})
    libraries = ["pillow", *(["timm"] if not info.backbone.startswith("monai/") else [])]
    image = {
        "type": "image",
        "format": "magnitude",
        "modality": "n/a",
        "num_channels": spec.channels,
        "spatial_shape": [spec.height, spec.width],
        "dtype": "float32",
        "value_range": [0, 255],
        "is_patch_data": False,
        "channel_def": _numbered(_CHANNELS[spec.channels]),
    }
    pred = {
        "type": "probabilities",
        "format": "classes",
        "num_channels": len(classes),
        "spatial_shape": [],
        "dtype": "float32",
        "value_range": [0, 1],
        "is_patch_data": False,
        "channel_def": _numbered(classes),
    }
    said: Json = {
        "schema": SCHEMA,
        "version": "0.1.0",
        "changelog": {"0.1.0": f"exported by imaging_ft {__version__}"},
        "monai_version": version("monai"),
        "pytorch_version": torch.__version__.partition("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {library: version(library) for library in libraries},
        "name": name,
        "task": f"{info.task} classification: {', '.join(classes)}",
        "description": f"{info.backbone}, fine-tuned with imaging_ft. Levels from 0 to 255 that nobody has normalised"
        f" go in, calibrated probabilities ({_says(info)}) come out.",
        "authors": "not stated",
        "copyright": _copyright(info),
        "data_source": f"{data.get('name', 'not stated')}; {data.get('citation') or 'no citation given'}",
        "data_type": f"images of {spec.dtype[4:]} bits",
        "image_classes": f"{spec.channels} channels ({', '.join(_CHANNELS[spec.channels])}), levels from 0 to 255",
        "pred_classes": f"a probability for each of {', '.join(classes)}",
        "eval_metrics": bundle.metrics,
        "intended_use": info.intended_use or "not stated",
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": pred}},
        OURS: bundle.model_dump(mode="json", by_alias=True, include=_KEPT),
    }
    return _inert(said)


def _inert(value: Any) -> Any:
    """Return metadata without texts that MONAI would take for code (`$`), a reference (`@`) or a file (`%`).

    A label or a citation may begin so, or hold what looks like a relative reference; a space in between makes it text.
    """
    if isinstance(value, dict):
        return {key: _inert(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_inert(each) for each in value]
    return re.sub(r"^(?=[$@%])|(?<=[@%])(?=#|::)", " ", value) if isinstance(value, str) else value


def _numbered(names: tuple[str, ...] | list[str]) -> dict[str, str]:
    return {str(index): name for index, name in enumerate(names)}


def _says(info: ModelInfo) -> str:
    scaling = "vector scaling" if info.vector_scaling else "temperature"
    return f"{scaling} and {'sigmoid' if info.task is Task.MULTILABEL else 'softmax'} applied"


def readme(info: ModelInfo, bundle: Bundle, name: str) -> str:
    spec = info.input
    labels = "".join(f"| {label.id} | {label.name} | {bundle.thresholds[label.name]:g} |\n" for label in bundle.labels)
    decision = (
        "Every class whose probability reaches its threshold is present, which may be several, or none."
        if info.task is Task.MULTILABEL
        else "The answer is the largest probability; a threshold is for a host that would rather raise an alarm."
    )
    window = f", the window {spec.window} mapped to 0 to 255" if spec.window else ""
    return f"""# {name}

{info.backbone}, fine-tuned and exported with imaging_ft {__version__}.
Intended use: {info.intended_use or "not stated"}

| output | class | threshold |
|---|---|---|
{labels}
{decision} The probabilities are calibrated already ({_says(info)}).

`network_def` takes float32 `[batch, {spec.channels}, {spec.height}, {spec.width}]`: levels from 0 to 255, **not
normalised**; its first layer does that. `preprocessing` makes them from a stored image: {spec.channels} channels,
{spec.dtype[4:]} bits{window}, {spec.resize} by Pillow's bilinear resize of integers.

From this folder, over every image ({", ".join(suffix[1:] for suffix in SUFFIXES)}) of another:

    pip install monai fire pillow{"" if info.backbone.startswith("monai/") else " timm"}
    python -m monai.bundle run --config_file configs/inference.json --dataset_dir /path/to/images

`eval/predictions.csv` has a row an image: its path, and the probabilities in the order above.
"""


def _copyright(info: ModelInfo) -> str:
    """Return what is known of licences: whoever trained a model chooses its own."""
    data = info.provenance.get("dataset", {})
    start = info.provenance.get("config", {}).get("weights", PRETRAINED)
    weights = f"licence {describe(info.backbone).licence}" if start == PRETRAINED else f"started from {start}"
    return (
        f"no licence is stated for this model; training images: {data.get('licence') or 'licence not stated'};"
        f" weights of {info.backbone}: {weights}"
    )
