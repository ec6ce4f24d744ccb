"""The report of a real exported model: what is measured, on which images, and what the command says of it."""

import csv
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import numpy as np
import polars as pl
import pytest

from imaging_ft.augment.conditions import CONDITIONS, Setting, load_suite
from imaging_ft.data import Sample, load, prepare
from imaging_ft.errors import ConfigError, DataError
from imaging_ft.image import read_image
from imaging_ft.inference import Device
from imaging_ft.inference.runner import Runner
from imaging_ft.report.measure import measure
from imaging_ft.report.result import Cell, Report, json_schema
from imaging_ft.report.write import FILES, to_csv, write_report
from imaging_ft.types import Split, T
from tests.conftest import write_dataset

if TYPE_CHECKING:
    from conftest import Exported

SCHEMA_FILE = Path(__file__).parents[2] / "export" / "report.schema.json"
LABELS = ["bar", "disc", "ring"]


@pytest.fixture(scope="module")
def runner(exported: "Exported") -> Runner:
    return Runner.open(exported.model, device=Device.CPU)


@pytest.fixture(scope="module")
def report(runner: Runner, exported: "Exported") -> Report:
    return measure(runner, str(exported.dataset)).report


def samples_of_test(exported: "Exported") -> tuple[Sample, ...]:
    return load(str(exported.dataset)).of(Split.TEST)


def synthetic(report: Report) -> list[Cell]:
    return [cell for cell in report.cells if cell.source == "synthetic"]


def recorded(report: Report, column: str) -> list[Cell]:
    return [cell for cell in report.cells if cell.source == "recorded" and list(cell.conditions) == [column]]


def rewritten(exported: "Exported", path: Path, **columns: Any) -> Path:
    """Write the manifest again beside no images: with absolute paths, and columns replaced, or dropped by None."""
    table = pl.read_csv(exported.dataset, infer_schema=False)
    folder = exported.dataset.parent.resolve().as_posix()
    table = table.with_columns(image=pl.lit(folder + "/") + pl.col("image"))
    for name, value in columns.items():
        table = table.drop(name) if value is None else table.with_columns(value.alias(name))
    table.write_csv(path)
    return path


def test_the_keys_are_those_of_the_plan(report: Report) -> None:
    content = json.loads(report.model_dump_json())
    assert set(content) >= {"schema", "model", "dataset", "overall", "cells", "mean", "worst", "gates"}
    assert content["schema"] == "imaging_ft.report/1"
    assert set(content["overall"]) == {"n", "groups", "status", "metrics"}
    assert set(content["overall"]["metrics"]["accuracy"]) == {"value", "low", "high", "method"}
    assert {"source", "conditions", "axes", "n", "groups", "status", "metrics"} <= set(content["cells"][0])
    names = {f"{kind}[{label}]" for kind in ("sensitivity", "specificity", "auroc", "auprc") for label in LABELS}
    plain = {"accuracy", "balanced_accuracy", "macro_f1", "brier", "ece", "rejected", "accuracy_answered"}
    assert set(content["overall"]["metrics"]) == plain | names


