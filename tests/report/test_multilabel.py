"""The report of a model that says several classes, or none: what is right, and what each figure stands for."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from imaging_ft.data import Sample, load, prepare
from imaging_ft.data.folds import folds
from imaging_ft.errors import ConfigError, DataError
from imaging_ft.image import read_image
from imaging_ft.inference import Device
from imaging_ft.inference.runner import Runner
from imaging_ft.report.measure import measure
from imaging_ft.report.page import render_page
from imaging_ft.report.result import Cell, Report, json_schema
from imaging_ft.report.write import to_csv
from imaging_ft.types import Split, Status
from tests.conftest import LABELS
from tests.export.multilabel import THRESHOLDS, Multilabel, exported, exported_single
from tests.report.test_page import Reader

SUITE = "name: small\nconditions: [low_dose]\nseverities: [1, 5]\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Multilabel:
    return exported(tmp_path_factory)


@pytest.fixture(scope="module")
def runner(made: Multilabel) -> Runner:
    return Runner.open(made.model, device=Device.CPU)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("suite") / "small.yaml"
    path.write_text(SUITE)
    return str(path)


@pytest.fixture(scope="module")
def report(runner: Runner, made: Multilabel, suite: str) -> Report:
    return measure(runner, str(made.dataset), suite=suite).report


def samples_of_test(made: Multilabel) -> tuple[Sample, ...]:
    return load(str(made.dataset)).of(Split.TEST)


def said(runner: Runner, samples: tuple[Sample, ...]) -> list[set[str]]:
    """Return the classes that the model says of each image, by its probabilities and thresholds alone."""
    return [
        {
            label
            for label, p in zip(LABELS, runner.predict([read_image(sample.path)])[0], strict=True)
            if p >= THRESHOLDS[label]
        }
        for sample in samples
    ]


def test_accuracy_is_the_share_of_images_on_which_every_label_is_right(
    report: Report, runner: Runner, made: Multilabel
) -> None:
    samples = samples_of_test(made)
    exact = [found == set(sample.labels) for found, sample in zip(said(runner, samples), samples, strict=True)]
    assert report.overall.metrics["accuracy"].value == pytest.approx(np.mean(exact))
    assert 0.3 < np.mean(exact) < 1


def test_sensitivity_and_specificity_are_of_one_label_at_its_threshold(
    report: Report, runner: Runner, made: Multilabel
) -> None:
    samples = samples_of_test(made)
    found = said(runner, samples)
    halves: list[float] = []
    for label in LABELS:
        hits = [label in one for one, sample in zip(found, samples, strict=True) if label in sample.labels]
        clear = [label not in one for one, sample in zip(found, samples, strict=True) if label not in sample.labels]
        assert report.overall.metrics[f"sensitivity[{label}]"].value == pytest.approx(np.mean(hits))
        assert report.overall.metrics[f"specificity[{label}]"].value == pytest.approx(np.mean(clear))
        halves += [float(np.mean(hits)), float(np.mean(clear))]
    balanced = report.overall.metrics["balanced_accuracy"]
    assert balanced.value == pytest.approx(np.mean(halves))
    assert balanced.low < balanced.value < balanced.high
    assert balanced.method == "mover_by_group"


def test_other_thresholds_give_other_figures(report: Report, made: Multilabel, suite: str) -> None:
    runner = Runner.open(made.model, device=Device.CPU)
    eager = {"bar": 0.0, "disc": 0.5, "ring": 1.0}
    runner.bundle = runner.bundle.model_copy(update={"thresholds": eager})
    found = measure(runner, str(made.dataset), suite=suite).report
    metrics = found.overall.metrics
    assert [metrics[f"{kind}[{label}]"].value for kind, label in (("sensitivity", "bar"), ("specificity", "bar"))] == [
        1,
        0,
    ]
    assert (metrics["sensitivity[ring]"].value, metrics["specificity[ring]"].value) == (0, 1)
    assert metrics["sensitivity[disc]"] == report.overall.metrics["sensitivity[disc]"]
    assert found.model.thresholds == eager


def test_each_class_is_counted_and_so_are_the_images_that_show_none(report: Report) -> None:
    assert report.dataset.n == 64
    assert report.dataset.classes == dict.fromkeys(LABELS, 32)
    assert report.dataset.none == 8
    assert (report.model.task, report.model.thresholds) == ("multilabel", THRESHOLDS)


def recorded(report: Report) -> list[Cell]:
    return [cell for cell in report.cells if cell.source == "recorded"]


def test_synthetic_cells_and_recorded_slices_are_measured_alike(
    report: Report, runner: Runner, made: Multilabel
) -> None:
    synthetic = [cell for cell in report.cells if cell.source == "synthetic"]
    assert [cell.n for cell in synthetic] == [64, 64]
    assert report.worst == synthetic[0]
    assert set(report.mean) == set(report.overall.metrics)
    samples = samples_of_test(made)
    assert [cell.conditions for cell in recorded(report)] == [{"site": "north"}, {"site": "south"}]
    for cell in recorded(report):
        part = tuple(sample for sample in samples if sample.columns["site"] == cell.conditions["site"])
        exact = [found == set(sample.labels) for found, sample in zip(said(runner, part), part, strict=True)]
        assert cell.metrics["accuracy"].value == pytest.approx(np.mean(exact))
        assert cell.status is Status.LOW_N


def test_gates_work_on_every_metric(report: Report, runner: Runner, made: Multilabel, suite: str) -> None:
    require = [
        "overall.accuracy >= 0.1",
        "worst.sensitivity[ring] >= 0.999",
        "condition[low_dose@1].specificity[disc] >= 0.1",
        "condition[site=north].balanced_accuracy >= 0.1",
    ]
    gates = measure(runner, str(made.dataset), suite=suite, require=require).report.gates
    assert [gate.outcome for gate in gates] == ["pass", "fail", "pass", "pass"]
    assert gates[0].observed == report.overall.metrics["accuracy"].low
    with pytest.raises(ConfigError, match="no metric 'sensitivity\\[cross\\]'"):
        measure(runner, str(made.dataset), suite=suite, require=["overall.sensitivity[cross] >= 0.1"])


def card(made: Multilabel, path: Path, lines: str = "") -> str:
    """Write a card of the data set, and return its path."""
    path.write_text(
        f"name: {path.stem}\ntask: multilabel\nlayout: manifest\nroot: {made.dataset.parent.resolve()}\n{lines}\n"
    )
    return str(path)


def test_positive_classes_of_the_card_are_reported_first(
    runner: Runner, made: Multilabel, suite: str, tmp_path: Path
) -> None:
    found = measure(runner, card(made, tmp_path / "shapes.yaml", "positive: [ring]"), suite=suite).report
    assert found.positive == ["ring"]
    text = Reader(render_page(found)).text
    overall = text[text.index("Overall, on the clean images") :]
    places = [overall.index(name) for name in ("Sensitivity, ring", "Balanced accuracy", "Sensitivity, bar")]
    assert places == sorted(places)


def rewritten(made: Multilabel, path: Path, **cells: str) -> str:
    """Write the manifest again with absolute image paths and other labels, and return its path."""
    images = made.dataset.parent.resolve()
    with made.dataset.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["image"] = str(images / row["image"])
        row["labels"] = "|".join(cells.get(label, label) for label in row["labels"].split("|"))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def test_a_class_that_the_model_does_not_know_is_named_with_its_row(
    runner: Runner, made: Multilabel, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"\(row \d+\): the model knows no class 'rings'; did you mean 'ring'\?"):
        measure(runner, rewritten(made, tmp_path / "other.csv", ring="rings"))


def test_a_class_that_no_image_shows_has_no_sensitivity(
    runner: Runner, made: Multilabel, suite: str, tmp_path: Path
) -> None:
    found = measure(runner, rewritten(made, tmp_path / "less.csv", ring=""), suite=suite).report
    assert found.dataset.classes == {"bar": 32, "disc": 32, "ring": 0}
    assert found.dataset.none == 16
    metrics = found.overall.metrics
    assert "sensitivity[ring]" not in metrics
    assert "specificity[ring]" in metrics
    parts = [metrics[f"{kind}[{label}]"].value for kind in ("sensitivity", "specificity") for label in ("bar", "disc")]
    assert metrics["balanced_accuracy"].value == pytest.approx(np.mean(parts))


def test_data_of_the_other_kind_of_task_is_refused(
    runner: Runner, made: Multilabel, tmp_path_factory: pytest.TempPathFactory
) -> None:
    single = exported_single(tmp_path_factory)
    with pytest.raises(DataError, match=r"shows one class \(task multiclass\), but the model says any number of"):
        measure(runner, str(single.dataset))
    other = Runner.open(single.model, device=Device.CPU)
    with pytest.raises(DataError, match=r"shows any number of classes \(task multilabel\), but the model says one"):
        measure(other, str(made.dataset))


def test_a_report_of_one_class_an_image_measures_operating_points_beside_it(
    tmp_path_factory: pytest.TempPathFactory, suite: str
) -> None:
    single = exported_single(tmp_path_factory)
    runner = Runner.open(single.model, device=Device.CPU)
    runner.bundle = runner.bundle.model_copy(update={"thresholds": dict.fromkeys(LABELS, 0.5)})
    plain = measure(runner, str(single.dataset), suite=suite).report
    assert plain.model.thresholds is None
    assert not [name for name in plain.overall.metrics if "threshold" in name]
    runner.bundle = runner.bundle.model_copy(update={"thresholds": THRESHOLDS})
    found = measure(runner, str(single.dataset), suite=suite).report
    assert found.model.thresholds == THRESHOLDS
    assert found.overall.metrics["accuracy"] == plain.overall.metrics["accuracy"]
    samples = [sample for sample in load(str(single.dataset)).samples if sample.split == "test"]
    p = runner.predict([read_image(sample.path) for sample in samples])
    for index, label in enumerate(LABELS):
        alarms = (p[:, index] >= THRESHOLDS[label]).tolist()
        hits = [alarm for alarm, sample in zip(alarms, samples, strict=True) if sample.label == label]
        clear = [not alarm for alarm, sample in zip(alarms, samples, strict=True) if sample.label != label]
        metrics = found.overall.metrics
        assert metrics[f"sensitivity_at_threshold[{label}]"].value == pytest.approx(np.mean(hits))
        assert metrics[f"specificity_at_threshold[{label}]"].value == pytest.approx(np.mean(clear))
    assert found.dataset.none is None
    assert sum(found.dataset.classes.values()) == found.dataset.n == 24
    text = Reader(render_page(found)).text
    assert "every one of the" not in text
    assert "every label right" not in text
    assert "always answering “bar” would reach an accuracy of 0.333 and a balanced accuracy of 0.333" in text


def test_a_fold_is_measured_on_its_own_validation_images(made: Multilabel, suite: str) -> None:
    runner = Runner.open(made.model, device=Device.CPU)
    provenance: dict[str, Any] = dict(runner.bundle.provenance)
    provenance["config"] = {"folds": 4, "fold": 3}
    runner.bundle = runner.bundle.model_copy(update={"provenance": provenance})
    data = prepare(str(made.dataset))
    expected = folds(data, 4, seed=0)[2].of(Split.VAL)
    assert {sample.id for sample in expected} != {sample.id for sample in data.of(Split.VAL)}
    found = measure(runner, str(made.dataset), suite=suite, split=Split.VAL).report
    exact = [one == set(sample.labels) for one, sample in zip(said(runner, expected), expected, strict=True)]
    assert found.overall.metrics["accuracy"].value == pytest.approx(np.mean(exact))
    assert {cell.conditions["site"]: cell.n for cell in recorded(found)} == {
        site: sum(sample.columns["site"] == site for sample in expected) for site in ("north", "south")
    }
    assert measure(runner, str(made.dataset), suite=suite).report.dataset.n == 64


def test_a_damaged_training_image_that_was_left_out_moves_no_image_to_another_fold(
    made: Multilabel, suite: str, tmp_path: Path
) -> None:
    dataset = Path(shutil.copytree(made.dataset.parent, tmp_path / "data")) / "manifest.csv"
    for path in (dataset.parent / "images").glob("0[024]-*.png"):
        path.write_bytes(path.read_bytes()[:60] + path.name.encode())
    data = prepare(str(dataset), skip_bad=True)
    expected = folds(data, 4, seed=0)[2].of(Split.VAL)
    undecoded = prepare(str(dataset), skip_bad=True, decode=frozenset({Split.VAL}))
    assert folds(undecoded, 4, seed=0)[2].of(Split.VAL) != expected
    runner = Runner.open(made.model, device=Device.CPU)
    provenance: dict[str, Any] = {
        "dataset": {"fingerprint": data.fingerprint, "split_seed": 0},
        "config": {"folds": 4, "fold": 3},
    }
    runner.bundle = runner.bundle.model_copy(update={"provenance": provenance})
    found = measure(runner, str(dataset), suite=suite, split=Split.VAL, skip_bad=True).report
    assert found.dataset.n == len(expected)
    exact = [one == set(sample.labels) for one, sample in zip(said(runner, expected), expected, strict=True)]
    assert found.overall.metrics["accuracy"].value == pytest.approx(np.mean(exact))


def test_the_page_says_what_accuracy_means(report: Report) -> None:
    text = Reader(render_page(report)).text
    accuracy = report.overall.metrics["accuracy"]
    assert f"Accuracy (every label right) on the clean images {accuracy.value:.3f}" in text
    assert "counts an image as right only where every one of the 3 labels is right" in text
    assert "reaches its threshold: bar 0.350, disc 0.500, ring 0.600." in text
    assert "bar 32, disc 32, ring 32; none of them 8" in text
    assert (
        "always answering “none of the labels” would reach an accuracy of 0.125 and a balanced accuracy of 0.500"
        in text
    )
    assert "labels’ sensitivities and specificities and how the labels err together" in text


def test_the_page_gives_each_figure_its_own_n(report: Report) -> None:
    page = render_page(report)
    rows = page.split("<tr")
    (sensitivity,) = [row for row in rows if ">Sensitivity, bar</th>" in row]
    (accuracy,) = [row for row in rows if '<th scope="row">Accuracy</th>' in row]
    assert '<td class="right">32</td>' in sensitivity
    assert '<td class="right">64</td>' in accuracy


def test_the_report_fits_its_schema_and_its_table_has_every_metric(report: Report) -> None:
    jsonschema.validate(json.loads(report.model_dump_json()), json.loads(json_schema()))
    rows = list(csv.DictReader(to_csv(report).splitlines()))
    clean = {row["metric"]: row for row in rows if row["source"] == "clean"}
    assert set(clean) == set(report.overall.metrics)
    assert float(clean["sensitivity[ring]"]["value"]) == pytest.approx(
        report.overall.metrics["sensitivity[ring]"].value, abs=1e-6
    )


def test_the_command_measures_and_judges(made: Multilabel, report: Report, suite: str, tmp_path: Path) -> None:
    gate = "worst.sensitivity[ring] >= 0.999"
    arguments = ["--out", "report", "--conditions", suite, "--require", gate, "--device", "cpu"]
    command = [sys.executable, "-m", "imaging_ft", "report", str(made.model), str(made.dataset), *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert f"gate fail: {gate}" in done.stdout
    assert f"{report.overall.metrics['accuracy'].value:.3f}" in done.stdout
    assert (tmp_path / "report" / "index.html").is_file()
