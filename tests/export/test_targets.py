"""Deployment targets: each built-in one is exported for real, run where its runtime is here, and says what it is."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest

from imaging_ft import catalog
from imaging_ft.bundle import Bundle
from imaging_ft.errors import ConfigError, InputError, ParityError
from imaging_ft.export.graph import Built
from imaging_ft.export.onnx import DEFAULT_TARGET, assemble
from imaging_ft.export.parity import check_parity
from imaging_ft.export.target import Target, load_target
from imaging_ft.inference.parts import split
from imaging_ft.inference.runner import Runner
from imaging_ft.preprocess.graph import preprocessing_graph
from imaging_ft.types import Precision
from tests.export.small import LABELS, built_for, images_of, info_of, model_of, validation_of

CPU = ["CPUExecutionProvider"]
TARGETS = catalog.names("export/targets")
SPEC = info_of().input


def session_of(model: onnx.ModelProto) -> Any:
    return ort.InferenceSession(model.SerializeToString(), providers=CPU)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file for each target, in float32."""
    folder = tmp_path_factory.mktemp("targets")
    for name in TARGETS:
        _, graph = assemble(model_of(), info_of(), validation_of(model_of(), info_of()), load_target(name))
        (folder / f"{name}.onnx").write_bytes(graph.SerializeToString())
    return {name: folder / f"{name}.onnx" for name in TARGETS}


@pytest.mark.parametrize("name", TARGETS)
def test_every_targets_file_says_what_it_is_and_gives_the_same_probabilities(
    name: str, written: dict[str, Path]
) -> None:
    runner, plain = Runner.open(written[name]), Runner.open(written[DEFAULT_TARGET])
    target = load_target(name)
    graph = runner.bundle.graph
    assert (graph.target, graph.precision, graph.resize) == (name, Precision.FP32, target.resize)
    proto = onnx.load(written[name])
    assert [(one.domain, one.version) for one in proto.opset_import] == [("", target.opset)]
    images = images_of(SPEC, 6, seed=5)
    assert runner.predict(images) == pytest.approx(
        plain.predict(images), abs=0.05 if target.resize == "matmul" else 1e-4
    )


def test_opencv_reads_its_targets_file_and_says_the_same(written: dict[str, Path]) -> None:
    net = cv2.dnn.readNetFromONNX(str(written["opencv-dnn"]))
    runner = Runner.open(written["opencv-dnn"])
    from imaging_ft.preprocess import prepare

    for image in images_of(SPEC, 4, seed=2):
        net.setInput(cv2.dnn.blobFromImage(prepare(image, SPEC)), "levels")
        assert net.forward("probabilities")[0] == pytest.approx(runner.predict([image])[0], abs=1e-4)


def test_a_host_of_the_opencv_target_finds_the_metadata_beside_the_file(tmp_path: Path) -> None:
    import json

    from imaging_ft.export.onnx import write_model

    target = load_target("opencv-dnn")
    bundle, graph = assemble(model_of(), info_of(), validation_of(model_of(), info_of(), 4), target)
    write_model(graph, bundle, tmp_path / "m.onnx", sidecar=target.sidecar)
    beside = json.loads((tmp_path / "m.onnx.json").read_text())
    assert [label["name"] for label in beside["labels"]] == list(LABELS)
    golden = Bundle.checked(beside, where="sidecar").golden
    assert golden.shape == (1, SPEC.height, SPEC.width, 1)


def test_the_two_parts_give_the_bytes_of_the_whole() -> None:
    built = built_for("server-cpu")
    assert built.pre is not None
    whole = built.whole()
    parts = split(whole, where="m.onnx")
    image = np.stack(images_of(SPEC, 1, seed=3) * 2)
    expected = session_of(whole).run(None, {"image": image})
    for pre, network in ((parts.pre, parts.cls), (built.pre, built.network)):
        levels = session_of(pre).run(["levels"], {"image": image})[0]
        assert levels.dtype == np.uint8
        for one, other in zip(expected, session_of(network).run(None, {"levels": levels}), strict=True):
            assert np.array_equal(one, other)


