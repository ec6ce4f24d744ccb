"""The bundle: one ONNX file that says what it takes, what it gives, how good it is and where it came from.

What a host needs rides in the file's `metadata_props`; each key is `imaging_ft.<name>` and holds JSON. A JSON
Schema of it is `export/bundle.schema.json`.
"""

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field, FiniteFloat, model_validator

from imaging_ft.catalog import suggest
from imaging_ft.config import Frozen
from imaging_ft.errors import BundleError, ConfigError
from imaging_ft.preprocess import InputSpec
from imaging_ft.types import Floats, Pixels, Task

SCHEMA = "imaging_ft.bundle/1"
PREFIX = "imaging_ft."

INPUT = "image"
LOGITS = "logits"
PROBABILITIES = "probabilities"

SEPARATOR = "|"
"""Between the classes of one image, where a multi-label task's answer is one text; the data's `LABEL_SEPARATOR`."""

Said = npt.NDArray[np.bool_]
"""[n, classes], true where a class is said to be there: one in each row, or in a multi-label task any number."""

Threshold = Annotated[float, Field(ge=0, le=1)]
DEFAULT_THRESHOLD = 0.5
"""Of a class for which no operating point was chosen."""


class Label(Frozen):
    """A class of the model, at the index of its output."""

    id: int
    name: str
    code: str | None = None
    """SNOMED CT or LOINC code, such as `SCT 427359005`; null where none was given."""


class VectorScaling(Frozen):
    """Each class's logit times its scale plus its bias, in place of the temperature (Guo et al. 2017)."""

    scale: tuple[Annotated[FiniteFloat, Field(gt=0)], ...]
    """By class, in the order of the outputs."""
    bias: tuple[FiniteFloat, ...]
    """By class, in the order of the outputs."""


class Golden(Frozen):
    """A small input and the logits that the trained model gives for it: a host's self-test."""

    shape: tuple[int, int, int, int]
    """[batch, height, width, channels]."""
    dtype: Literal["uint8", "uint16"]
    data: str
    """The pixels in C order, little-endian, as base64."""
    logits: tuple[tuple[float, ...], ...]
    """[batch, classes]."""
    tolerance: float
    """How far a logit may be off."""

    @model_validator(mode="after")
    def _data_fits(self) -> Self:
        wanted = math.prod(self.shape) * np.dtype(self.dtype).itemsize
        if len(base64.b64decode(self.data)) != wanted:
            raise ValueError(f"the golden sample's data are not the {wanted} bytes of its shape")
        if len(self.logits) != self.shape[0]:
            raise ValueError(f"{len(self.logits)} rows of golden logits for {self.shape[0]} images")
        return self

    @classmethod
    def of(cls, image: Pixels, logits: list[list[float]], *, tolerance: float) -> Self:
        """Return the golden sample for a batch of images [batch, height, width, channels]."""
        little = np.ascontiguousarray(image.astype(image.dtype.newbyteorder("<")))
        return cls.checked(
            {
                "shape": image.shape,
                "dtype": image.dtype.name,
                "data": base64.b64encode(little.tobytes()).decode("ascii"),
                "logits": logits,
                "tolerance": tolerance,
            },
            where="golden",
        )

    def image(self) -> Pixels:
        """Return the input [batch, height, width, channels]."""
        flat = np.frombuffer(base64.b64decode(self.data), np.dtype(self.dtype).newbyteorder("<"))
        return flat.reshape(self.shape).astype(self.dtype)


class Parity(Frozen):
    """How closely the exported file agrees with the trained model, on every validation image."""

    images: int
    top1_agreement: float
    """Share of everything compared on which both say the same: the same largest class, so 1; of a multi-label task
    the same set of classes, so below 1 where a probability lies within `tolerance` of its threshold."""
    max_probability_difference: float
    max_logit_difference: float
    max_level_difference: int
    """How far the graph's preprocessing is from NumPy's and Pillow's, in levels of 256; 2 are allowed."""
    tolerance: float
    """The probability difference that was allowed."""
    sizes: tuple[tuple[int, int], ...]
    """Height and width of the image sizes that were tried besides the images' own."""
    batches: tuple[int, ...]
    provider: str


