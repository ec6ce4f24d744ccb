"""The exported file: one file that plain onnxruntime runs, or nothing at all."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper

from imaging_ft.bundle import Bundle, Seen
from imaging_ft.errors import BundleError, DataError, InputError, ParityError, RunError
from imaging_ft.export.graph import Built, build
from imaging_ft.export.onnx import GOLDEN_TOLERANCE, export_run
from imaging_ft.export.parity import check_parity
from imaging_ft.export.target import load_target
from imaging_ft.image import read_image
from imaging_ft.inference.runner import Runner
from imaging_ft.models.factory import Classifier
from imaging_ft.preprocess import conform
from imaging_ft.training.run import ModelInfo, RunFolder
from imaging_ft.types import Pixels, Precision
from tests.conftest import LABELS, Exported, Trained

ROOT = Path(__file__).parents[2]
TARGET = load_target("server-cpu")


@pytest.fixture(scope="module")
def session(exported: Exported) -> Any:
    return ort.InferenceSession(exported.model, providers=["CPUExecutionProvider"])


@pytest.fixture
def run(trained: Trained, tmp_path: Path) -> Path:
    """A copy of the run that a test may damage."""
    return Path(shutil.copytree(trained.run, tmp_path / "run"))


@pytest.fixture(scope="module")
def parts(trained: Trained, exported: Exported) -> tuple[bytes, Classifier, ModelInfo, list[Pixels]]:
    model, info = RunFolder.open(trained.run).read_model()
    paths = sorted((trained.dataset.parent / "images").glob("*-1-*.png"))
    images = [conform(read_image(path), info.input) for path in paths]
    return exported.model.read_bytes(), model, info, images


def test_plain_onnxruntime_takes_raw_pixels_of_any_size_and_batch(session: Any) -> None:
    rng = np.random.default_rng(0)
    for height, width in [(1, 1), (72, 80), (31, 500), (640, 480)]:
        for batch in (1, 2, 7):
            pixels = rng.integers(0, 256, (batch, height, width, 1), dtype=np.uint8)
            logits, probabilities = session.run(["logits", "probabilities"], {"image": pixels})
            assert logits.shape == probabilities.shape == (batch, len(LABELS))
            assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_a_batch_says_what_its_images_say_alone(session: Any) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (7, 60, 90, 1), dtype=np.uint8)
    together = session.run(["probabilities"], {"image": pixels})[0]
    alone = np.concatenate([session.run(["probabilities"], {"image": pixels[i : i + 1]})[0] for i in range(7)])
    assert together == pytest.approx(alone, abs=1e-4)


@pytest.mark.parametrize("change", [{}, {"mode": b"nearest"}])
def test_the_golden_sample_finds_a_runtime_that_reduces_images_by_another_filter(
    change: dict[str, Any], exported: Exported, tmp_path: Path
) -> None:
    """Even at the tolerance of 8 bits; a sample that is only ever enlarged looks nearly the same without antialias."""
    model = onnx.load(exported.model)
    golden = Runner.open(exported.model).bundle.golden
    change = {"antialias": 0, "exclude_outside": 0} | change
    (resize,) = [node for node in model.graph.node if node.op_type == "Resize"]
    for attribute in resize.attribute:
        if attribute.name in change:
            attribute.CopyFrom(onnx.helper.make_attribute(attribute.name, change[attribute.name]))
    session: Any = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    logits = session.run(["logits"], {"image": golden.image()})[0]
    assert np.abs(logits - np.asarray(golden.logits)).max() > GOLDEN_TOLERANCE[Precision.INT8]
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(BundleError, match="its self-test failed on cpu: a logit is off by"):
        Runner.open(tmp_path / "m.onnx")


def test_the_golden_sample_is_reproduced_by_plain_onnxruntime(session: Any) -> None:
    metadata = session.get_modelmeta().custom_metadata_map
    golden = json.loads(metadata["imaging_ft.golden"])
    temperature = json.loads(metadata["imaging_ft.temperature"])
    import base64

    pixels = np.frombuffer(base64.b64decode(golden["data"]), golden["dtype"]).reshape(golden["shape"])
    logits, probabilities = session.run(["logits", "probabilities"], {"image": pixels})
    assert np.abs(logits - golden["logits"]).max() <= golden["tolerance"]
    scaled = np.exp(logits / temperature)
    assert probabilities == pytest.approx(scaled / scaled.sum(axis=1, keepdims=True), abs=1e-5)


def test_it_is_one_small_file_at_opset_18(exported: Exported) -> None:
    assert sorted(path.name for path in exported.model.parent.iterdir()) == ["model.onnx", "model.onnx.sha256"]
    assert exported.model.stat().st_size < 17e6
    model = onnx.load(exported.model, load_external_data=False)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    assert all(tensor.data_location != onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer)
    (value,) = model.graph.input
    dims = [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
    assert all(isinstance(dim, str) for dim in dims[:3])
    assert dims[3] == 1
    assert [output.name for output in model.graph.output] == ["logits", "probabilities", "distance"]


def test_the_checksum_beside_it_is_its_own(exported: Exported) -> None:
    digest, name = exported.model.with_name("model.onnx.sha256").read_text().split()
    assert digest == hashlib.sha256(exported.model.read_bytes()).hexdigest()
    assert name == "model.onnx"


def test_nothing_in_it_tells_where_it_was_made(exported: Exported) -> None:
    data = exported.model.read_bytes()
    folders = [ROOT, Path.home(), exported.run.parent, exported.dataset.parent]
    for folder in [*(f"{folder}/" for folder in folders if folder != Path("/")), "site-packages", "/tmp/"]:
        assert folder.encode() not in data, folder


@pytest.fixture(scope="module")
def moved(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with its features, exported after its data set had moved."""
    folder = tmp_path_factory.mktemp("moved")
    run = Path(shutil.copytree(trained.run, folder / "run"))
    recorded = json.loads((run / "dataset.json").read_text())
    (run / "dataset.json").write_text(json.dumps(recorded | {"argument": str(folder / "gone" / "manifest.csv")}))
    with pytest.raises(RunError, match=r"no longer there; say where it is with --data DATASET"):
        export_run(run, folder / "m.onnx")
    copied = Path(shutil.copytree(trained.dataset.parent, folder / "data"))
    export_run(run, folder / "m.onnx", data=str(copied / "manifest.csv"), embedding=True)
    return folder / "m.onnx"


