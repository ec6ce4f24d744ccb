"""What `verify` finds of a file: each kind of damage fails the check that is about it, and no other."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from imaging_ft.errors import BundleError, GateError
from imaging_ft.inference import Device
from imaging_ft.inference.about import about
from imaging_ft.inference.model_file import check_self_contained
from imaging_ft.inference.verify import CHECKS, Outcome, Verification, verify
from tests.inference.nets import LINEAR, Node, make

TAIL = LINEAR["pool, flatten, gemm"]
GEMM: Node = TAIL[-1]
WITHOUT_KEY = {"signature": Outcome.NOT_CHECKED}


def with_checksum(path: Path) -> Path:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(f"{path.name}.sha256").write_text(f"{digest}  {path.name}\n")
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return with_checksum(make(TAIL, tmp_path / "model.onnx").path)


def altered(path: Path, **keys: Callable[[str], str]) -> Path:
    """Change a bundle's metadata, each key by a function of its JSON, and write its checksum anew."""
    proto = onnx.load(path)
    for item in proto.metadata_props:
        change = keys.get(item.key.removeprefix("imaging_ft."))
        item.value = item.value if change is None else change(item.value)
    path.write_bytes(proto.SerializeToString())
    return with_checksum(path)


def outcomes(found: Verification) -> dict[str, Outcome]:
    """Return what isn't ok; every check is there, in order."""
    assert tuple(check.name for check in found.checks) == CHECKS
    return {check.name: check.outcome for check in found.checks if check.outcome is not Outcome.OK}


def fails(path: Path, *names: str) -> Verification:
    """Assert that these checks fail and no others, and that the file is refused with exit code 1."""
    found = verify(path, device=Device.CPU)
    assert outcomes(found) == WITHOUT_KEY | dict.fromkeys(names, Outcome.FAILED)
    with pytest.raises(GateError, match=rf"{path.name}: don't use it: {', '.join(names)} failed") as caught:
        found.require()
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)
    return found


def test_a_good_file_holds_with_a_figure_for_what_it_computes(model: Path) -> None:
    found = verify(model, device=Device.CPU)
    assert outcomes(found) == WITHOUT_KEY
    found.require()
    figures = {check.name: (check.value, check.allowed) for check in found.checks if check.value is not None}
    assert set(figures) == {"golden sample", "batch", "probabilities"}
    assert all(value is not None and 0 <= value < 1e-4 for value, _ in figures.values())
    assert figures["golden sample"][1] == 1e-2
    assert (found.device, found.sha256) == (Device.CPU, hashlib.sha256(model.read_bytes()).hexdigest())


def test_without_a_checksum_beside_it_none_is_checked(model: Path) -> None:
    model.with_name("model.onnx.sha256").unlink()
    assert outcomes(verify(model)) == WITHOUT_KEY | {"checksum": Outcome.NOT_CHECKED}


def test_a_checksum_is_compared_whatever_the_file_was_called(model: Path) -> None:
    digest = model.with_name("model.onnx.sha256").read_text().split()[0]
    model.with_name("model.onnx.sha256").write_text(f"{digest.upper()} *former.onnx\r\n")
    assert outcomes(verify(model)) == WITHOUT_KEY


@pytest.mark.parametrize("text", [b"0" * 64, b"", b"none", b"\xff\xfe"], ids=["another", "empty", "a word", "no text"])
def test_another_checksum_fails(text: bytes, model: Path) -> None:
    model.with_name("model.onnx.sha256").write_bytes(text)
    fails(model, "checksum")


def planted(text: str) -> str:
    golden = json.loads(text)
    golden["logits"][0][1] += 0.02
    return json.dumps(golden)


def test_a_planted_golden_error_fails(model: Path) -> None:
    found = fails(altered(model, golden=planted), "golden sample")
    (check,) = found.failed
    assert check.value == pytest.approx(0.02, abs=1e-4)
    assert check.told == "logits off by 2.0e-02, 0.01 allowed"


def test_a_changed_temperature_fails(model: Path) -> None:
    fails(altered(model, temperature=lambda _: "1.1"), "probabilities")


def test_a_weight_that_was_changed_fails_the_golden_sample(model: Path) -> None:
    proto = onnx.load(model)
    bias = next(tensor for tensor in proto.graph.initializer if tensor.name == "b")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.array([0.05, 0, 0], np.float32), "b"))
    model.write_bytes(proto.SerializeToString())
    fails(with_checksum(model), "golden sample")


def test_a_graph_whose_images_touch_each_other_fails(tmp_path: Path) -> None:
    shared: list[Node] = [*TAIL[:2], ("Softmax", ["v"], "s", {"axis": 0}), ("Gemm", ["s", *GEMM[1][1:]], *GEMM[2:])]
    path = make(shared, tmp_path / "model.onnx").path
    fails(with_checksum(path), "batch")


