"""Runs side by side: what differs, what was reached, and when figures can't be compared."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from imaging_ft.errors import RunError
from imaging_ft.training.compare import compare
from tests.conftest import Trained

METRIC = {"value": 0.9, "low": 0.8, "high": 0.95, "method": "wilson"}
REPORT = {
    "schema": "imaging_ft.report/1",
    "created": "2999-01-01T00:00:00+00:00",
    "model": {"file": "model.onnx", "sha256": "0"},
    "dataset": {"fingerprint": "f", "split": "test", "n": 40},
    "suite": "camera",
    "severities": [1, 3],
    "positive": ["ring"],
    "overall": {"n": 40, "metrics": {"accuracy": METRIC, "sensitivity[ring]": METRIC, "sensitivity[bar]": METRIC}},
    "mean": {"accuracy": 0.7, "sensitivity[ring]": 0.6},
    "worst": {"n": 40, "conditions": {"fog": 3}, "metrics": {"accuracy": METRIC | {"value": 0.5}}},
}


@pytest.fixture
def runs(trained: Trained, tmp_path: Path) -> Callable[..., Path]:
    """Copies of one real run, changed as a test needs it."""

    def made(name: str, **changed: dict[str, Any]) -> Path:
        folder = tmp_path / name
        shutil.copytree(trained.run, folder, ignore=shutil.ignore_patterns("checkpoints"))
        for stem, values in changed.items():
            if stem == "config":
                path = folder / "config.yaml"
                path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | values))
            elif stem == "report":
                (folder / "report").mkdir()
                (folder / "report" / "report.json").write_text(json.dumps(values))
            else:
                path = folder / f"{stem}.json"
                path.write_text(json.dumps(json.loads(path.read_text()) | values))
        return folder

    return made


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "imaging_ft", "compare", *map(str, arguments)],
        env=os.environ | {"COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_only_settings_that_differ_are_shown(runs: Callable[..., Path]) -> None:
    found = compare([runs("a"), runs("b", config={"epochs": 9, "seed": 4}), runs("c", config={"new": [1, 2]})])
    assert found.sections["settings"] == {"epochs": (2, 9, 2), "seed": (0, 4, 0), "new": (None, None, [1, 2])}
    assert "settings" not in compare([runs("d"), runs("e")]).sections


def test_what_was_reached_is_read_from_the_run(runs: Callable[..., Path], trained: Trained) -> None:
    summary = json.loads((trained.run / "summary.json").read_text())
    found = compare([runs("a"), runs("b", summary={"validation": {"accuracy": 0.5, "per": {"site": 0.25}, "n": 7}})])
    validation = found.sections["validation"]
    assert validation["accuracy"] == (summary["validation"]["accuracy"], 0.5)
    assert validation["n"] == (summary["validation"]["n"], 7)
    assert validation["balanced_accuracy"] == (summary["validation"]["balanced_accuracy"], None)
    assert validation["per.site"] == (None, 0.25)
    assert found.sections["training"]["recipe"] == ("radiograph", "radiograph")
    assert found.sections["training"]["epochs"] == (2, 2)
    assert found.sections["cost"]["seconds"][0] == summary["cost"]["seconds"]
    assert found.sections["cost"]["seconds an epoch"][0] > 0
    assert found.sections["cost"]["weights (MiB)"][0] == pytest.approx(13.1, abs=0.2)
    assert found.warnings == ()


def test_reports_are_taken_in_with_their_intervals(runs: Callable[..., Path]) -> None:
    sections = compare([runs("a", report=REPORT), runs("b", report=REPORT | {"worst": None})]).sections
    assert sections["clean"]["accuracy 95%"] == ([0.8, 0.95], [0.8, 0.95])
    assert sections["clean"]["sensitivity[ring]"] == (0.9, 0.9)
    assert "sensitivity[bar]" not in sections["clean"], "only the positive classes lead"
    assert sections["mean"] == {"accuracy": (0.7, 0.7)}
    assert sections["worst"]["condition"] == ("fog 3", None)
    assert sections["worst"]["accuracy"] == (0.5, None)


@pytest.mark.parametrize(
    ("changed", "warning"),
    [
        ({"dataset": {"fingerprint": "other"}}, "the data sets differ"),
        ({"dataset": {"split_seed": 5}}, "the validation splits differ"),
        ({"dataset": {"fold": 2}}, "the validation splits differ"),
        ({"summary": {"recipe": "camera"}}, "the recipes differ"),
        ({"summary": {"interrupted": True}}, "was interrupted"),
        ({"report": REPORT}, "has no report"),
    ],
)
def test_figures_that_cannot_be_compared_are_warned_of(
    changed: dict[str, Any], warning: str, runs: Callable[..., Path]
) -> None:
    found = compare([runs("a"), runs("b", **changed)]).warnings
    assert len(found) == 1
    assert warning in found[0]


@pytest.mark.parametrize(
    "changed", [{"dataset": {"fingerprint": "g", "split": "test", "n": 40}}, {"suite": "mr"}, {"severities": [5]}]
)
def test_reports_on_other_images_or_conditions_are_warned_of(
    changed: dict[str, Any], runs: Callable[..., Path]
) -> None:
    (warning,) = compare([runs("a", report=REPORT), runs("b", report=REPORT | changed)]).warnings
    assert "the reports measured other images or conditions" in warning


def test_a_report_on_an_earlier_training_in_the_folder_is_warned_of(runs: Callable[..., Path]) -> None:
    old = REPORT | {"created": "2000-01-01T00:00:00+00:00"}
    (warning,) = compare([runs("a", report=REPORT), runs("b", report=old)]).warnings
    assert "older than the model" in warning


def test_a_wrong_folder_is_named_with_the_remedy(runs: Callable[..., Path], tmp_path: Path) -> None:
    good = runs("a")
    (tmp_path / "empty").mkdir()
    unfinished, damaged, foreign = runs("unfinished"), runs("damaged"), runs("foreign", report={"a": 1})
    (unfinished / "summary.json").unlink()
    (damaged / "dataset.json").write_text("{")
    broken = runs("broken")
    (broken / "config.yaml").write_text("a: [")
    for path, message in (
        (tmp_path / "nowhere", "no such run folder"),
        (tmp_path / "empty", "not a run folder"),
        (unfinished, "not finished"),
        (damaged, r"dataset.json: can't be read"),
        (foreign, "not a report of this version"),
        (broken, "config.yaml: not YAML"),
        (good, "given twice"),
    ):
        with pytest.raises(RunError, match=message) as caught:
            compare([good, path])
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(RunError, match="two or more run folders"):
        compare([good])


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_the_table_fits_eighty_columns(count: int, runs: Callable[..., Path]) -> None:
    label = "a_class_with_an_exceedingly_long_name"
    overall = REPORT["overall"] | {"metrics": {f"sensitivity[{label}]": METRIC}}
    report = REPORT | {"positive": [label], "overall": overall}
    folders = [
        runs(f"a_round_with_quite_a_long_name_{number}", config={"seed": number, "weights": "x" * 90}, report=report)
        for number in range(count)
    ]
    done = command(*folders)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "quite_a_long" not in line]  # where the numbers are explained
    assert max(map(len, lines)) <= 80
    heads = [head for line in lines if line.startswith(" " * 25) for head in line.split()]
    assert heads == [f"[{number}]" for number in range(1, count + 1)]
    assert [f"[{number + 1}] {folder}" in done.stdout for number, folder in enumerate(folders)] == [True] * count
    assert sum(line.count("0.800–0.950") for line in lines) == 2 * count


def test_short_names_head_their_columns(runs: Callable[..., Path]) -> None:
    done = command(runs("a"), runs("b"))
    assert done.stdout.splitlines()[0].split() == ["a", "b"]


def test_the_commands_json_is_the_functions(runs: Callable[..., Path]) -> None:
    folders = [runs("a"), runs("b", config={"epochs": 9}, dataset={"fingerprint": "other"})]
    done = command(*folders, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(json.dumps(compare(folders).as_json()))


def test_the_command_needs_no_torch(runs: Callable[..., Path]) -> None:
    code = "import sys; from imaging_ft.training.compare import compare; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