def test_every_setting_of_the_suite_is_a_cell_of_every_test_image(report: Report, exported: "Exported") -> None:
    n = len(samples_of_test(exported))
    assert report.suite == "radiograph"  # gray images that no card speaks of
    settings = load_suite("radiograph").settings()
    cells = synthetic(report)
    assert len(cells) == len(settings) - 1 > 30
    assert {frozenset(cell.conditions.items()) for cell in cells} == {
        frozenset(setting.conditions.items()) for setting in settings[1:]
    }
    assert {cell.n for cell in cells} == {report.overall.n} == {report.dataset.n} == {n}
    assert {cell.groups for cell in cells} == {report.overall.groups} == {6}
    assert report.dataset.classes == dict.fromkeys(LABELS, n // 3)
    assert report.dataset.split == "test"


def test_the_worst_cell_stands_first_and_the_mean_is_over_the_synthetic_cells(report: Report) -> None:
    accuracies = [cell.metrics["accuracy"].value for cell in synthetic(report)]
    assert accuracies == sorted(accuracies)
    assert report.worst == report.cells[0]
    assert report.mean["accuracy"] == pytest.approx(np.mean(accuracies))
    everywhere = set(report.overall.metrics) - {"accuracy_answered"}  # under some conditions too few are answered
    assert everywhere <= set(report.mean) <= set(report.overall.metrics)


def test_conditions_that_training_practised_are_marked(report: Report) -> None:
    practised = {info.name: info.practised for info in report.conditions}
    known = {"low_dose": True, "tube_voltage": True, "position_roll": True, "grid_lines": False, "defocus": False}
    assert {name: practised[name] for name in known} == known
    assert set(practised) == set(load_suite("radiograph").conditions)
    for cell in synthetic(report):
        assert cell.practised == all(practised[name] for name in cell.conditions)
    assert all(cell.practised is None for cell in report.cells if cell.source == "recorded")


def test_severities_are_given_with_their_physical_values(report: Report) -> None:
    low_dose = next(info for info in report.conditions if info.name == "low_dose")
    assert low_dose.values == {1: -2, 2: -4, 3: -6, 4: -8, 5: -10}
    assert low_dose.parameter == "deviation index (dB)"


def right(runner: Runner, samples: Iterable[Sample], setting: Setting) -> list[bool]:
    """Return whether each image is classed right, one image at a time."""
    found: list[bool] = []
    for sample in samples:
        pixels = setting.apply(read_image(sample.path), sample_id=sample.id, seed=0)
        found.append(runner.bundle.names[int(runner.predict([pixels])[0].argmax())] == sample.label)
    return found


def test_overall_is_the_share_of_clean_images_that_the_runner_classes_right(
    report: Report, runner: Runner, exported: "Exported"
) -> None:
    correct = right(runner, samples_of_test(exported), Setting(()))
    assert report.overall.metrics["accuracy"].value == pytest.approx(np.mean(correct))
    assert np.mean(correct) > 0.4, "the model of the fixture has learnt nothing"


def test_a_cell_is_the_share_of_changed_images_that_the_runner_classes_right(
    report: Report, runner: Runner, exported: "Exported"
) -> None:
    for parts in (("low_dose", 5),), (("low_dose", 5), ("position_roll", 3)):
        setting = Setting(tuple((CONDITIONS[name], severity) for name, severity in parts))
        cell = next(cell for cell in synthetic(report) if cell.conditions == setting.conditions)
        correct = right(runner, samples_of_test(exported), setting)
        assert cell.metrics["accuracy"].value == pytest.approx(np.mean(correct))


def test_every_column_is_reported_and_no_image_is_dropped(report: Report) -> None:
    assert [cell.conditions["site"] for cell in recorded(report, "site")] == ["south"]
    angles = recorded(report, "angle")
    assert len(angles) > 3
    assert all(cell.axes == ["angle"] for cell in angles)
    for column in ("site", "angle"):
        assert sum(cell.n for cell in recorded(report, column)) == report.overall.n
    assert {cell.status.value for cell in angles} == {"undefined"}  # a few images each
    assert all(cell.metrics == {} for cell in angles)


def test_the_same_model_and_images_give_the_same_bytes(
    report: Report, runner: Runner, exported: "Exported", tmp_path: Path
) -> None:
    again = measure(runner, str(exported.dataset)).report
    assert again.model_copy(update={"created": report.created}) == report
    for number, one in enumerate((report, again)):
        write_report(one.model_copy(update={"created": "2026-01-01T00:00:00+00:00"}), tmp_path / str(number))
    for name in FILES:
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "1" / name).read_bytes(), name


def test_the_file_that_was_measured_is_named_by_its_digest(report: Report, runner: Runner) -> None:
    assert report.model.sha256 == runner.sha256
    assert report.model.file == "model.onnx"
    assert report.model.labels == LABELS


def test_another_split_can_be_measured(runner: Runner, exported: "Exported") -> None:
    suite = exported.dataset.parent / "small.yaml"
    suite.write_text("name: small\nconditions: [roll]\nseverities: [5]\n")
    found = measure(runner, str(exported.dataset), split=Split.VAL, suite=str(suite)).report
    assert (found.dataset.split, found.dataset.n, found.suite) == ("val", 18, "small")
    assert len(synthetic(found)) == 1
    assert [cell.conditions["site"] for cell in recorded(found, "site")] == ["north"]


def test_images_from_elsewhere_without_splits_are_measured_whole(
    runner: Runner, exported: "Exported", tmp_path: Path
) -> None:
    write_dataset(tmp_path, groups=16, per_group=3, seed=1)
    manifest = tmp_path / "elsewhere.csv"
    pl.read_csv(tmp_path / "manifest.csv", infer_schema=False).drop("split").write_csv(manifest)
    suite = tmp_path / "small.yaml"
    suite.write_text("name: small\nconditions: [roll]\nseverities: [5]\n")
    found = measure(runner, str(manifest), suite=str(suite)).report
    assert (found.dataset.split, found.dataset.n) == ("all", 144)
    assert {cell.conditions["site"]: cell.n for cell in recorded(found, "site")} == {"north": 72, "south": 72}
    assert found.overall.status.value == "ok"


def test_without_a_card_the_suite_is_the_one_that_the_model_was_trained_for(exported: "Exported") -> None:
    runner = Runner.open(exported.model, device=Device.CPU)
    assert runner.bundle.provenance["conditions"] == "radiograph"
    provenance = {**runner.bundle.provenance, "conditions": "ultrasound"}
    runner.bundle = runner.bundle.model_copy(update={"provenance": provenance})
    found = measure(runner, str(exported.dataset), severities=[5], fast=True).report
    assert found.suite == "ultrasound"
    assert any("depth_gain" in cell.conditions for cell in synthetic(found))