def test_a_data_set_that_has_moved_is_named_and_found_with_data(moved: Path) -> None:
    assert moved.is_file()


def test_the_features_come_out_where_they_are_asked_for(moved: Path, exported: Exported) -> None:
    session: Any = ort.InferenceSession(moved, providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(0).integers(0, 256, (2, 70, 70, 1), dtype=np.uint8)
    logits, features = session.run(["logits", "embedding"], {"image": pixels})
    assert features.shape == (2, 1280)
    plain: Any = ort.InferenceSession(exported.model, providers=["CPUExecutionProvider"])
    assert logits == pytest.approx(plain.run(["logits"], {"image": pixels})[0], abs=1e-4)


def test_parity_is_what_was_measured(
    exported: Exported, parts: tuple[bytes, Classifier, ModelInfo, list[Pixels]]
) -> None:
    data, model, info, images = parts
    found = check_parity(onnx.load_model_from_string(data), model, info, images, TARGET)
    assert (found.images, found.top1_agreement, found.provider) == (len(images), 1.0, "CPUExecutionProvider")
    assert 0 < found.max_probability_difference <= found.tolerance == 1e-3
    assert found.max_level_difference <= 2
    assert found.batches == (1, 2, 7)
    assert len(found.sizes) == 3
    model_ = onnx.load(exported.model)
    metadata = {item.key: item.value for item in model_.metadata_props}
    assert Bundle.from_metadata(metadata, where="m").parity.images == 18


def _another_weight(model: Classifier, info: ModelInfo) -> ModelInfo:
    with torch.no_grad():
        model.head.bias[0] += 0.5
    return info


def _another_mean(model: Classifier, info: ModelInfo) -> ModelInfo:
    model.mean += 0.05
    return info


def _another_temperature(model: Classifier, info: ModelInfo) -> ModelInfo:
    return info.model_copy(update={"temperature": 3 * info.temperature})


def _another_resize(model: Classifier, info: ModelInfo) -> ModelInfo:
    return info.model_copy(update={"input": info.input.model_copy(update={"resize": "letterbox"})})


@pytest.mark.parametrize("change", [_another_weight, _another_mean, _another_temperature, _another_resize])
def test_a_file_that_differs_from_the_trained_model_is_refused(
    change: Callable[[Classifier, ModelInfo], ModelInfo], parts: tuple[bytes, Classifier, ModelInfo, list[Pixels]]
) -> None:
    import copy

    data, model, info, images = parts
    changed = copy.deepcopy(model)
    with pytest.raises(ParityError, match=r"disagrees with the trained one on .* nothing was written") as caught:
        check_parity(onnx.load_model_from_string(data), changed, change(changed, info), images, TARGET)
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)


