"""What training practises: what a report found weak is drawn more often, and what is held out is met nowhere."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imaging_ft.errors import ConfigError
from imaging_ft.export.onnx import export_run
from imaging_ft.inference import Device
from imaging_ft.inference.runner import Runner
from imaging_ft.report.measure import measure
from imaging_ft.training.settings import TrainSettings
from imaging_ft.training.setup import open_job
from imaging_ft.training.train import train
from imaging_ft.types import Json, silent
from tests.conftest import write_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_dataset(tmp_path_factory.mktemp("data"), groups=16, per_group=2))


def settings(**values: Any) -> TrainSettings:
    base: Json = {"model": "test_resnet", "weights": "none", "size": 32, "precision": "fp32", "epochs": 1}
    return TrainSettings.checked(base | values, where="test")


def report(folder: Path, **accuracies: float) -> str:
    cells = [
        {"source": "synthetic", "conditions": {name: 3}, "metrics": {"balanced_accuracy": {"value": value}}}
        for name, value in accuracies.items()
    ]
    path = folder / "report.json"
    path.write_text(json.dumps({"schema": "imaging_ft.report/1", "cells": cells}))
    return str(path)


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    """Write a recipe whose two families are told apart at a glance: dark borders, or all the brighter."""
    families = ("collimation", "over_exposure")
    members = [{"Condition": {"name": name, "severity": [5, 5]}} for name in families]
    path = tmp_path / "two.yaml"
    path.write_text(json.dumps({"name": "two", "transforms": [{"OneOf": {"p": 1.0, "transforms": members}}]}))
    return str(path)


def share_with_dark_borders(dataset: str, out: Path, chosen: TrainSettings) -> float:
    """Return the share of an epoch's samples whose outermost pixels are a collimator's."""
    job = open_job(dataset, out, chosen, dry=True, track=silent, say=lambda _: None).job
    levels = np.concatenate([batch.numpy() for batch, _ in job.batches().epoch(1)])
    return float((levels[:, 0, 0].mean(axis=1) < 25).mean())


def test_what_a_report_found_weak_is_drawn_more_often(dataset: str, recipe: str, tmp_path: Path) -> None:
    shares: dict[str, float] = {}
    for name, focus in {
        "even": None,
        "weak": report(tmp_path, collimation=0.2, over_exposure=0.9),
    }.items():
        chosen = settings(augmentation=recipe, focus=focus)
        shares[name] = share_with_dark_borders(dataset, tmp_path / "run", chosen)
    assert 0.3 < shares["even"] < 0.7
    assert shares["weak"] > 0.75


def test_steering_changes_what_the_epoch_after_sees(dataset: str, tmp_path: Path) -> None:
    rows: dict[bool, list[dict[str, str]]] = {}
    for steer in (False, True):
        out = tmp_path / str(steer)
        train(dataset, out, settings(augmentation="mr", steer=steer, epochs=5, learning_rate=3e-3))
        with (out / "history.csv").open(newline="") as file:
            rows[steer] = list(csv.DictReader(file))
    steered = [any(float(row[name]) != 1 for name in row if name.startswith("odds_")) for row in rows[True]]
    first = steered.index(True) + 1
    losses = {steer: [row["train_loss"] for row in found] for steer, found in rows.items()}
    assert losses[True][:first] == losses[False][:first]
    assert losses[True][first] != losses[False][first]


def test_a_report_of_other_conditions_ends_the_command_before_training(
    dataset: str, recipe: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"measured none of .* \(collimation, over_exposure\)"):
        train(dataset, tmp_path / "run", settings(augmentation=recipe, focus=report(tmp_path, fog=0.5)))


def test_a_report_says_that_what_was_held_out_was_not_practised(dataset: str, tmp_path: Path) -> None:
    train(dataset, tmp_path / "run", settings(augmentation="mr", hold_out=["rician_noise"]))
    bundle = export_run(tmp_path / "run", tmp_path / "model.onnx").bundle
    assert "rician_noise" not in bundle.provenance["practised"]
    found = measure(Runner.open(tmp_path / "model.onnx", device=Device.CPU), dataset, suite="mr").report
    practised = {name: cell.practised for cell in found.cells for name in cell.conditions if len(cell.conditions) == 1}
    assert (practised["rician_noise"], practised["bias_field"]) == (False, True)


@pytest.mark.parametrize("way", ["from_run", "weights"])
def test_what_an_earlier_run_practised_stays_practised(way: str, dataset: str, tmp_path: Path) -> None:
    train(dataset, tmp_path / "earlier", settings(augmentation="mr", epochs=0))
    said: list[str] = []
    chosen = settings(weights="pretrained", augmentation="mr", hold_out=["rician_noise"], epochs=0)
    chosen = TrainSettings.checked(chosen.model_dump() | {way: str(tmp_path / "earlier")}, where="test")
    train(dataset, tmp_path / "run", chosen, say=said.append)
    info = json.loads((tmp_path / "run" / "model.json").read_text())
    assert "rician_noise" in info["provenance"]["practised"]
    assert any(line.startswith("warning: rician_noise: held out, but the earlier run has practised") for line in said)
