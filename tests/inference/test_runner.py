"""The runner: what it opens, what it proves first, and what it does with files that other tools have been at."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from imaging_ft.bundle import Bundle
from imaging_ft.errors import BundleError, ImagingFtError, InputError
from imaging_ft.inference.activation import Activation
from imaging_ft.inference.model_file import ModelFile
from imaging_ft.inference.parts import split
from imaging_ft.inference.providers import Device
from imaging_ft.inference.runner import ON_A_GPU, Runner, allowed_difference
from imaging_ft.preprocess import LEVELS
from imaging_ft.types import Pixels
from tests.inference.nets import FLAT, GEMM, LINEAR, POOL, Made, make, noise

TAIL = LINEAR["pool, flatten, gemm"]
SIZES = [(64, 64), (20, 90), (200, 31), (64, 65)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(TAIL, tmp_path_factory.mktemp("net") / "m.onnx")


@pytest.fixture(scope="module")
def runner(made: Made) -> Runner:
    return Runner.open(made.path, device=Device.CPU)


def images(channels: int = 1) -> list[Pixels]:
    return [noise((*size, channels), seed=index) for index, size in enumerate(SIZES)]


def renamed(path: Path, out: Path) -> Path:
    """Write a file whose tensors another tool has given other names."""
    model = onnx.load(path)
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["elsewhere" if name == LEVELS else name for name in names]
    onnx.save(model, out)
    return out


@pytest.mark.parametrize("changes", [{}, {"channels": 3}, {"resize": "letterbox"}], ids=str)
def test_a_file_that_cannot_be_parted_runs_as_it_is(changes: dict[str, Any], tmp_path: Path) -> None:
    made = make(TAIL, tmp_path / "m.onnx", **changes)
    parted = Runner.open(made.path, device=Device.CPU)
    whole = Runner.open(renamed(made.path, tmp_path / "renamed.onnx"), device=Device.CPU)
    given = images(changes.get("channels", 1))
    levels = np.stack([whole.levels(image) for image in given])
    assert np.array_equal(levels, np.stack([parted.levels(image) for image in given]))
    assert levels.dtype == np.uint8
    for name in whole.outputs:
        assert np.array_equal(whole.run(levels)[name], parted.run(levels)[name])
    assert whole.output_shapes == parted.output_shapes == {"logits": (3,), "probabilities": (3,)}


@pytest.mark.parametrize(
    ("precision", "value", "may"), [("fp32", None, True), ("fp32", "0", False), ("fp16", None, False)]
)
def test_graphs_are_tried_where_they_were_proven(
    precision: str, value: str | None, may: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from imaging_ft.inference.runner import GRAPHS_VARIABLE, may_capture
    from imaging_ft.types import Precision

    if value is not None:
        monkeypatch.setenv(GRAPHS_VARIABLE, value)
    assert may_capture(Precision(precision)) is may


def test_a_file_of_16_bits_that_cannot_be_parted_is_refused(tmp_path: Path) -> None:
    made = make(TAIL, tmp_path / "m.onnx", dtype="uint16")
    assert Runner.open(made.path, device=Device.CPU).levels(images()[0]).dtype == np.uint8
    with pytest.raises(BundleError, match=r"renamed.onnx: its graph can't be split"):
        Runner.open(renamed(made.path, tmp_path / "renamed.onnx"), device=Device.CPU)


def test_a_file_whose_host_prepares_images_is_given_levels_one_image_at_a_time(made: Made, tmp_path: Path) -> None:
    runner = Runner.open(outside(made, tmp_path / "outside.onnx"), device=Device.CPU)
    levels = np.stack([runner.levels(image) for image in images()])
    assert levels.dtype == np.float32
    inside = Runner.open(made.path, device=Device.CPU)
    assert np.abs(runner.run(levels)["logits"] - inside.run(levels.astype(np.uint8))["logits"]).max() < 1e-5
    assert np.array_equal(runner.checked(levels[0]), levels[0])
    for wrong in (levels[0, :, 1:], levels[0].astype(np.float64), levels[0] + 1, levels[0] * np.nan):
        with pytest.raises(InputError, match="levels are"):
            runner.checked(wrong)


def outside(made: Made, out: Path) -> Path:
    """Write a file of the network alone, which takes one image's float levels at a time."""
    model = split(onnx.load(made.path), where="m").cls
    given = model.graph.input[0]
    given.CopyFrom(helper.make_tensor_value_info(LEVELS, onnx.TensorProto.FLOAT, [1, 1, 64, 64]))
    graph = made.bundle.graph.model_copy(update={"preprocessing": "outside", "batch": 1, "batches": (1,)})
    for key, text in made.bundle.model_copy(update={"graph": graph}).to_metadata().items():
        model.metadata_props.add(key=key, value=text)
    onnx.save(model, out)
    return out


