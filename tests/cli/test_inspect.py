"""`imaging-ft inspect`, `verify` and `sign` as a user meets them: 80 columns, one line where it fails, exit codes."""

import json
import re
import shutil
from pathlib import Path

import jsonschema
import onnx
import pytest

from imaging_ft.bundle import bundle_schema
from tests.cli.test_app import BLOCKED, one_line, run
from tests.conftest import LABELS, Exported
from tests.inference.nets import LINEAR, make


@pytest.fixture
def model(exported: Exported, tmp_path: Path) -> Path:
    """The exported file and its checksum, in a folder of its own."""
    for name in ("model.onnx", "model.onnx.sha256"):
        shutil.copy(exported.model.with_name(name), tmp_path / name)
    return tmp_path / "model.onnx"


def change(path: Path, key: str, old: str, new: str) -> None:
    """Replace a text in one key of a bundle's metadata."""
    proto = onnx.load(path)
    (item,) = (item for item in proto.metadata_props if item.key == f"imaging_ft.{key}")
    assert old in item.value
    item.value = item.value.replace(old, new)
    path.write_bytes(proto.SerializeToString())


def rows(text: str) -> dict[str, list[str]]:
    """Return what stands beside each name; every line fits a terminal."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        assert len(line) <= 80, line
        name = line[:14].strip()
        if name or not found:
            found[name] = []
        found[list(found)[-1]].append(line[14:])
    return found


def test_inspect_tells_a_person_what_the_file_says_of_itself(model: Path) -> None:
    done = run("inspect", model, program=("-c", BLOCKED))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    told = rows(done.stdout)
    assert told["SHA-256"] == [model.with_name("model.onnx.sha256").read_text().split()[0]]
    assert told["checksum"] == ["agrees with model.onnx.sha256"]
    assert told["signature"] == ["not signed"]
    assert [line.split()[:4] for line in told["labels"]] == [
        [str(index), name, "threshold", "0.5"] for index, name in enumerate(LABELS)
    ]
    assert told["input"][0] == "image: uint8 [batch, image_height, image_width, 1]"
    assert "stretch to 64 × 64 (height × width)" in told["input"]
    assert told["outputs"] == [
        "logits: float32 [batch, 3]",
        "probabilities: float32 [batch, 3]",
        "distance: float32 [batch, 1]",
    ]
    assert re.fullmatch(r"a distance over \d+\.\d from \d+ training images \(mahalanobis\)", told["rejects"][0])
    assert told["rejects"][2].startswith("brightness below ")
    assert told["graph"][0] == "fp32, opset 18, for server-cpu"
    assert any(re.fullmatch(r"balanced_accuracy  [01]\.\d{3}", line) for line in told["validation"])
    assert told["parity"][0] == "100.00% of 18 images as trained (CPUExecutionProvider)"
    assert told["seen"] == ["126 different images, listed by digest"]
    for name in ("calibration", "golden sample", "made", "backbone", "data set", "fingerprint", "intended use"):
        assert told[name], name


def test_inspect_gives_a_script_the_metadata_and_the_files_facts(model: Path) -> None:
    done = run("inspect", model, "--json")
    found = json.loads(done.stdout)
    jsonschema.validate(found["bundle"], json.loads(bundle_schema()))
    assert found["bundle"]["seen"] == {"images": 126, "digests": "", "complete": False}, "no megabyte of digests"
    assert found["file"]["bytes"] == model.stat().st_size
    assert (found["file"]["checksum"], found["file"]["signed"], found["file"]["opset"]) == ("agrees", False, 18)
    assert found["file"]["inputs"] == [
        {"name": "image", "dtype": "uint8", "shape": ["batch", "image_height", "image_width", 1]}
    ]
    assert [output["name"] for output in found["file"]["outputs"]] == ["logits", "probabilities", "distance"]
    assert {output["shape"][0] for output in found["file"]["outputs"]} == {"batch"}


def test_inspect_says_loudly_that_the_checksum_is_another_files(model: Path) -> None:
    change(model, "thresholds", "0.5", "0.9")
    done = run("inspect", model)
    assert done.returncode == 0
    assert rows(done.stdout)["checksum"] == ["DIFFERS from model.onnx.sha256: don't use this file"]
    assert "warning: model.onnx is NOT the file that model.onnx.sha256 is of" in " ".join(done.stderr.split())
    assert max(len(line) for line in done.stderr.splitlines()) <= 80
    assert json.loads(run("inspect", model, "--json").stdout)["file"]["checksum"] == "differs"


def test_inspect_reads_a_file_of_an_earlier_schema(model: Path) -> None:
    proto = onnx.load(model)
    kept = [item for item in proto.metadata_props if item.key not in {"imaging_ft.graph", "imaging_ft.precision_loss"}]
    kept = [onnx.StringStringEntryProto(key=item.key, value=item.value) for item in kept]
    del proto.metadata_props[:]
    proto.metadata_props.extend(kept)
    model.write_bytes(proto.SerializeToString())
    change(model, "schema", "imaging_ft.bundle/2", "imaging_ft.bundle/1")
    assert rows(run("inspect", model).stdout)["schema"] == ["imaging_ft.bundle/1, read as imaging_ft.bundle/2"]
    found = json.loads(run("inspect", model, "--json").stdout)
    assert (found["file"]["schema"], found["bundle"]["schema"]) == ("imaging_ft.bundle/1", "imaging_ft.bundle/2")


def test_what_a_lower_precision_cost_and_intervals_are_shown(tmp_path: Path) -> None:
    path = make(LINEAR["pool, flatten, gemm"], tmp_path / "m.onnx", dtype="uint16", window=(100, 4000)).path
    cell = {"conditions": {"roll": 3}, "metric": "sensitivity[dark]", "before": 0.9, "after": 0.85, "n": 40}
    cell |= {"lost": 3, "won": 1}
    loss = {"suite": "radiograph", "images": 80, "cells": 26, "top1_agreement": 0.9987, "max_drop": 0.005}
    loss |= {"max_probability_difference": 0.01, "mean": cell | {"conditions": None}, "worst": cell}
    change(path, "precision_loss", "null", json.dumps(loss))
    change(
        path, "metrics", "{}", '{"validation": {"accuracy": {"value": 0.9, "low": 0.81, "high": 0.95}, "auroc": null}}'
    )
    change(path, "vector_scaling", "null", '{"scale": [1, 2, 3], "bias": [0, 0.5, -1]}')
    change(path, "graph", '"fp32"', '"int8"')
    change(path, "graph", '"float_layers": []', '"float_layers": ["stem", "head"]')
    told = rows(run("inspect", path).stdout)
    assert told["validation"] == ["accuracy  0.900  [0.810, 0.950]", "auroc     undefined"]
    assert told["calibration"] == ["vector scaling, applied in probabilities", "scale 1, 2, 3", "bias 0, 0.5, -1"]
    assert "window 100 to 4000" in told["input"]
    assert told["graph"][0] == "int8, opset 18, for server-cpu"
    assert "left in float32: stem, head" in told["graph"]
    assert told["it costs"] == [
        "80 images in 26 cells of radiograph: 99.87% same",
        "mean: sensitivity[dark] 0.900 → 0.850 (3 lost, 1 won of 40)",
        "worst: sensitivity[dark] 0.900 → 0.850 under roll@3 (3 lost, 1 won",
        "of 40)",
        "a drop of 0.005 was allowed",
    ]
    assert told["intended use"] == ["not stated"]


def test_a_text_in_the_file_cannot_move_the_cursor(tmp_path: Path) -> None:
    path = make(LINEAR["pool, flatten, gemm"], tmp_path / "m.onnx").path
    change(path, "intended_use", "null", json.dumps("\x1b[2J\r\nchecksum      agrees" + "x" * 100))
    done = run("inspect", path)
    assert "\x1b" not in done.stdout
    assert "\r" not in done.stdout
    assert rows(done.stdout)["checksum"] == ["no m.onnx.sha256 beside it"]


def test_a_provenance_and_a_graph_of_another_shape_are_shown_as_far_as_they_go(tmp_path: Path) -> None:
    path = make(LINEAR["pool, flatten, gemm"], tmp_path / "m.onnx").path
    proto = onnx.load(path)
    proto.graph.output.add(name="odd")
    path.write_bytes(proto.SerializeToString())
    before = "{}"
    for dataset in (None, {"name": "d", "n": 3, "warnings": "w"}):
        now = json.dumps({"tool": "another", "dataset": dataset, "libraries": [1]})
        change(path, "provenance", before, now)
        before = now
        told = rows(run("inspect", path).stdout)
        assert (told["made"], told["outputs"][-1]) == (["another"], "odd: undefined []")
        assert told.get("data set") == (dataset and ["d"])


@pytest.mark.parametrize("name", ["inspect", "verify"])
def test_what_is_no_bundle_is_one_line(name: str, tmp_path: Path) -> None:
    one_line(run(name, tmp_path / "none.onnx"), "none.onnx: no such model file")
    (tmp_path / "text.onnx").write_text("no model")
    one_line(run(name, tmp_path / "text.onnx"), "text.onnx: can't be read as an ONNX model")
    path = make(LINEAR["pool, flatten, gemm"], tmp_path / "m.onnx").path
    proto = onnx.load(path)
    del proto.metadata_props[:]
    onnx.save(proto, path)
    one_line(run(name, path), "m.onnx: an ONNX model, but not a bundle", "imaging-ft export")


def test_verify_shows_each_check_and_ends_with_0(model: Path) -> None:
    done = run("verify", model, "--device", "cpu", program=("-c", BLOCKED))
    assert done.returncode == 0, done.stderr
    told = rows(done.stdout)
    assert told["checksum"] == ["ok            agrees with model.onnx.sha256"]
    assert told["signature"] == ["not checked   no --public-key was given"]
    assert told["golden sample"][0].startswith("ok            logits off by ")
    assert told["SHA-256"] == model.with_name("model.onnx.sha256").read_text().split()[:1]
    assert done.stdout.endswith("\nmodel.onnx holds on cpu\n")
    found = json.loads(run("verify", model, "--json").stdout)
    assert found["ok"]
    assert [check["outcome"] for check in found["checks"]] == ["ok", "not checked", *["ok"] * 5]


def test_verify_ends_with_1_where_a_golden_logit_is_wrong(model: Path) -> None:
    golden = json.loads({item.key: item.value for item in onnx.load(model).metadata_props}["imaging_ft.golden"])
    first = golden["logits"][0][0]
    change(model, "golden", repr(first), repr(first + 0.5))
    model.with_name("model.onnx.sha256").unlink()
    done = run("verify", model)
    assert done.returncode == 1
    assert rows(done.stdout)["golden sample"][0].startswith("failed        logits off by 5.0e-01, 0.01 allowed")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"imaging-ft: {model}: don't use it: golden sample failed; ")
    done = run("verify", model, "--json")
    assert done.returncode == 1
    assert not json.loads(done.stdout)["ok"]


def test_sign_and_verify_are_two_halves(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("model_signing", reason="needs pip install 'imaging-ft[sign]'")
    from tests.inference.test_signature import keys

    pair = keys(tmp_path, "key")
    done = run("sign", model, "--key", pair.private, program=("-c", BLOCKED))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == [f"model      {model}", f"signature  {model}.sig"]
    assert rows(run("inspect", model).stdout)["signature"][0].startswith("model.onnx.sig; by whom: ")
    done = run("verify", model, "--public-key", pair.public)
    assert done.returncode == 0, done.stderr
    assert "\nsignature     ok " in done.stdout
    change(model, "thresholds", "0.5", "0.9")
    model.with_name("model.onnx.sha256").unlink()
    done = run("verify", model, "--public-key", pair.public)
    assert done.returncode == 1
    assert "don't use it: signature failed; " in done.stderr
    monkeypatch.delenv("NO_SUCH", raising=False)
    one_line(run("sign", model, "--key", pair.private, "--password-env", "NO_SUCH"), "--password-env NO_SUCH")
    one_line(run("sign", model, "--key", tmp_path / "none.pem"), "none.pem: the private key can't be read")
