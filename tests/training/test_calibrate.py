"""Probabilities that mean what they say, and thresholds that reach what was asked for."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging_ft.errors import ConfigError
from imaging_ft.training.calibrate import calibrate, fit_temperature, operating_points
from imaging_ft.training.settings import TrainSettings, parse_operating_point
from imaging_ft.training.train import train
from imaging_ft.types import Task
from tests.conftest import write_dataset


def test_vector_scaling_mends_what_one_temperature_cannot() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 500)
    honest = rng.normal(size=(500, 3)) + 2 * np.eye(3)[labels]
    logits = honest * [3.0, 1.0, 0.5] + [2.0, 0.0, -1.0]
    targets = np.eye(3)[labels]
    one = fit_temperature(logits, targets)
    each = calibrate(logits, targets, method="vector", task=Task.MULTICLASS)
    assert each.loss_after < one.loss_after - 0.05
    assert each.vector_scaling is not None
    assert each.temperature == 1
    found = each.probabilities(logits, Task.MULTICLASS)
    assert found.sum(axis=1) == pytest.approx(1)
    assert -np.log(found[targets > 0.5]).mean() == pytest.approx(each.loss_after)


@pytest.mark.parametrize("task", [Task.MULTICLASS, Task.MULTILABEL])
def test_a_temperature_brings_logits_that_are_too_large_back(task: Task) -> None:
    rng = np.random.default_rng(1)
    honest = rng.normal(0, 1.5, (800, 3))
    if task is Task.MULTILABEL:
        targets = (rng.random((800, 3)) < 1 / (1 + np.exp(-honest))).astype(float)
    else:
        p = np.exp(honest) / np.exp(honest).sum(axis=1, keepdims=True)
        targets = np.eye(3)[[rng.choice(3, p=row) for row in p]]
    assert fit_temperature(3 * honest, targets, task=task).temperature == pytest.approx(3, rel=0.2)


def test_not_calibrating_is_said() -> None:
    found = calibrate(np.array([[3.0, 0], [3, 0]]), np.eye(2), method="none", task=Task.MULTICLASS)
    assert found.temperature == 1
    assert found.note == "as set: not calibrated"


@given(
    st.integers(0, 10_000),
    st.integers(3, 60),
    st.sampled_from(["sensitivity", "specificity"]),
    st.floats(0.05, 0.99),
)
def test_an_operating_point_is_reached_by_the_threshold_that_costs_least(
    seed: int, count: int, kind: str, wanted: float
) -> None:
    rng = np.random.default_rng(seed)
    found = rng.integers(0, 13, (count, 2)) / 12  # with ties, and with 0 and 1
    targets = np.eye(2)[rng.integers(0, 2, count)]
    thresholds, said = operating_points(found, targets, ["a", "b"], f"{kind}={wanted}")
    for index, label in enumerate(("a", "b")):
        present = targets[:, index] > 0.5
        inside, outside = found[present, index], found[~present, index]
        of_interest = inside if kind == "sensitivity" else outside
        if not len(of_interest):
            assert thresholds[label] == 0.5
            continue

        # Every way to cut between two probabilities, from the one that says "present" to all.
        cuts = [0.0, *np.unique(found[:, index]), 2.0]
        if kind == "sensitivity":
            best = max(cut for cut in cuts if (inside >= cut).mean() >= wanted - 1e-9)
        else:
            best = min(cut for cut in cuts if (outside < cut).mean() >= wanted - 1e-9)
        threshold = thresholds[label]
        reachable = best <= 1  # no threshold keeps a probability of 1 out
        if reachable:
            assert np.array_equal(found[:, index] >= threshold, found[:, index] >= best)
        assert 0 <= threshold <= 1
        assert said["classes"][label]["sensitivity"] == (
            pytest.approx((inside >= threshold).mean()) if len(inside) else None
        )
        if reachable and 0 < threshold < 1:  # float32 decides as float64 does
            alike = found[:, index].astype(np.float32) >= np.float32(threshold)
            assert np.array_equal(alike, found[:, index] >= threshold)


@pytest.mark.parametrize("text", ["sensitivity", "sensitivity=2", "recall=0.9", "sensitivity=x", "specificity=0"])
def test_what_is_no_operating_point_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="an operating point such as"):
        parse_operating_point(text)
    with pytest.raises(ConfigError, match="operating_point"):
        TrainSettings.checked({"operating_point": text}, where="settings")


def test_thresholds_and_vector_scaling_land_in_the_model(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", per_group=2)
    settings = TrainSettings(
        model="test_resnet",
        weights="none",
        size=32,
        precision="fp32",
        augmentation="none",
        epochs=0,  # random weights: validation holds errors for sure
        calibration="vector",
        operating_point="sensitivity=0.9",
    )
    summary = train(str(data), tmp_path / "run", settings)
    info = json.loads((tmp_path / "run" / "model.json").read_text())
    assert summary["calibration"]["method"] == "vector"
    assert len(info["vector_scaling"]["scale"]) == 3
    for label, found in summary["operating_points"]["classes"].items():
        assert info["thresholds"][label] == pytest.approx(found["threshold"], rel=1e-5)
        assert found["sensitivity"] >= 0.9
