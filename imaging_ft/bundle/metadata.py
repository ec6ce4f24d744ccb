"""What an exported file says of itself: what it takes, what it gives, how good it is and where it came from.

What a host needs rides in the file's `metadata_props`; each key is `imaging_ft.<name>` and holds JSON. A JSON
Schema of it is `export/bundle.schema.json`.
"""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from imaging_ft.bundle.decision import Said, Threshold, VectorScaling, check_decision, decide
from imaging_ft.bundle.evidence import Golden, Parity, PrecisionLoss
from imaging_ft.bundle.rejection import Ood, Quality
from imaging_ft.bundle.seen import Seen
from imaging_ft.bundle.versions import SCHEMA, upgraded
from imaging_ft.config import Frozen
from imaging_ft.errors import BundleError, ConfigError
from imaging_ft.preprocess import InputSpec
from imaging_ft.types import Floats, Precision, Task

PREFIX = "imaging_ft."

LOGITS = "logits"
PROBABILITIES = "probabilities"
EMBEDDING = "embedding"
"""The features before the head: float32 [batch, features]."""
SALIENCY = "saliency"
"""The class activation map of the most probable class: float32 [batch, rows, columns]; its mean plus the class's bias
is the class's logit, so that what is negative speaks against the class."""
DISTANCE = "distance"
"""How far the image is from training's, as `ood` says: float32 [batch, 1]."""


class Label(Frozen):
    """A class of the model, at the index of its output."""

    id: int
    name: str
    code: str | None = None
    """SNOMED CT or LOINC code, such as `SCT 427359005`; null where none was given."""


class Graph(Frozen):
    """How a file computes, and what it was made for."""

    target: str
    """The deployment target's name: a YAML file of `export/targets/`."""
    precision: Precision
    opset: int
    preprocessing: Literal["inside", "outside"]
    """Inside: the input is `image`, any stored image. Outside: it is `levels`, float32 [batch, channels, height, width]
    from 0 to 255, which the host has windowed and resized; dividing by 255, mean and std are in the graph in either
    case."""
    resize: Literal["antialias", "matmul"]
    """By the operator Resize with antialias, or as two matrix products, for runtimes without antialias."""
    batch: Literal[1] | None
    """1: the file takes an image at a time; null: any number of them."""
    batches: tuple[Annotated[int, Field(ge=1)], ...]
    """Batch sizes that a server should fill up to."""
    providers: tuple[str, ...]
    """onnxruntime's execution providers in the order that the target prefers; empty: of another runtime."""
    float_layers: tuple[str, ...] = ()
    """Layers that were left in float32 although the precision is lower, by the names of their nodes."""


class Bundle(Frozen):
    """Everything a bundle says of itself."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    schema_: Annotated[Literal["imaging_ft.bundle/2"], Field(alias="schema")] = SCHEMA
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
    graph: Graph
    ood: Ood | None = None
    """From which `distance` an image is out of distribution; null: none is rejected for that."""
    quality: Quality | None = None
    """How dark, bright, flat or clipped an image may be; null: none is rejected for that."""
    metrics: dict[str, Any]
    """What was measured on validation when it was trained, with intervals where they apply."""
    parity: Parity
    precision_loss: PrecisionLoss | None = None
    """What the lower precision cost where it was measured; null for float32."""
    golden: Golden
    provenance: dict[str, Any]
    seen: Seen | None = None
    """The images that it was trained or validated on; null: the file doesn't say."""
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

    def brief(self) -> "Bundle":
        """Return it without the digests of the images that were seen, for what is shown or served."""
        return self.model_copy(update={"seen": self.seen.brief() if self.seen else None})

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
        values = upgraded(values, where=where)
        try:
            return cls.checked(values, where=where)
        except ConfigError as error:
            raise BundleError(f"{error} (the bundle's metadata)") from error


def bundle_schema() -> str:
    """Return `export/bundle.schema.json`: the JSON Schema of the metadata, taken together as one object.

    Written by `python -c "from imaging_ft.bundle import bundle_schema as s; print(s(), end='')"`.
    """
    schema = Bundle.model_json_schema(mode="serialization")
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
