"""The bundle: what an exported file says of itself, its published schema, and how damage is told."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax

from imaging_ft.bundle import SEPARATOR, Bundle, Golden, VectorScaling, bundle_schema, decide, probabilities
from imaging_ft.data.card import LABEL_SEPARATOR
from imaging_ft.errors import BundleError, ConfigError
from imaging_ft.preprocess import InputSpec
from imaging_ft.types import Task
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
    keys = (
        "schema task labels thresholds temperature vector_scaling input graph ood quality metrics parity"
        " precision_loss golden seen"
    )
    assert set(metadata) == {f"imaging_ft.{key}" for key in [*keys.split(), "provenance", "intended_use"]}
    assert json.loads(metadata["imaging_ft.schema"]) == "imaging_ft.bundle/2"
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


def made_up(**changes: Any) -> dict[str, str]:
    """Return the metadata of a bundle of three labels, some of its keys replaced."""
    values: dict[str, Any] = {
        "schema": "imaging_ft.bundle/1",
        "task": "multilabel",
        "labels": [{"id": index, "name": name} for index, name in enumerate(LABELS)],
        "thresholds": {"bar": 0.25, "disc": 0.5, "ring": 0.75},
        "temperature": 1,
        "vector_scaling": {"scale": [1, 2, 3], "bias": [0, -1, 0.5]},
        "input": InputSpec(channels=1).model_dump(),
        "metrics": {},
        "parity": {
            "images": 1,
            "top1_agreement": 1,
            "max_probability_difference": 0,
            "max_logit_difference": 0,
            "max_level_difference": 0,
            "tolerance": 1e-3,
            "sizes": [],
            "batches": [],
            "provider": "CPUExecutionProvider",
        },
        "golden": Golden.of(np.zeros((1, 4, 4, 1), np.uint8), [[0.0, 1.0, 2.0]], tolerance=0.01).model_dump(),
        "provenance": {},
    }
    return {f"imaging_ft.{key}": json.dumps(value) for key, value in (values | changes).items()}


def test_a_multi_label_bundle_comes_back_and_follows_the_published_schema() -> None:
    bundle = Bundle.from_metadata(made_up(), where="m.onnx")
    assert (bundle.task, bundle.vector_scaling) == (Task.MULTILABEL, VectorScaling(scale=(1, 2, 3), bias=(0, -1, 0.5)))
    again = bundle.to_metadata()
    assert Bundle.from_metadata(again, where="m.onnx") == bundle
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
    values = {key.removeprefix("imaging_ft."): json.loads(text) for key, text in again.items()}
    validator.validate(values)
    assert not validator.is_valid(values | {"vector_scaling": {"scale": [1, 0, 1], "bias": [0, 0, 0]}})
    assert not validator.is_valid(values | {"thresholds": {"bar": 2}})


def test_a_file_of_the_first_schema_is_read_as_it_was_meant() -> None:
    bundle = Bundle.from_metadata(made_up(), where="m.onnx")
    assert bundle.schema_ == "imaging_ft.bundle/2"
    assert (bundle.graph.precision, bundle.graph.preprocessing, bundle.graph.batch) == ("fp32", "inside", None)
    assert bundle.precision_loss is None


def test_a_file_of_a_later_schema_says_to_update() -> None:
    with pytest.raises(
        BundleError, match=r"m.onnx: bundle schema .*/99.*, but this version reads .*/1.* and .*/2"
    ) as at:
        Bundle.from_metadata(made_up(schema="imaging_ft.bundle/99"), where="m.onnx")
    assert "update this one" in str(at.value)


def test_what_no_version_wrote_says_to_export_again() -> None:
    with pytest.raises(BundleError, match="export it again"):
        Bundle.from_metadata(made_up(schema="onnx/1"), where="m.onnx")


def test_a_bundle_from_before_vector_scaling_still_loads() -> None:
    old = {key: text for key, text in made_up(temperature=1.5).items() if not key.endswith("vector_scaling")}
    bundle = Bundle.from_metadata(old, where="m.onnx")
    assert (bundle.temperature, bundle.vector_scaling) == (1.5, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"thresholds": {"bar": 0.5, "disc": 0.5}}, "m.onnx: thresholds: the label 'ring' has none; give one for each"),
        (
            {"thresholds": {"bar": 0.5, "disc": 0.5, "ring": 0.5, "rings": 0.5}},
            "thresholds: no label named 'rings'; did you mean 'ring'?",
        ),
        ({"thresholds": {"bar": 1.5, "disc": 0.5, "ring": 0.5}}, "thresholds.bar: input should be less than or equal"),
        (
            {"thresholds": {"bar": float("nan"), "disc": 0.5, "ring": 0.5}},
            "thresholds.bar: input should be less than or equal",
        ),
        (
            {"vector_scaling": {"scale": [1, 2], "bias": [0, 0, 0]}},
            "vector_scaling.scale: 2 values for 3 labels; give one for each",
        ),
        (
            {"vector_scaling": {"scale": [1, 2, 3], "bias": [0, 0, 0, 0]}},
            "vector_scaling.bias: 4 values for 3 labels; give one for each",
        ),
        ({"vector_scaling": {"scale": [1, 0, 3], "bias": [0, 0, 0]}}, "scale.1: input should be greater than 0"),
        ({"vector_scaling": {"scale": [1, 1, 3], "bias": [0, float("inf"), 0]}}, "bias.1: input should be a finite"),
        ({"temperature": 2}, "temperature: 2 beside a vector scaling, which takes its place; write 1"),
        (
            {
                "labels": [{"id": index, "name": name} for index, name in enumerate(("bar", "disc", "a|b"))],
                "thresholds": {"bar": 0.5, "disc": 0.5, "a|b": 0.5},
            },
            "'a|b': '|' separates the labels of a multi-label task; rename it",
        ),
    ],
)
def test_what_does_not_fit_the_labels_is_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError) as caught:
        Bundle.from_metadata(made_up(**changes), where="m.onnx")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_separator_is_the_data_sets() -> None:
    assert SEPARATOR == LABEL_SEPARATOR


LOGITS = np.array([[2.0, -1.0, 0.5], [-3.0, 4.0, 0.0]])


def test_probabilities_are_softmax_or_sigmoid_of_scaled_logits() -> None:
    scaling = VectorScaling(scale=(1, 2, 0.5), bias=(0, -1, 0.25))
    shifted = LOGITS * [1, 2, 0.5] + [0, -1, 0.25]
    for task in (Task.BINARY, Task.MULTICLASS):
        assert probabilities(LOGITS, task=task, temperature=2.5) == pytest.approx(softmax(LOGITS / 2.5, axis=1))
        found = probabilities(LOGITS, task=task, temperature=1, vector_scaling=scaling)
        assert found == pytest.approx(softmax(shifted, axis=1))
    assert probabilities(LOGITS, task=Task.MULTILABEL, temperature=2.5) == pytest.approx(expit(LOGITS / 2.5))
    found = probabilities(LOGITS, task=Task.MULTILABEL, temperature=1, vector_scaling=scaling)
    assert found == pytest.approx(expit(shifted))


@given(st.lists(st.lists(st.floats(-1e5, 1e5), min_size=3, max_size=3), min_size=1, max_size=4))
def test_probabilities_of_any_logits_are_within_0_and_1(rows: list[list[float]]) -> None:
    for task in Task:
        found = probabilities(np.array(rows), task=task, temperature=0.5)
        assert ((found >= 0) & (found <= 1)).all()
        if task is not Task.MULTILABEL:
            assert found.sum(axis=1) == pytest.approx(1)


def test_a_model_says_the_largest_class_or_each_that_reaches_its_threshold() -> None:
    given_ = np.array([[0.5, 0.5, 0.0], [0.1, 0.2, 0.7], [0.2, 0.45, 0.35]], np.float32)
    thresholds = [0.5, 0.25, 0.75]
    single = [[True, False, False], [False, False, True], [False, True, False]]
    assert decide(given_, task=Task.MULTICLASS, thresholds=thresholds).tolist() == single
    several = [[True, True, False], [False, False, False], [False, True, False]]
    assert decide(given_, task=Task.MULTILABEL, thresholds=thresholds).tolist() == several


def test_a_bundle_takes_its_thresholds_by_name() -> None:
    bundle = Bundle.from_metadata(made_up(thresholds={"ring": 0.75, "disc": 0.5, "bar": 0.25}), where="m.onnx")
    assert bundle.decide(np.array([[0.3, 0.3, 0.9], [0.2, 0.6, 0.7]])).tolist() == [
        [True, False, True],
        [False, True, False],
    ]
