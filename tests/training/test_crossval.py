"""Cross-validation: every image validated once, groups whole, each fold a run like any other."""

import json
from collections import Counter
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest

from imaging_ft.errors import ConfigError, RunError
from imaging_ft.export.onnx import export_run
from imaging_ft.training.settings import TrainSettings
from imaging_ft.training.setup import prepare_fold
from imaging_ft.training.train import train
from imaging_ft.types import Split, silent
from tests.conftest import LABELS, write_dataset
from tests.training.processes import imaging_ft, posix, signalled_after

COUNT = 3
VALUES = {
    "model": "test_efficientnet",
    "weights": "none",
    "size": 32,
    "epochs": 1,
    "batch_size": 16,
    "augmentation": "none",
    "deterministic": True,
    "adapt": False,
    "batch_norm": "trained",
    "folds": COUNT,
}
SETTINGS = TrainSettings.checked(VALUES, where="test")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_dataset(tmp_path_factory.mktemp("data"), per_group=2))


@pytest.fixture(scope="module")
def validated(dataset: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished cross-validation."""
    out = tmp_path_factory.mktemp("folds") / "run"
    train(dataset, out, SETTINGS)
    return out


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_image_of_train_and_val_is_validated_on_once_and_groups_stay_together(
    dataset: str, validated: Path
) -> None:
    seen: Counter[str] = Counter()
    for fold in range(1, COUNT + 1):
        run = validated / f"fold_{fold}"
        data = prepare_fold(dataset, TrainSettings.from_yaml(run / "config.yaml"), skip_bad=False, track=silent)
        seen.update(sample.id for sample in data.of(Split.VAL))
        groups = {split: {sample.group for sample in data.of(split)} for split in Split}
        assert not groups[Split.VAL] & groups[Split.TRAIN]
        assert not groups[Split.TEST] & (groups[Split.TRAIN] | groups[Split.VAL])
        assert read(run / "summary.json")["validation"]["n"] == len(data.of(Split.VAL))
        recorded = read(run / "dataset.json")
        assert recorded["splits"]["val"]["n"] == len(data.of(Split.VAL))
        assert (recorded["fold"], recorded["folds"]) == (fold, COUNT)
    assert set(seen.values()) == {1}
    assert len(seen) == len(LABELS) * 7 * 2, "all but the test split"


def test_folds_json_says_what_the_folds_say_together(validated: Path) -> None:
    found = read(validated / "folds.json")
    runs = [read(validated / f"fold_{fold}" / "summary.json") for fold in range(1, COUNT + 1)]
    assert (found["folds"], found["n"]) == (COUNT, len(LABELS) * 7 * 2)
    for name in ("balanced_accuracy", "accuracy", "macro_f1", "auroc"):
        values = [run["validation"][name] for run in runs]
        assert found["validation"][name]["folds"] == values
        assert found["validation"][name]["mean"] == pytest.approx(mean(values), abs=1e-5)
        assert found["validation"][name]["sd"] == pytest.approx(stdev(values), abs=1e-5)


def test_a_fold_exports_as_a_run_of_its_own(validated: Path, tmp_path: Path) -> None:
    bundle = export_run(validated / "fold_2", tmp_path / "model.onnx").bundle
    assert bundle.parity.images == read(validated / "fold_2" / "summary.json")["validation"]["n"]
    assert bundle.parity.top1_agreement == 1
    assert tuple(label.name for label in bundle.labels) == LABELS


def test_resume_leaves_finished_folds_as_they_are(dataset: str, validated: Path) -> None:
    before = files(validated)
    said: list[str] = []
    found = train(dataset, validated, SETTINGS, resume=True, say=said.append)
    assert said == [f"fold {fold} of {COUNT}: {validated}/fold_{fold}" for fold in range(1, COUNT + 1)]
    assert found == read(validated / "folds.json")
    assert files(validated) == before


@posix
def test_a_cross_validation_that_was_killed_goes_on_in_its_fold(dataset: str, validated: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = [f"--set={name}={json.dumps(value)}" for name, value in VALUES.items() if name != "folds"]
    train(dataset, out / "fold_1", SETTINGS.model_copy(update={"fold": 1}))
    first = files(out / "fold_1")
    command = ["train", dataset, "--out", str(out), "--folds", str(COUNT), "--resume", *words]
    assert imaging_ft(*command, hooks=(signalled_after("last", epoch=0),)).killed
    assert not (out / "fold_2" / "summary.json").exists()
    ended = imaging_ft(*command)
    assert ended.code == 0, ended.err
    assert "going on after epoch 0 of 1" in ended.err
    assert "over 3 folds" in ended.out
    assert files(out / "fold_1") == first
    mine, whole = read(out / "folds.json"), read(validated / "folds.json")
    assert mine["validation"] == whole["validation"]


def test_other_settings_are_refused_before_any_fold_goes_on(dataset: str, validated: Path) -> None:
    before = files(validated)
    other = TrainSettings.checked(VALUES | {"learning_rate": 0.1}, where="test")
    with pytest.raises(ConfigError, match=r"fold_1/config.yaml: the run was begun with learning_rate=0.001"):
        train(dataset, validated, other, resume=True)
    with pytest.raises(ConfigError, match="the run was begun with folds=3"):
        train(dataset, validated, TrainSettings.checked(VALUES | {"folds": 2}, where="test"), resume=True)
    assert files(validated) == before


def test_folds_are_not_laid_into_a_run(dataset: str, validated: Path) -> None:
    with pytest.raises(RunError, match="already holds a run; choose another --out for the folds"):
        train(dataset, validated / "fold_1", SETTINGS)
    with pytest.raises(RunError, match="already holds a run; choose another --out, or replace it with --overwrite"):
        train(dataset, validated, SETTINGS)
