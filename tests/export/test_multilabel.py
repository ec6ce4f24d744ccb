"""The export of models that say several classes, or none, and of scaled logits: the graph is `bundle.probabilities`."""

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from imaging_ft.bundle import Bundle, VectorScaling, probabilities
from imaging_ft.data import prepare
from imaging_ft.data.folds import folds
from imaging_ft.errors import DataError, ParityError, RunError
from imaging_ft.export.graph import build
from imaging_ft.export.onnx import export_run
from imaging_ft.export.parity import TOLERANCE, check_parity, reference_logits
from imaging_ft.export.target import load_target
from imaging_ft.export.validation import validation_images
from imaging_ft.image import read_image
from imaging_ft.models.factory import Classifier, Source
from imaging_ft.preprocess import InputSpec
from imaging_ft.training.run import ModelInfo, RunFolder
from imaging_ft.types import Floats, Pixels, Split, Task, silent
from tests.conftest import LABELS
from tests.export.multilabel import SCALING, THRESHOLDS, Multilabel, exported, exported_single, write_dataset, write_run

TARGET = load_target("server-cpu")
Parts = tuple[bytes, Classifier, ModelInfo, list[Pixels]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Multilabel:
    return exported(tmp_path_factory)


@pytest.fixture(scope="module")
def parts(made: Multilabel) -> Parts:
    run = RunFolder.open(made.run)
    model, info = run.read_model()
    return made.model.read_bytes(), model, info, list(validation_images(run, info, data=None, track=silent).images)


def metadata_of(path: Path) -> dict[str, str]:
    session: Any = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.get_modelmeta().custom_metadata_map


def test_the_graph_gives_each_class_a_probability_of_its_own(made: Multilabel) -> None:
    session: Any = ort.InferenceSession(made.model, providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(0).integers(0, 256, (3, 70, 90, 1), dtype=np.uint8)
    logits, found = session.run(["logits", "probabilities"], {"image": pixels})
    wanted = 1 / (1 + np.exp(-(logits * np.array(SCALING.scale) + np.array(SCALING.bias))))
    assert found == pytest.approx(wanted, abs=1e-6)
    assert np.abs(found.sum(axis=1) - 1).max() > 0.01


def test_the_file_says_how_it_was_scaled_and_what_it_decides_by(made: Multilabel) -> None:
    bundle = Bundle.from_metadata(metadata_of(made.model), where="m.onnx")
    assert (bundle.task, bundle.temperature, bundle.vector_scaling) == (Task.MULTILABEL, 1.0, SCALING)
    assert bundle.thresholds == THRESHOLDS
    assert (bundle.parity.images, bundle.parity.top1_agreement) == (64, 1.0)


def test_vector_scaling_of_a_single_label_model_is_in_the_graph_too(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    single = exported_single(tmp_path_factory)
    session: Any = ort.InferenceSession(single.model, providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(0).integers(0, 256, (3, 70, 90, 1), dtype=np.uint8)
    logits, found = session.run(["logits", "probabilities"], {"image": pixels})
    powers = np.exp(logits * np.array(SCALING.scale) + np.array(SCALING.bias))
    assert found == pytest.approx(powers / powers.sum(axis=1, keepdims=True), abs=1e-6)


class _Corners(nn.Module):
    """The mean of each quarter of an image as a feature: the smallest net that sees what it is given."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(images[:, :1], 2).flatten(1)


def corners(seed: int) -> Classifier:
    torch.manual_seed(seed)
    zeros, ones = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    model = Classifier(Source("timm/corners", _Corners(), 4, zeros, ones), classes=3).eval()
    nn.init.normal_(model.head.weight, std=5.0)
    return model


scalings = st.builds(
    VectorScaling,
    scale=st.tuples(*[st.floats(0.05, 10)] * 3),
    bias=st.tuples(*[st.floats(-10, 10)] * 3),
)


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(Task), st.none() | scalings, st.floats(0.2, 10), st.integers(0, 99))
def test_the_graphs_probabilities_are_those_of_the_bundle(
    task: Task, scaling: VectorScaling | None, temperature: float, seed: int
) -> None:
    values = {
        "backbone": "timm/corners",
        "task": task,
        "labels": LABELS,
        "input": InputSpec(channels=1, height=32, width=32),
        "temperature": 1.0 if scaling else temperature,
        "vector_scaling": scaling,
        "thresholds": dict.fromkeys(LABELS, 0.5),
        "metrics": {},
        "provenance": {},
    }
    info = ModelInfo.checked(values, where="test")
    graph = build(corners(seed), info, TARGET, embedding=False).whole().SerializeToString()
    session: Any = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 40, 40, 1), dtype=np.uint8)
    logits, found = session.run(["logits", "probabilities"], {"image": pixels})
    wanted = probabilities(logits, task=task, temperature=info.temperature, vector_scaling=scaling)
    assert found == pytest.approx(wanted, abs=1e-5)


def _probabilities(info: ModelInfo, logits: Floats) -> Floats:
    return probabilities(logits, task=info.task, temperature=info.temperature, vector_scaling=info.vector_scaling)


@pytest.mark.parametrize(
    "changes",
    [
        {"vector_scaling": VectorScaling(scale=SCALING.scale, bias=(0.3, -0.5, 0.125))},
        {"vector_scaling": VectorScaling(scale=(1.5, 0.8, 1.4), bias=SCALING.bias)},
        {"vector_scaling": None},
        {"task": Task.MULTICLASS},
    ],
)
def test_a_graph_that_is_scaled_otherwise_is_refused(changes: dict[str, Any], parts: Parts) -> None:
    data, model, info, images = parts
    with pytest.raises(ParityError, match="disagrees with the trained one on validation images of 72×80"):
        check_parity(onnx.load_model_from_string(data), model, info.model_copy(update=changes), images, TARGET)


def test_a_threshold_between_the_two_probabilities_is_counted_and_not_refused(parts: Parts) -> None:
    data, model, info, images = parts
    session: Any = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    batch = images[:16]
    found = session.run(["probabilities"], {"image": np.stack(batch)})[0].astype(np.float64)
    wanted = _probabilities(info, reference_logits(model, info.input, batch))
    apart = np.abs(found - wanted)
    row, column = np.unravel_index(apart.argmax(), apart.shape)
    assert 0 < apart[row, column] <= TOLERANCE
    between = float((found[row, column] + wanted[row, column]) / 2)
    thresholds = info.thresholds | {info.labels[int(column)]: between}
    parity = check_parity(
        onnx.load_model_from_string(data), model, info.model_copy(update={"thresholds": thresholds}), images, TARGET
    )
    assert 0.9 < parity.top1_agreement < 1


def test_what_model_json_holds_must_fit_its_labels(made: Multilabel, tmp_path: Path) -> None:
    run = Path(shutil.copytree(made.run, tmp_path / "run"))
    values = json.loads((run / "model.json").read_text())
    values["vector_scaling"]["bias"].pop()
    (run / "model.json").write_text(json.dumps(values))
    with pytest.raises(RunError, match=r"model.json: damaged"):
        export_run(run, tmp_path / "m.onnx")


def test_a_run_from_before_vector_scaling_still_opens(made: Multilabel, tmp_path: Path) -> None:
    run = Path(shutil.copytree(made.run, tmp_path / "run"))
    values = json.loads((run / "model.json").read_text())
    del values["vector_scaling"]
    (run / "model.json").write_text(json.dumps(values))
    assert RunFolder.open(run).read_model()[1].vector_scaling is None


FOLDS, FOLD, SEED = 3, 2, 5


@pytest.fixture
def folded(tmp_path: Path) -> tuple[Path, Path]:
    """A data set and a run that says it was trained on the second of three folds."""
    dataset = write_dataset(tmp_path / "data", groups=12)
    run = write_run(dataset, tmp_path / "run")
    rewrite(run, folds=FOLDS, fold=FOLD, split_seed=SEED)
    return dataset, run


def rewrite(run: Path, **values: Any) -> None:
    path = run / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def shown(run: Path) -> list[Pixels]:
    opened = RunFolder.open(run)
    return list(validation_images(opened, opened.read_model()[1], data=None, track=silent).images)


def test_a_fold_is_held_against_its_own_validation_images(folded: tuple[Path, Path]) -> None:
    dataset, run = folded
    expected = folds(prepare(str(dataset)), FOLDS, seed=SEED)[FOLD - 1].of(Split.VAL)
    found = shown(run)
    assert len(found) == len(expected) == 24
    assert all(np.array_equal(image, read_image(one.path)) for image, one in zip(found, expected, strict=True))
    assert {one.split for one in prepare(str(dataset)).samples if one.id in {e.id for e in expected}} == {
        Split.TRAIN,
        Split.VAL,
    }


def test_a_training_image_that_was_left_out_moves_no_image_to_another_fold(folded: tuple[Path, Path]) -> None:
    dataset, run = folded
    # A group's worth of damaged images: dealt with them, the folds are others.
    broken = [*(dataset.parent / "images").glob("0[024]-*.png")]
    for path in broken:
        path.write_bytes(cv2.imencode(".png", np.zeros((9, 9), np.uint8))[1].tobytes()[:50] + path.name.encode())
    data = prepare(str(dataset), skip_bad=True)
    rewrite(run, fingerprint=data.fingerprint, skipped=data.summary()["skipped"])
    expected = folds(data, FOLDS, seed=SEED)[FOLD - 1].of(Split.VAL)
    undecoded = prepare(str(dataset), skip_bad=True, decode=frozenset({Split.VAL}))
    assert folds(undecoded, FOLDS, seed=SEED)[FOLD - 1].of(Split.VAL) != expected
    found = shown(run)
    assert len(found) == len(expected)
    assert all(np.array_equal(image, read_image(one.path)) for image, one in zip(found, expected, strict=True))


@pytest.mark.parametrize("fold", [0, 4, None, "2"])
def test_a_fold_that_is_not_there_is_named(fold: Any, folded: tuple[Path, Path]) -> None:
    _, run = folded
    rewrite(run, fold=fold)
    with pytest.raises(RunError, match=rf"dataset.json: there is no fold {fold!r} of 3; train again"):
        shown(run)


def test_a_fold_of_other_images_is_refused(folded: tuple[Path, Path]) -> None:
    dataset, run = folded
    lines = dataset.read_text().splitlines()
    dataset.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(DataError, match="fingerprints differ"):
        shown(run)
