"""What a report says of rejection: how much the model's bounds turn away, and how often it is right on the others."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from imaging_ft.augment.conditions import CONDITIONS, Setting
from imaging_ft.data import load
from imaging_ft.image import read_image
from imaging_ft.inference import Device
from imaging_ft.inference.predictions import predict_files
from imaging_ft.inference.rejection import Kind
from imaging_ft.inference.runner import Runner
from imaging_ft.preprocess import conform
from imaging_ft.report.gates import exit_code
from imaging_ft.report.measure import measure, reassemble
from imaging_ft.report.metrics import evidence
from imaging_ft.report.page import render_page
from imaging_ft.report.result import Evidence
from imaging_ft.report.scored import Scored
from imaging_ft.report.summary import to_markdown
from imaging_ft.types import Split, Task

if TYPE_CHECKING:
    from conftest import Exported

SUITE = "name: dark\nconditions: [low_light]\nseverities: [1, 5]\n"


@pytest.fixture(scope="module")
def runner(exported: "Exported") -> Runner:
    found = Runner.open(exported.model, device=Device.CPU)
    assert found.bundle.quality is not None
    return found


@pytest.fixture(scope="module")
def measured(runner: Runner, exported: "Exported", tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rejection")
    (folder / "dark.yaml").write_text(SUITE)
    measure(runner, str(exported.dataset), suite=str(folder / "dark.yaml"), out=folder, show=False)
    return folder / "predictions.parquet"


def evidence_of(right: list[bool], rejected: list[bool] | None, *, a_group: int = 1) -> Evidence:
    n = len(right)
    truth = np.eye(2, dtype=np.bool_)[np.arange(n) % 2]
    said = np.where(np.array(right)[:, None], truth, ~truth)
    turned = None if rejected is None else np.array(rejected)
    rows = Scored(truth, said.astype(np.float32), said, np.arange(n) // a_group, turned)
    return evidence(rows, ["a", "b"], task=Task.MULTICLASS)


def test_the_share_rejected_and_the_accuracy_of_the_others_are_those_done_by_hand() -> None:
    right = [True] * 60 + [False] * 40
    rejected = [True] * 5 + [False] * 55 + [True] * 25 + [False] * 15
    for a_group in (1, 5):
        found = evidence_of(right, rejected, a_group=a_group).metrics
        assert found["rejected"].value == pytest.approx(0.3)
        assert found["accuracy_answered"].value == pytest.approx(55 / 70)
        assert found["accuracy"].value == pytest.approx(0.6)
        for name in ("rejected", "accuracy_answered"):
            assert found[name].method == ("wilson" if a_group == 1 else "wilson_by_group")
            assert found[name].low < found[name].value < found[name].high


def test_of_a_model_without_bounds_nothing_is_said_and_of_few_answers_no_accuracy() -> None:
    assert not {"rejected", "accuracy_answered"} & set(evidence_of([True] * 50, None).metrics)
    found = evidence_of([True] * 50, [True] * 41 + [False] * 9).metrics
    assert found["rejected"].value == pytest.approx(0.82)
    assert "accuracy_answered" not in found


def test_each_row_is_rejected_as_predict_would(measured: Path, runner: Runner, exported: "Exported") -> None:
    table = pl.read_parquet(measured)
    clean = {row["image"]: row for row in table.filter(pl.col("setting") == "clean").to_dicts()}
    samples = load(str(exported.dataset)).of(Split.TEST)
    said = predict_files(runner, [sample.path for sample in samples])
    for sample, one in zip(samples, said, strict=True):
        row = clean[sample.id]
        assert (row["status"], row["label"]) == (one.status, one.label)
        assert row["reason"] == (one.reason.partition(" (")[0] if one.reason else None)
    setting = Setting(((CONDITIONS["low_light"], 5),))
    spec = runner.bundle.input
    dark = {row["image"]: row for row in table.filter(pl.col("setting") == "low_light@5").to_dicts()}
    changed = [
        setting.apply(conform(read_image(sample.path), spec), sample_id=sample.id, seed=0, window=spec.window)
        for sample in samples
    ]
    _, why = runner.judge(changed)
    assert [row["reason"] for row in dark.values()] == [one and one.kind.value for one in why]
    assert Kind.DARK in {one.kind for one in why if one}, "the darkest images are expected to be too dark"


def test_the_report_counts_what_the_table_says_and_can_be_held_to_it(measured: Path) -> None:
    table = pl.read_parquet(measured)
    report = reassemble(measured, require=["condition[low_light@5].rejected >= 0.01", "overall.rejected <= 0.9"])
    assert [gate.outcome != "fail" for gate in report.gates] == [True, True]
    assert exit_code(report.gates) in {0, 3}
    for cell in report.cells:
        if cell.source == "synthetic":
            ((name, severity),) = cell.conditions.items()
            rows = table.filter(pl.col("setting") == f"{name}@{severity}")
            share = (rows["status"] == "rejected").mean()
            assert cell.metrics["rejected"].value == pytest.approx(share)
    page = render_page(report)
    assert '<h2 id="rejection">' in page
    assert "Rejected images" in page
    assert "| Rejected images |" in to_markdown(report)


def test_a_table_of_another_program_may_say_what_was_rejected(measured: Path, tmp_path: Path) -> None:
    foreign = pl.read_parquet(measured).drop("model_sha256")
    path = tmp_path / "foreign.parquet"
    foreign.write_parquet(path)
    assert "rejected" in reassemble(path).overall.metrics
    foreign.drop("status").write_parquet(path)
    report = reassemble(path)
    assert "rejected" not in report.overall.metrics
    assert '<h2 id="rejection">' not in render_page(report)