def test_the_tensorrt_target_uses_no_resize_operator() -> None:
    operators = {node.op_type for node in built_for("tensorrt").whole().graph.node}
    assert "Resize" not in operators
    assert "MatMul" in operators
    assert "Resize" in {node.op_type for node in built_for("server-cpu").whole().graph.node}


def _another_filter(built: Built) -> None:
    assert built.pre is not None
    resize = next(node for node in built.pre.graph.node if node.op_type == "Resize")
    for one in resize.attribute:
        if one.name in {"antialias", "exclude_outside"}:
            one.i = 0


def _swapped_channels(built: Built) -> None:
    assert built.pre is not None
    node = built.pre.graph.node[-1]
    axes = onnx.numpy_helper.from_array(np.array([2, 1, 0]), "swap")
    built.pre.graph.initializer.append(axes)
    node.output[0] = "unswapped"
    built.pre.graph.node.append(onnx.helper.make_node("Gather", ["unswapped", "swap"], ["levels"], axis=1))


def _another_mean(built: Built) -> None:
    stored = next(one for one in built.network.graph.initializer if one.name.endswith("mean"))
    stored.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(stored) + np.float32(0.1), stored.name))


@pytest.mark.parametrize("plant", [_another_filter, _swapped_channels, _another_mean])
def test_a_planted_error_in_the_preprocessing_fails_parity(plant: Any) -> None:
    from imaging_ft.export.graph import build

    info = info_of(input=SPEC.model_copy(update={"channels": 3}))
    target = load_target("server-cpu")
    built = build(model_of(), info, target, embedding=False)
    images = images_of(info.input, 4)
    check_parity(built.whole(), model_of(), info, images, target)
    plant(built)
    with pytest.raises(ParityError, match="disagrees with the trained one on") as caught:
        check_parity(built.whole(), model_of(), info, images, target)
    assert caught.value.exit_code == 1


def test_a_graph_that_resizes_by_products_is_within_two_levels_of_training() -> None:
    """And one that's shifted by half a pixel is refused."""
    target = load_target("tensorrt")
    built = built_for("tensorrt")
    found = check_parity(built.whole(), model_of(), info_of(), images_of(SPEC, 4), target)
    assert found.max_level_difference <= 2
    pre = preprocessing_graph(SPEC, resize="matmul")
    half = next(one for one in pre.graph.initializer if one.name == "constant_one_half")
    half.CopyFrom(onnx.numpy_helper.from_array(np.array([0.75], np.float32), half.name))
    with pytest.raises(ParityError, match="levels of 256 from training's"):
        check_parity(Built(pre, built.network).whole(), model_of(), info_of(), images_of(SPEC, 4), target)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "fp16", "precisions": ["fp32"]}, "precision fp16 is not among its precisions"),
        ({"opset": 10}, "preprocessing inside the graph needs opset 18"),
        ({"opset": 17}, "opset: "),
        ({"batch": 1}, "a file of batch 1 takes no other"),
        ({"colour": 1}, "unknown key 'colour'"),
    ],
)
def test_a_target_that_does_not_fit_together_is_one_line(changes: dict[str, Any], message: str) -> None:
    values = {"name": "mine", "title": "mine", "runtime": "onnxruntime"} | changes
    with pytest.raises(ConfigError, match=message) as caught:
        Target.checked(values, where="mine.yaml")
    assert "\n" not in str(caught.value)


def test_an_unknown_target_and_a_precision_it_lacks_are_named() -> None:
    with pytest.raises(ConfigError, match="no deployment target named 'sever-cpu'; did you mean 'server-cpu'"):
        load_target("sever-cpu")
    with pytest.raises(InputError, match="--precision int8: target opencv-dnn takes fp32"):
        load_target("opencv-dnn").chosen(Precision.INT8)