def test_the_data_that_was_trained_on_is_measured_on_its_test_part_alone(exported: "Exported", tmp_path: Path) -> None:
    manifest = rewritten(exported, tmp_path / "own.csv", split=None)
    data = prepare(str(manifest), seed=0)
    runner = Runner.open(exported.model, device=Device.CPU)
    dataset = {**runner.bundle.provenance["dataset"], "fingerprint": data.fingerprint, "split_seed": 0}
    provenance = {**runner.bundle.provenance, "dataset": dataset}
    runner.bundle = runner.bundle.model_copy(update={"provenance": provenance, "seen": None})
    found = measure(runner, str(manifest)).report
    assert (found.dataset.split, found.dataset.n) == ("test", len(data.of(Split.TEST)))
    assert found.dataset.n < len(data.samples)


def test_a_class_that_the_model_does_not_know_is_named_with_its_row(
    runner: Runner, exported: "Exported", tmp_path: Path
) -> None:
    labels = pl.col("label").replace({"ring": "rings"})
    manifest = rewritten(exported, tmp_path / "other.csv", label=labels)
    with pytest.raises(DataError, match=r"\(row \d+\): the model knows no class 'rings'; did you mean 'ring'\?"):
        measure(runner, str(manifest))


def test_a_split_without_images_is_told_with_those_that_there_are(
    runner: Runner, exported: "Exported", tmp_path: Path
) -> None:
    manifest = rewritten(exported, tmp_path / "new.csv", split=pl.lit("test"))
    with pytest.raises(DataError, match=r"new: no val images \(there are: test\); choose one with --split"):
        measure(runner, str(manifest), split=Split.VAL)


@pytest.mark.parametrize(
    "which",
    ["low_dose@6", "low_dose@2,position_roll@2", "low_dose@3,low_dose@5", "site=north", "angle=0", "sight=south"],
)
def test_a_gate_on_an_unknown_cell_fails_before_anything_is_measured(
    runner: Runner, exported: "Exported", which: str
) -> None:
    begun: list[str] = []

    def track(items: Iterable[T], what: str, total: int | None = None) -> Iterable[T]:
        begun.append(what)
        return items

    with pytest.raises(ConfigError, match="no cell"):
        measure(runner, str(exported.dataset), require=[f"condition[{which}].accuracy >= 0.5"], track=track)
    assert "measuring" not in begun


def test_gates_on_clean_worst_synthetic_and_recorded_cells_are_judged(
    report: Report, runner: Runner, exported: "Exported"
) -> None:
    worst = report.worst
    assert worst is not None
    place = ",".join(f"{name}@{severity}" for name, severity in worst.conditions.items())
    angle = recorded(report, "angle")[0].conditions["angle"]
    require = [
        "overall.accuracy >= 0.01",
        "worst.accuracy >= 0.99",
        f"condition[{place}].accuracy >= 0.99",
        f"condition[angle={angle}].accuracy >= 0.01",
    ]
    gates = measure(runner, str(exported.dataset), require=require).report.gates
    assert [gate.expr for gate in gates] == require
    assert [gate.observed for gate in gates] == [
        report.overall.metrics["accuracy"].low,
        worst.metrics["accuracy"].low,
        worst.metrics["accuracy"].low,
        None,
    ]
    assert (gates[0].outcome, gates[3].outcome) == ("pass", "insufficient")
    assert gates[1].outcome == gates[2].outcome != "pass"


def test_the_table_has_a_row_for_every_cell_and_metric(report: Report) -> None:
    rows = list(csv.DictReader(to_csv(report).splitlines()))
    cells = {(row["source"], row["conditions"]) for row in rows}
    assert len(cells) == 1 + len(report.cells)
    assert len(rows) == sum(max(1, len(found.metrics)) for found in (report.overall, *report.cells))
    assert rows[0]["source"] == "clean"
    assert float(rows[0]["value"]) == pytest.approx(report.overall.metrics["accuracy"].value, abs=1e-6)
    empty = [row for row in rows if row["status"] == "undefined"]
    assert empty
    assert all(row["metric"] == "" and int(row["n"]) > 0 for row in empty)


def test_the_committed_schema_is_the_reports() -> None:
    generate = "python -c 'from imaging_ft.report.result import json_schema; print(json_schema(), end=\"\")'"
    assert SCHEMA_FILE.read_text(encoding="utf-8") == json_schema(), f"write it again: {generate} > {SCHEMA_FILE.name}"