def test_what_is_no_image_is_refused_before_it_meets_others(runner: Runner) -> None:
    wrong: list[Any] = [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4, 1), np.float32)]
    for image in wrong:
        with pytest.raises(InputError, match="is wanted"):
            runner.levels(image)
    with pytest.raises(InputError, match="has no pixels"):
        runner.levels(np.zeros((0, 4, 1), np.uint8))


def test_a_batch_that_onnxruntime_refuses_is_one_line(runner: Runner) -> None:
    with pytest.raises(InputError, match=r"m.onnx: onnxruntime failed on a batch \(1, 1, 9, 9\): ") as caught:
        runner.run(np.zeros((1, 1, 9, 9), np.float32), ["logits"])
    assert "\n" not in str(caught.value)


def test_a_value_that_is_no_number_is_never_read_as_no_class(tmp_path: Path) -> None:
    logarithm = [POOL, FLAT, ("Log", ["v"], "r", {}), ("Gemm", ["r", "w", "b"], *GEMM[2:])]
    runner = Runner.open(make(logarithm, tmp_path / "log.onnx").path, device=Device.CPU)
    assert np.isfinite(runner.predict(images())).all()
    with pytest.raises(InputError, match=r"log.onnx: gives probabilities that are no numbers on cpu; try --device cpu"):
        runner.predict([np.zeros((64, 64, 1), np.uint8)])


def test_a_logit_may_be_off_by_more_on_a_gpu(made: Made) -> None:
    tolerance = made.bundle.golden.tolerance
    assert tolerance < ON_A_GPU
    assert allowed_difference(made.bundle, Device.CPU) == tolerance
    assert allowed_difference(made.bundle, Device.CUDA) == ON_A_GPU
    golden = replace_tolerance(made.bundle, 0.5)
    assert allowed_difference(golden, Device.CUDA) == allowed_difference(golden, Device.CPU) == 0.5


def replace_tolerance(bundle: Bundle, tolerance: float) -> Bundle:
    return bundle.model_copy(update={"golden": bundle.golden.model_copy(update={"tolerance": tolerance})})


def test_the_bytes_that_were_read_are_those_that_run(made: Made, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(made.path.read_bytes())
    file = ModelFile.read(path)
    model = file.parse()
    path.write_bytes(b"another file")
    runner = Runner.of(file, file.bundle(model), model, device=Device.CPU, threads=1)
    assert runner.sha256 == file.sha256
    with pytest.raises(BundleError, match="another file lies there"):
        Activation.open(path, runner.bundle, sha256=runner.sha256)


def test_only_what_a_keys_holder_signed_is_opened(made: Made, tmp_path: Path) -> None:
    pytest.importorskip("model_signing", reason="needs pip install 'imaging-ft[sign]'")
    from imaging_ft.inference.signature import sign_model
    from tests.inference.test_signature import keys

    path = tmp_path / "m.onnx"
    path.write_bytes(made.path.read_bytes())
    ours, theirs = keys(tmp_path, "ours"), keys(tmp_path, "theirs")
    with pytest.raises(ImagingFtError, match=r"m\.onnx"):
        Runner.open(path, device=Device.CPU, public_key=ours.public)
    sign_model(path, ours.private)
    assert Runner.open(path, device=Device.CPU, public_key=ours.public).device is Device.CPU
    with pytest.raises(BundleError, match="is not by the key"):
        Runner.open(path, device=Device.CPU, public_key=theirs.public)


def test_opening_a_file_loads_nothing_of_the_build_tower(made: Made) -> None:
    code = (
        "import sys; from pathlib import Path; import imaging_ft.inference.runner as r;"
        "assert 'onnx' not in sys.modules and 'onnxruntime' not in sys.modules;"
        f"r.Runner.open(Path({str(made.path)!r}));"
        "print([name for name in ('torch', 'cv2', 'fastapi', 'polars', 'pydicom', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
