"""What every choice is made by: validation clean and under each condition family, and odds that follow its errors."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from safetensors.torch import load_file
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss, roc_auc_score

from imaging_ft.augment.recipe import load_recipe
from imaging_ft.data import Images
from imaging_ft.errors import ConfigError
from imaging_ft.training.judge import AS_TRAINED, Judged, make_judge
from imaging_ft.training.metrics import Score, score
from imaging_ft.training.odds import HIGHEST, LOWEST, follow, read_focus
from imaging_ft.training.settings import TrainSettings
from imaging_ft.training.train import train
from imaging_ft.types import Json, Task
from tests.conftest import LABELS, draw, write_dataset

TINY: Json = {"model": "test_resnet", "weights": "none", "size": 32, "precision": "fp32", "batch_size": 16}


def tiny(**values: Any) -> TrainSettings:
    return TrainSettings.checked(TINY | values, where="test")


def pictures(count: int = 30) -> Images:
    rng = np.random.default_rng(1)
    labels = np.arange(count) % 3
    levels = np.stack([draw(LABELS[label], rng, size=(64, 64)) for label in labels])[..., np.newaxis]
    return Images(levels, np.eye(3, dtype=np.float32)[labels])


def scored(**accuracies: float) -> Judged:
    every = {name: Score(value, value, 1 - value) for name, value in accuracies.items()}
    return Judged(every.pop("clean"), every)


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_scores_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(60, 4)), rng.integers(0, 4, 60)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = score(logits, np.eye(4)[labels])
    said = logits.argmax(axis=1)
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, said))
    assert found.macro_f1 == pytest.approx(f1_score(labels, said, average="macro"))
    assert found.auroc == pytest.approx(
        np.mean([roc_auc_score(labels == index, np.log(p[:, index])) for index in range(4)])
    )
    assert found.loss == pytest.approx(log_loss(labels, p))


def test_multi_label_scores_count_every_label() -> None:
    rng = np.random.default_rng(0)
    logits, truth = rng.normal(size=(50, 3)), rng.integers(0, 2, (50, 3)).astype(np.float64)
    found = score(logits, truth, task=Task.MULTILABEL)
    said = logits >= 0
    assert found.accuracy == pytest.approx((said == truth).all(axis=1).mean())
    by_label = [balanced_accuracy_score(truth[:, index], said[:, index]) for index in range(3)]
    assert found.balanced_accuracy == pytest.approx(np.mean(by_label))
    assert found.loss == pytest.approx(
        np.mean([log_loss(truth[:, index], 1 / (1 + np.exp(-logits[:, index]))) for index in range(3)])
    )


def test_a_class_that_does_not_occur_counts_for_nothing_and_no_number_beats_none() -> None:
    found = score(np.eye(3)[[0, 0, 1]], np.eye(3)[[0, 0, 1]])
    assert found.balanced_accuracy == found.macro_f1 == 1
    one_class = score(np.eye(3)[[0, 0]], np.eye(3)[[0, 0]])
    assert math.isnan(one_class.auroc)
    assert found.beats(one_class, "auroc")
    assert not one_class.beats(found, "auroc")


def test_validation_is_changed_the_same_way_every_time_one_family_by_itself() -> None:
    recipe, val = load_recipe("mr"), pictures()
    made = [
        make_judge(val, recipe, val.levels[:0], task=Task.MULTICLASS, batch_size=8, seed=seed) for seed in (0, 0, 1)
    ]
    first, again, other = made
    assert set(first.parts) == {AS_TRAINED, *recipe.families(channels=1)}
    assert np.array_equal(first.images.levels, again.images.levels)
    assert not np.array_equal(first.images.levels, other.images.levels)
    assert np.array_equal(first.images.levels[: first.clean], val.levels)
    assert len(first.images) == first.clean + sum(first.parts.values())


def test_the_worst_condition_is_what_counts_where_it_is_asked_for() -> None:
    even, uneven = scored(clean=0.8, noise=0.7, dark=0.7), scored(clean=1.0, noise=1.0, dark=0.4)
    assert uneven.beats(even, "balanced_accuracy")
    assert even.beats(uneven, "worst_condition")
    assert uneven.worst == ("dark", 0.4)


def test_odds_go_halfway_to_where_the_errors_are_and_stay_within_bounds() -> None:
    judged = scored(clean=1.0, recipe=0.5, noise=0.6, dark=0.9, roll=1.0)
    first = follow(judged, {})
    second = follow(judged, first)
    assert set(first) == {"noise", "dark", "roll"}, "the recipe as a whole is no family"
    assert first["noise"] > 1 > first["dark"] > first["roll"]
    assert second["noise"] > first["noise"]
    odds: dict[str, float] = {}
    for _ in range(50):
        odds = follow(judged, odds)
    assert all(LOWEST <= value <= HIGHEST for value in odds.values())


def report(folder: Path, cells: dict[str, float]) -> Path:
    path = folder / "report.json"
    listed = [
        {
            "source": "synthetic",
            "conditions": {name: severity},
            "metrics": {"balanced_accuracy": {"value": value, "low": 0, "high": 1, "method": "mover"}},
        }
        for name, value in cells.items()
        for severity in (1, 5)
    ]
    path.write_text(json.dumps({"schema": "imaging_ft.report/1", "cells": listed}))
    return path


def test_a_report_sets_where_the_next_round_begins(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", per_group=1)
    found = report(tmp_path, {"rician_noise": 0.2, "bias_field": 0.95, "gibbs": 0.1})
    train(str(data), tmp_path / "run", tiny(augmentation="mr", focus=str(found), epochs=1))
    first = rows(tmp_path / "run")[0]
    assert float(first["odds_rician_noise"]) > 1.5
    assert float(first["odds_bias_field"]) < 0.6
    assert float(first["odds_position_roll"]) == 1, "the report did not speak of it"


@pytest.mark.parametrize(
    ("text", "message"), [("{", "can't be read"), ("[]", "not a report"), ('{"schema": "x"}', "not a report")]
)
def test_what_is_no_report_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_focus(tmp_path / "report.json", ["roll"])


def test_a_report_of_other_conditions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="measured none of the recipe's condition families"):
        read_focus(report(tmp_path, {"fog": 0.5}), ["roll"])


def test_robust_steers_by_the_errors_and_the_others_do_not(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", per_group=1)
    moved: dict[str, bool] = {}
    for preset in ("balanced", "robust"):
        train(str(data), tmp_path / preset, tiny(preset=preset, augmentation="mr", epochs=2))
        last = rows(tmp_path / preset)[-1]
        moved[preset] = any(float(value) != 1 for name, value in last.items() if name.startswith("odds_"))
    assert moved == {"balanced": False, "robust": True}


def test_a_family_that_is_held_out_is_neither_drawn_nor_called_practised(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", per_group=1)
    train(str(data), tmp_path / "run", tiny(augmentation="mr", hold_out=["rician_noise"], epochs=1))
    assert not any("rician_noise" in name for name in rows(tmp_path / "run")[0])
    info = json.loads((tmp_path / "run" / "model.json").read_text())["provenance"]
    assert "rician_noise" not in info["practised"]
    assert "bias_field" in info["practised"]
    assert info["held_out"] == ["rician_noise"]


def test_the_test_split_has_no_say_in_training(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights: list[dict[str, Any]] = []
    for name in ("as it is", "noise"):
        data = write_dataset(tmp_path / name, per_group=1)
        if name == "noise":
            for path in sorted((tmp_path / name / "images").glob("*-0-*.png")):  # group 0 of each class is test
                cv2.imwrite(str(path), rng.integers(0, 255, (72, 80), dtype=np.uint8))
        train(str(data), tmp_path / f"run {name}", tiny(preset="robust", augmentation="mr", epochs=2))
        weights.append(load_file(tmp_path / f"run {name}" / "model.safetensors"))
    assert all(weights[0][key].equal(value) for key, value in weights[1].items())


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "auroc", "loss", "worst_condition"])
def test_any_metric_chooses_the_epoch(metric: str, tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", per_group=1)
    summary = train(str(data), tmp_path / "run", tiny(augmentation="none", metric=metric, epochs=3))
    found = rows(tmp_path / "run")
    column = "worst_balanced_accuracy" if metric == "worst_condition" else f"judged_{metric}"
    values = [float(row[column]) for row in found]
    best = min(values) if metric == "loss" else max(values)
    assert values[summary["best_epoch"]] == best


def test_patience_ends_a_training_that_gets_no_better(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", per_group=1)
    settings = tiny(augmentation="none", epochs=30, patience=2, learning_rate=1e-7, average=False)
    summary = train(str(data), tmp_path / "run", settings)
    assert summary["ended"] == "no better epoch in 2"
    assert summary["epochs"] == summary["best_epoch"] + 2 < 30