def test_a_real_report_fits_the_schema_and_a_wrong_one_does_not(report: Report) -> None:
    schema = json.loads(json_schema())
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    content = json.loads(report.model_dump_json())
    validator.validate(content)
    without_n = {key: value for key, value in content["overall"].items() if key != "n"}
    for wrong in (
        {**content, "schema": "imaging_ft.report/2"},
        {**content, "verdict": "good"},
        {**content, "overall": without_n},
        {key: value for key, value in content.items() if key != "schema"},
    ):
        assert not validator.is_valid(wrong)


def run(exported: "Exported", cwd: Path, *arguments: str, dataset: str = "") -> subprocess.CompletedProcess[str]:
    command = ["report", str(exported.model), dataset or str(exported.dataset), *arguments]
    return subprocess.run(
        [sys.executable, "-m", "imaging_ft", *command], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_the_command_writes_its_files_and_fits_80_columns(exported: "Exported", tmp_path: Path) -> None:
    low, value = _accuracy(exported)
    gate = f"overall.accuracy >= {low / 2:.3f}"
    done = run(exported, tmp_path, "--out", "report", "--require", gate)
    assert done.returncode == 0, done.stderr
    written = {*FILES, "junit.xml", "predictions.parquet"}
    assert {path.name for path in (tmp_path / "report").iterdir()} == written
    assert [line for line in (done.stdout + done.stderr).splitlines() if len(line) > 80] == []
    assert f"gate pass: {gate}" in done.stdout
    assert re.search(rf"^clean +{value:.3f} +\[{low:.3f}, [01]\.\d+\] +18$", done.stdout, flags=re.MULTILINE)
    for path in written:
        assert f"report/{path}" in done.stdout
    content = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    jsonschema.validate(content, json.loads(json_schema()))
    rows = list(csv.DictReader((tmp_path / "report" / "cells.csv").read_text(encoding="utf-8").splitlines()))
    assert len({(row["source"], row["conditions"]) for row in rows}) == 1 + len(content["cells"])


def test_a_failed_gate_is_exit_code_1_even_beside_one_without_evidence(exported: "Exported", tmp_path: Path) -> None:
    low, value = _accuracy(exported)
    unclear = f"overall.accuracy >= {(low + value) / 2:.4f}"
    failing = f"overall.accuracy <= {low / 2:.4f}"
    suite = tmp_path / "small.yaml"
    suite.write_text("name: small\nconditions: [roll]\nseverities: [5]\n")
    small = ("--conditions", str(suite), "--out", "report")
    done = run(exported, tmp_path, *small, "--require", unclear, "--require", failing)
    assert done.returncode == 1, done.stderr
    assert f"gate fail: {failing}" in done.stdout
    assert f"gate insufficient: {unclear}" in done.stdout
    done = run(exported, tmp_path, *small, "--require", unclear, "--json")
    assert done.returncode == 3, done.stderr
    assert Report.model_validate_json(done.stdout).gates[0].outcome == "insufficient"


def _accuracy(exported: "Exported") -> tuple[float, float]:
    """Return the lower bound and the value of the accuracy on the clean test images."""
    runner = Runner.open(exported.model, device=Device.CPU)
    found = measure(runner, str(exported.dataset), severities=(5,), show=False).report.overall.metrics["accuracy"]
    return found.low, found.value


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--require", "worst.accuracy > 0.8"), "not a requirement; write for example"),
        (("--require", "worst.acuracy >= 0.8"), "did you mean 'accuracy'?"),
        (("--require", "condition[low_dose@6].accuracy >= 0.8"), "did you mean 'low_dose@"),
        (("--conditions", "radiografh"), "did you mean 'radiograph'?"),
    ],
)
def test_a_wrong_command_is_exit_code_2_and_one_line(
    exported: "Exported", tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = run(exported, tmp_path, "--out", "report", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert _is_one_line(done.stderr)
    assert done.stdout == ""


def test_a_file_where_the_folder_should_be_is_exit_code_2_and_one_line(exported: "Exported", tmp_path: Path) -> None:
    (tmp_path / "report").write_text("mine")
    for out in ("report", "report/deeper"):
        done = run(exported, tmp_path, "--out", out)
        assert done.returncode == 2
        assert f"{out}: the report can't be written there" in done.stderr
        assert _is_one_line(done.stderr)
    assert (tmp_path / "report").read_text() == "mine"


def test_data_that_is_not_there_is_exit_code_2_and_one_line(exported: "Exported", tmp_path: Path) -> None:
    done = run(exported, tmp_path, "--out", "report", dataset="nowhere/manifest.csv")
    assert done.returncode == 2
    assert "no such manifest" in done.stderr
    assert _is_one_line(done.stderr)


def _is_one_line(text: str) -> bool:
    return text.startswith("imaging-ft: ") and text.count("\n") == 1 and "Traceback" not in text