class Bundle(Frozen):
    """Everything a bundle says of itself."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    schema_: Annotated[Literal["imaging_ft.bundle/1"], Field(alias="schema")] = SCHEMA
    task: Task
    labels: Annotated[tuple[Label, ...], Field(min_length=2)]
    thresholds: dict[str, Threshold]
    """Probability from which a class counts as present, for each label by its name. In a multi-label task these decide
    what an image shows; elsewhere the label is the largest probability."""
    temperature: Annotated[float, Field(gt=0)]
    """What the logits were divided by before softmax or sigmoid; already applied in `probabilities`."""
    vector_scaling: VectorScaling | None = None
    """A scale and a bias of each class's logit in place of the temperature, which then is 1; already applied in
    `probabilities`."""
    input: InputSpec
    ood: dict[str, Any] | None = None
    """Out-of-distribution method and threshold; null: no input is rejected."""
    metrics: dict[str, Any]
    """What was measured on validation when it was trained, with intervals where they apply."""
    parity: Parity
    golden: Golden
    provenance: dict[str, Any]
    intended_use: str | None = None

    @model_validator(mode="after")
    def _labels_count_up(self) -> Self:
        if [label.id for label in self.labels] != list(range(len(self.labels))):
            raise ValueError("labels must be numbered 0, 1, 2 … in the order of the outputs")
        if len(set(self.names)) < len(self.labels):
            raise ValueError("two labels have the same name")
        if any(len(row) != len(self.labels) for row in self.golden.logits):
            raise ValueError("the golden logits are not as many as the labels")
        return self

    @model_validator(mode="after")
    def _decides_on_its_labels(self) -> Self:
        check_decision(
            self.names,
            task=self.task,
            thresholds=self.thresholds,
            temperature=self.temperature,
            vector_scaling=self.vector_scaling,
        )
        return self

    @property
    def names(self) -> list[str]:
        """The classes' names in the order of the outputs."""
        return [label.name for label in self.labels]

    def decide(self, found: Floats) -> Said:
        """Return what the model says [n, classes] where its graph gives probabilities [n, classes]."""
        return decide(found, task=self.task, thresholds=[self.thresholds[name] for name in self.names])

    def to_metadata(self) -> dict[str, str]:
        """Return the ONNX metadata: `imaging_ft.<name>` to JSON."""
        values = self.model_dump(mode="json", by_alias=True)
        return {PREFIX + key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}

    @classmethod
    def from_metadata(cls, metadata: dict[str, str], *, where: str) -> Self:
        """Return the bundle that a file's metadata describes; raises BundleError naming the file."""
        ours = {key: text for key, text in metadata.items() if key.startswith(PREFIX)}
        if not ours:
            raise BundleError(
                f"{where}: an ONNX model, but not a bundle (no {PREFIX}* metadata); write one with imaging-ft export"
            )
        try:
            values = {key.removeprefix(PREFIX): json.loads(text) for key, text in ours.items()}
        except json.JSONDecodeError as error:
            raise BundleError(f"{where}: its metadata is damaged: {error}") from error
        found = values.get("schema")
        if found != SCHEMA:
            raise BundleError(f"{where}: bundle schema {found!r}, but this version reads {SCHEMA!r}; export it again")
        try:
            return cls.checked(values, where=where)
        except ConfigError as error:
            raise BundleError(f"{error} (the bundle's metadata)") from error


def probabilities(
    logits: Floats, *, task: Task, temperature: float, vector_scaling: VectorScaling | None = None
) -> Floats:
    """Return the probabilities [n, classes] of logits [n, classes]: softmax, or sigmoid for a multi-label task.

    This is what an exported graph computes. The logits are divided by the temperature before, or scaled and shifted
    class by class where there is a vector scaling.
    """
    scaled = np.asarray(logits, np.float64)
    if vector_scaling is None:
        scaled = scaled / temperature
    else:
        scaled = scaled * np.array(vector_scaling.scale) + np.array(vector_scaling.bias)
    if task is Task.MULTILABEL:
        return np.exp(-np.logaddexp(0, -scaled))
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def decide(found: Floats, *, task: Task, thresholds: Sequence[float]) -> Said:
    """Return what a model says [n, classes] where it gives probabilities [n, classes].

    It says the class with the largest probability (the first of equals); in a multi-label task, each class whose
    probability reaches its threshold, which may be several or none. `thresholds` are in the order of the labels.
    """
    if task is Task.MULTILABEL:
        return np.greater_equal(found, np.array(thresholds, np.float64))
    said = np.zeros_like(found, np.bool_)
    np.put_along_axis(said, found.argmax(axis=1, keepdims=True), values=1, axis=1)
    return said


def check_decision(
    labels: Sequence[str],
    *,
    task: Task,
    thresholds: Mapping[str, float],
    temperature: float,
    vector_scaling: VectorScaling | None,
) -> None:
    """Raise ValueError where thresholds, scaling and labels don't belong together."""
    for name in labels:
        if name not in thresholds:
            raise ValueError(f"thresholds: the label {name!r} has none; give one for each label")
        if task is Task.MULTILABEL and SEPARATOR in name:
            raise ValueError(f"labels: {name!r}: {SEPARATOR!r} separates the labels of a multi-label task; rename it")
    for name in thresholds:
        if name not in labels:
            raise ValueError(f"thresholds: no label named {name!r}; {suggest(name, list(labels))}")
    if vector_scaling is None:
        return
    for what, values in (("scale", vector_scaling.scale), ("bias", vector_scaling.bias)):
        if len(values) != len(labels):
            raise ValueError(f"vector_scaling.{what}: {len(values)} values for {len(labels)} labels; give one for each")
    if temperature != 1:
        raise ValueError(f"temperature: {temperature:g} beside a vector scaling, which takes its place; write 1")


def bundle_schema() -> str:
    """Return `export/bundle.schema.json`: the JSON Schema of the metadata, taken together as one object.

    Written by `python -c "from imaging_ft.bundle import bundle_schema as s; print(s(), end='')"`.
    """
    schema = Bundle.model_json_schema(mode="serialization")
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
