"""The measurement: every way is there, beside plain onnxruntime, and what it says can be read by a script."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from imaging_ft.cli.app import app
from tests.inference.nets import LINEAR, make


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(LINEAR["pool, flatten, gemm"], tmp_path_factory.mktemp("bench") / "m.onnx").path


def test_each_way_is_measured_beside_plain_onnxruntime(model: Path, tmp_path: Path) -> None:
    given = ["bench", str(model), "--batches", "1,4", "--clients", "1,3", "--seconds", "0.1", "--size", "30x40"]
    done = CliRunner().invoke(app, [*given, "--json", "--plot", str(tmp_path / "b.png")])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [(one["way"], one["batch"], one["clients"]) for one in found["timings"]] == [
        ("plain", 1, 1),
        ("runner", 1, 1),
        ("plain", 4, 1),
        ("runner", 4, 1),
        ("service", 1, 1),
        ("service", 1, 3),
    ]
    assert found["size"] == [30, 40]
    for one in found["timings"]:
        assert 0 < one["p50"] <= one["p99"]
        assert one["images"] > 0
        assert (one["against_plain"] is None) == (one["way"] == "plain")
    assert (tmp_path / "b.png").read_bytes()[:4] == b"\x89PNG"


def test_the_table_fits_a_terminal(model: Path) -> None:
    done = CliRunner().invoke(app, ["bench", str(model), "--batches", "1", "--clients", "1", "--seconds", "0.1"])
    assert done.exit_code == 0
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    assert "of plain" in done.stdout


@pytest.mark.parametrize(
    ("option", "value"),
    [("--batches", "1,x"), ("--clients", "0"), ("--size", "12"), ("--size", "0x9"), ("--plot", "/none/there/b.png")],
)
def test_a_wrong_option_is_one_line(option: str, value: str, model: Path) -> None:
    from imaging_ft.errors import InputError

    given = ["bench", str(model), "--batches", "1", "--clients", "1", "--seconds", "0.1", option, value]
    done = CliRunner().invoke(app, given)
    assert isinstance(done.exception, InputError)
    assert value in str(done.exception)
    assert "\n" not in str(done.exception)
