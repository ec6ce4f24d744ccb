"""The bundle: what an exported file says of itself, its published schema, and how damage is told."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnxruntime as ort
import pytest

from imaging_ft.bundle import Bundle, Golden, bundle_schema
from imaging_ft.errors import BundleError, ConfigError
from tests.conftest import LABELS, Exported

SCHEMA = Path(__file__).parents[1] / "export" / "bundle.schema.json"


@pytest.fixture(scope="module")
def metadata(exported: Exported) -> dict[str, str]:
    session: Any = ort.InferenceSession(exported.model, providers=["CPUExecutionProvider"])
    return session.get_modelmeta().custom_metadata_map


def test_the_published_schema_is_current() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == bundle_schema(), "see bundle_schema() for how it is written"


def test_a_real_bundle_follows_the_published_schema(metadata: dict[str, str]) -> None:
    values = {key.removeprefix("imaging_ft."): json.loads(text) for key, text in metadata.items()}
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(values)
    assert list(validator.iter_errors(values | {"temperature": -1}))
    assert list(validator.iter_errors({key: value for key, value in values.items() if key != "golden"}))


def test_metadata_are_the_plans_keys_each_holding_json(metadata: dict[str, str]) -> None:
    keys = "schema task labels thresholds temperature input ood metrics parity golden provenance intended_use"
    assert set(metadata) == {f"imaging_ft.{key}" for key in keys.split()}
    assert json.loads(metadata["imaging_ft.schema"]) == "imaging_ft.bundle/1"
    assert [label["name"] for label in json.loads(metadata["imaging_ft.labels"])] == list(LABELS)


def test_a_bundle_comes_back_from_its_metadata(metadata: dict[str, str]) -> None:
    bundle = Bundle.from_metadata(metadata, where="m.onnx")
    assert Bundle.from_metadata(bundle.to_metadata(), where="m.onnx") == bundle
    assert bundle.to_metadata() == metadata


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("schema", '"imaging_ft.bundle/9"', "m.onnx: bundle schema 'imaging_ft.bundle/9', but this version reads"),
        ("labels", '[{"id"', "m.onnx: its metadata is damaged"),
        ("labels", '[{"id": 0, "name": "a"}]', "m.onnx: labels: "),
        ("labels", '[{"id": 1, "name": "a"}, {"id": 0, "name": "b"}]', "labels must be numbered"),
        ("labels", '[{"id": 0, "name": "a"}, {"id": 1, "name": "a"}]', "two labels have the same name"),
        ("labels", '[{"id": 0, "name": "a"}, {"id": 1, "name": "b"}]', "golden logits are not as many as the labels"),
        ("temperature", "0", "m.onnx: temperature: "),
        ("colour", "1", "m.onnx: unknown key 'colour'"),
    ],
)
def test_damaged_metadata_is_one_line_that_names_the_file(
    metadata: dict[str, str], key: str, text: str, message: str
) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        Bundle.from_metadata(metadata | {f"imaging_ft.{key}": text}, where="m.onnx")
    assert "\n" not in str(caught.value)


def test_a_missing_key_is_named(metadata: dict[str, str]) -> None:
    with pytest.raises(BundleError, match="the key 'golden' is missing"):
        Bundle.from_metadata({k: v for k, v in metadata.items() if k != "imaging_ft.golden"}, where="m.onnx")


def test_a_model_without_our_metadata_is_not_a_bundle() -> None:
    with pytest.raises(BundleError, match=r"m.onnx: an ONNX model, but not a bundle .* imaging-ft export"):
        Bundle.from_metadata({"author": "somebody"}, where="m.onnx")


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_golden_sample_keeps_its_pixels(dtype: str) -> None:
    image = np.random.default_rng(3).integers(0, np.iinfo(dtype).max + 1, (1, 5, 7, 3)).astype(dtype)
    golden = Golden.of(image, [[0.5, -1.0]], tolerance=0.01)
    again = Golden.model_validate_json(golden.model_dump_json()).image()
    assert again.dtype == image.dtype
    assert np.array_equal(again, image)


def test_a_golden_sample_with_missing_bytes_is_refused() -> None:
    golden = Golden.of(np.zeros((1, 4, 4, 1), np.uint8), [[0.0, 1.0]], tolerance=0.01)
    with pytest.raises(ConfigError, match="not the 16 bytes of its shape"):
        Golden.checked(golden.model_dump() | {"data": golden.data[:8]}, where="m.onnx")
