"""The bundle: one ONNX file that says what it takes, what it gives, how good it is and where it came from."""

from imaging_ft.bundle.decision import (
    DEFAULT_THRESHOLD,
    SEPARATOR,
    Said,
    Threshold,
    VectorScaling,
    check_decision,
    decide,
    probabilities,
)
from imaging_ft.bundle.evidence import CellLoss, Golden, Parity, PrecisionLoss
from imaging_ft.bundle.file import file_sha256
from imaging_ft.bundle.metadata import (
    DISTANCE,
    EMBEDDING,
    LOGITS,
    PREFIX,
    PROBABILITIES,
    SALIENCY,
    Bundle,
    Graph,
    Label,
    bundle_schema,
)
from imaging_ft.bundle.rejection import Ood, Quality
from imaging_ft.bundle.seen import Seen, digest
from imaging_ft.bundle.versions import SCHEMA
from imaging_ft.preprocess import INPUT, LEVELS

__all__ = [
    "DEFAULT_THRESHOLD",
    "DISTANCE",
    "EMBEDDING",
    "INPUT",
    "LEVELS",
    "LOGITS",
    "PREFIX",
    "PROBABILITIES",
    "SALIENCY",
    "SCHEMA",
    "SEPARATOR",
    "Bundle",
    "CellLoss",
    "Golden",
    "Graph",
    "Label",
    "Ood",
    "Parity",
    "PrecisionLoss",
    "Quality",
    "Said",
    "Seen",
    "Threshold",
    "VectorScaling",
    "bundle_schema",
    "check_decision",
    "decide",
    "digest",
    "file_sha256",
    "probabilities",
]