def test_an_output_that_is_no_number_on_a_black_image_fails(tmp_path: Path) -> None:
    logarithm: list[Node] = [*TAIL[:2], ("Log", ["v"], "log", {}), ("Gemm", ["log", *GEMM[1][1:]], *GEMM[2:])]
    path = with_checksum(make(logarithm, tmp_path / "model.onnx").path)
    found = fails(path, "probabilities", "finite")
    assert found.failed[1].told == "logits, probabilities: values that are no numbers"
    json.loads(json.dumps(found.as_json()), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_a_file_for_one_image_at_a_time_has_no_batch_to_check(model: Path) -> None:
    def one(text: str) -> str:
        return json.dumps(json.loads(text) | {"batch": 1, "batches": [1]})

    assert outcomes(verify(altered(model, graph=one))) == WITHOUT_KEY | {"batch": Outcome.NOT_CHECKED}


def test_a_graph_that_takes_no_batch_although_it_says_so_fails(model: Path) -> None:
    proto = onnx.load(model)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    model.write_bytes(proto.SerializeToString())
    fails(with_checksum(model), "batch", "probabilities", "finite")


def test_what_onnxruntime_cannot_load_fails(model: Path) -> None:
    proto = onnx.load(model)
    proto.graph.node[-1].op_type = "Softestmax"
    model.write_bytes(proto.SerializeToString())
    found = verify(with_checksum(model))
    assert found.failed[0].name == "loads"
    assert found.failed[0].told.startswith("onnxruntime can't load it: ")
    assert set(outcomes(found)) == {"signature", *CHECKS[2:]}
    assert found.device is None


def test_a_graph_without_probabilities_fails(model: Path) -> None:
    proto = onnx.load(model)
    del proto.graph.output[1]
    model.write_bytes(proto.SerializeToString())
    (failed,) = verify(with_checksum(model)).failed
    assert failed.told == "its graph gives no probabilities"


def test_a_broken_file_is_the_checksums_finding_or_an_error(model: Path) -> None:
    model.write_bytes(model.read_bytes()[:-200])
    found = verify(model)
    assert [check.name for check in found.failed] == ["checksum", "loads"]
    with pytest.raises(GateError, match="don't use it: checksum, loads failed; fetch it again"):
        found.require()
    model.with_name("model.onnx.sha256").unlink()
    with pytest.raises(BundleError, match=r"model.onnx: ") as caught:
        verify(model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [verify, about])
@pytest.mark.parametrize(
    ("data", "part"), [(None, "no such model file"), (b"", "empty"), (b"text", "can't be read as an ONNX model")]
)
def test_what_is_no_model_is_one_line(
    read: Callable[[Path], object], data: bytes | None, part: str, tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(BundleError, match=rf"m.onnx: .*{part}") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_weights_outside_are_found_in_inner_graphs_too() -> None:
    tensor = numpy_helper.from_array(np.ones(3, np.float32), "hidden")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    inner = helper.make_graph([helper.make_node("Constant", [], ["c"], value=tensor)], "inner", [], [])
    node = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    with pytest.raises(BundleError, match="'hidden' lie in another file"):
        check_self_contained(helper.make_model(helper.make_graph([node], "outer", [], [])), where="m.onnx")


def test_weights_in_another_file_fail_even_where_onnxruntime_finds_them(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proto = onnx.load(model)
    onnx.save(proto, model, save_as_external_data=True, location="weights.bin", size_threshold=0)
    monkeypatch.chdir(model.parent)
    (failed,) = verify(with_checksum(model)).failed
    assert failed.name == "loads"
    assert "lie in another file" in failed.told


def test_what_is_not_proven_is_not_run(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("model_signing", reason="needs pip install 'imaging-ft[sign]'")
    from imaging_ft.inference.signature import sign_model
    from tests.inference.test_signature import keys

    ours, theirs = keys(tmp_path, "ours"), keys(tmp_path, "theirs")
    sign_model(model, ours.private)
    assert outcomes(verify(model, public_key=ours.public)) == {}
    found = verify(model, public_key=theirs.public)
    assert outcomes(found) == {"signature": Outcome.FAILED} | dict.fromkeys(CHECKS[2:], Outcome.NOT_CHECKED)
    assert found.device is None
    model.write_bytes(b"text")
    assert [check.name for check in verify(model, public_key=ours.public).failed] == ["checksum", "signature"]
    with pytest.raises(BundleError, match=r"none.pem: the public key can't be read"):
        verify(model, public_key=tmp_path / "none.pem")
