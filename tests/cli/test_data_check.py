"""`imaging-ft data check` as a user meets it."""

import json
from pathlib import Path

from tests.audit.conftest import plant
from tests.cli.test_app import BLOCKED, one_line, run
from tests.conftest import write_dataset


def test_it_prints_the_verdict_first_in_80_columns_and_ends_with_0(tmp_path: Path) -> None:
    manifest = plant(tmp_path / "data").manifest
    done = run("data", "check", manifest, "--fast", "--out", tmp_path / "out", "--write-manifest", tmp_path / "m.csv")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("manifest: 3 problems to mend before training")
    found = done.stdout.index
    assert found("PROBLEM") < found("NOTE") < found("\nclass ") < found("\ntest at 0.9")
    paths = [line for line in lines if line.startswith(("page", "data", "manifest  ", "card"))]
    assert all(len(line) <= 80 for line in lines if line not in paths)
    assert len(paths) == 4
    for line in paths:
        assert Path(line.split(maxsplit=1)[1]).is_file()
    assert run("data", "check", tmp_path / "m.csv", "--fast").returncode == 0


def test_json_is_the_check_alone(tmp_path: Path) -> None:
    done = run("data", "check", write_dataset(tmp_path / "data"), "--fast", "--json", "--half-width", "0.2")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["schema"] == "imaging_ft.check/1"
    assert result["sizing"]["half_width"] == 0.2
    assert result["dataset"]["n"] == 48


def test_without_torch_it_does_what_it_can_and_says_so(tmp_path: Path) -> None:
    done = run("data", "check", write_dataset(tmp_path / "data"), program=("-c", BLOCKED))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    text = " ".join(done.stdout.split())
    assert "not checked: label errors, distance from the backbone's domain (torch is not installed; pip install" in text


def test_what_training_refuses_is_exit_code_2(tmp_path: Path) -> None:
    manifest = write_dataset(tmp_path / "data")
    manifest.write_text(manifest.read_text().replace("bar-0-0.png,bar,test", "bar-0-0.png,bar,train"))
    one_line(run("data", "check", manifest), "on two sides")
    one_line(run("data", "check", manifest, "--write-manifest", manifest), "would replace")