def test_nothing_is_written_where_parity_fails(
    run: Path, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import imaging_ft.export.onnx as export

    def wrong(*arguments: Any, **more: Any) -> Built:
        built = build(*arguments, **more)
        bias = next(tensor for tensor in built.network.graph.initializer if list(tensor.dims) == [len(LABELS)])
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.array([1, 0, 0], np.float32), bias.name))
        return built

    monkeypatch.setattr(export, "build", wrong)
    out = tmp_path / "out" / "model.onnx"
    with pytest.raises(ParityError):
        export_run(run, out)
    assert not out.parent.exists()


def test_a_changed_data_set_is_refused(run: Path, trained: Trained, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(trained.dataset.parent, tmp_path / "data"))
    lines = (copied / "manifest.csv").read_text().splitlines()
    (copied / "manifest.csv").write_text("\n".join(lines[:-3]) + "\n")
    with pytest.raises(DataError, match=r"not the ones that .* was trained on .* --data DATASET"):
        export_run(run, tmp_path / "m.onnx", data=str(copied / "manifest.csv"))
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("model.safetensors", b"half", "model.safetensors: damaged, or not of timm/tf_efficientnet_lite0"),
        ("model.json", b"{", "model.json: damaged"),
        ("dataset.json", b"{", "dataset.json: can't be read"),
    ],
)
def test_a_damaged_run_is_one_line(name: str, data: bytes, message: str, run: Path, tmp_path: Path) -> None:
    (run / name).write_bytes(data)
    with pytest.raises(RunError, match=message) as caught:
        export_run(run, tmp_path / "m.onnx")
    assert "\n" not in str(caught.value)


def test_an_output_of_another_kind_is_refused_before_the_work(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"m.pt: the file's name should end in .onnx"):
        export_run(run, tmp_path / "m.pt")
    with pytest.raises(RunError, match="no such run folder"):
        export_run(tmp_path / "none", tmp_path / "m.onnx")


def test_a_file_lists_the_images_that_were_seen_unless_asked_not_to(
    trained: Trained, exported: Exported, tmp_path: Path
) -> None:
    seen = Runner.open(exported.model).bundle.seen
    assert seen is not None
    assert len(seen.known()) == seen.images > 0
    bundle = export_run(trained.run, tmp_path / "model.onnx", digests=False).bundle
    assert bundle.seen == Seen(images=seen.images, complete=False)
    assert seen.digests.encode() not in (tmp_path / "model.onnx").read_bytes()
