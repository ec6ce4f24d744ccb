"""Fine-tuning: the run folder, what is kept, and the kinds of images and backbones that it takes."""

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
import pytest
from safetensors.torch import load_file

from imaging_ft.config import read_yaml
from imaging_ft.errors import ConfigError, DeviceError, RunError, WeightsError
from imaging_ft.export.onnx import export_run
from imaging_ft.export.validation import validation_images
from imaging_ft.models.factory import create
from imaging_ft.training.run import RunFolder, save_weights
from imaging_ft.training.settings import TrainSettings
from imaging_ft.training.train import train
from imaging_ft.types import silent
from tests.conftest import LABELS, Trained, draw, write_dataset

PLAN = {"config.yaml", "dataset.json", "history.csv", "history.png", "model.safetensors", "model.json", "summary.json"}


def small(**values: Any) -> TrainSettings:
    base = {"epochs": 1, "size": 32, "precision": "fp32", "batch_norm": "trained", "augmentation": "none"}
    return TrainSettings.checked(base | values, where="test")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("tiny"), per_group=1)


def history(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_folder_holds_the_plans_files_and_no_pickle(trained: Trained) -> None:
    found = {path.relative_to(trained.run).as_posix() for path in trained.run.rglob("*") if path.is_file()}
    names = ("start", "last", "best")
    checkpoints = {f"checkpoints/{name}.{kind}" for name in names for kind in ("json", "safetensors")}
    assert found == PLAN | checkpoints | {"checkpoints/previous.safetensors"}
    for name in found:
        data = (trained.run / name).read_bytes()
        assert not data.startswith((b"\x80", b"PK")), f"{name} looks like a pickle"
        if name.endswith(".safetensors"):
            assert len(load_file(trained.run / name)) > 200
        elif name.endswith(".json"):
            json.loads(data)


def test_the_files_of_a_run_can_be_read_by_whoever_may_read_the_folder(trained: Trained) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in trained.run.rglob("*") if path.is_file()}
    assert len(set(modes.values())) == 1, modes


def test_config_yaml_gives_the_same_settings_again(trained: Trained) -> None:
    settings = TrainSettings.from_yaml(trained.run / "config.yaml")
    assert settings.model_dump(mode="json") == read_yaml(trained.run / "config.yaml")
    assert (settings.epochs, settings.size, settings.augmentation) == (2, 64, "radiograph")


def test_history_has_the_probe_and_a_row_for_each_epoch(trained: Trained) -> None:
    rows = history(trained.run)
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert [row["phase"] for row in rows] == ["probe", "fine-tune", "fine-tune"]
    assert rows[0]["train_loss"] == ""
    assert all(float(row["train_loss"]) > 0 and float(row["learning_rate"]) >= 0 for row in rows[1:])


def test_the_best_epoch_has_the_largest_balanced_accuracy_of_the_history(trained: Trained) -> None:
    rows = history(trained.run)
    summary = json.loads((trained.run / "summary.json").read_text())
    best = rows[summary["best_epoch"]]
    assert float(best["judged_balanced_accuracy"]) == max(float(row["judged_balanced_accuracy"]) for row in rows)
    ties = [row for row in rows if row["judged_balanced_accuracy"] == best["judged_balanced_accuracy"]]
    assert float(best["judged_loss"]) == min(float(row["judged_loss"]) for row in ties)
    assert summary["validation"]["balanced_accuracy"] == pytest.approx(float(best["val_balanced_accuracy"]))
    assert summary["interrupted"] is False


def test_the_model_is_the_best_checkpoint(trained: Trained) -> None:
    best, model = (load_file(trained.run / name) for name in ("checkpoints/best.safetensors", "model.safetensors"))
    assert all((best[name] == value).all() for name, value in model.items())
    assert json.loads((trained.run / "checkpoints/last.json").read_text())["epoch"] == 2


def test_a_run_says_what_it_cost_and_what_it_was_trained_on(trained: Trained) -> None:
    summary = json.loads((trained.run / "summary.json").read_text())
    dataset = json.loads((trained.run / "dataset.json").read_text())
    assert summary["cost"]["seconds"] > 0
    assert summary["cost"]["images_trained"] == 2 * dataset["splits"]["train"]["n"]
    assert dataset["labels"] == list(LABELS)
    assert Path(dataset["argument"]) == trained.dataset


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tiny: Path, tmp_path: Path) -> None:
    weights: list[dict[str, Any]] = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(
            str(tiny), tmp_path / name, small(seed=seed, augmentation="radiograph", model="test_resnet", weights="none")
        )
        weights.append(load_file(tmp_path / name / "checkpoints" / "last.safetensors"))
    first, again, other = weights
    assert all((first[name] == again[name]).all() for name in first)
    assert any((first[name] != other[name]).any() for name in first)


@pytest.mark.parametrize(
    ("kind", "channels", "dtype"), [("rgb", 3, "uint8"), ("sixteen", 1, "uint16"), ("twelve", 1, "uint16")]
)
def test_images_of_any_depth_and_channels_train_and_export(
    kind: str, channels: int, dtype: str, tmp_path: Path
) -> None:
    """16-bit PNG, and the 12 bits in 16 of a DICOM detector behind a card's window."""
    rng = np.random.default_rng(2)
    for label in LABELS[:2]:
        for split, count in (("train", 4), ("val", 2)):
            for index in range(count):
                image: Any = draw(label, rng)
                if kind == "rgb":
                    image = cv2.merge([image, image // 2, 255 - image])
                else:
                    image = image.astype(np.uint16) * (16 if kind == "twelve" else 257)
                path = tmp_path / "data" / split / label / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), image)
    window = "[0, 4095]" if kind == "twelve" else "null"
    card = tmp_path / "card.yaml"
    card.write_text(f"name: data\nroot: data\nimage: {{channels: {channels}, bits: 16, window: {window}}}\n")
    dataset = str(card) if kind == "twelve" else str(tmp_path / "data")
    train(dataset, tmp_path / "run", small(weights="none", model="test_resnet", epochs=0))
    _, info = RunFolder.open(tmp_path / "run").read_model()
    assert (info.input.channels, info.input.dtype) == (channels, dtype)
    assert info.input.window == ((0, 4095) if kind == "twelve" else None)
    if kind == "twelve":
        assert export_run(tmp_path / "run", tmp_path / "m.onnx").bundle.input == info.input


@pytest.mark.parametrize(("recipe", "suite"), [(None, "radiograph"), ("face", "face"), ("none", "radiograph")])
def test_a_model_knows_the_suite_of_its_recipe_and_a_guessed_recipe_is_said(
    recipe: str | None, suite: str, tiny: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    settings = small(weights="none", model="test_resnet", epochs=0, augmentation=recipe)
    train(str(tiny), tmp_path / "run", settings, say=said.append)
    run = RunFolder.open(tmp_path / "run")
    _, info = run.read_model()
    assert info.provenance["conditions"] == suite
    assert validation_images(run, info, data=None, track=silent).suite == suite
    assert any("augmented as radiograph (--augmentation NAME" in line for line in said) == (recipe is None)


@pytest.mark.parametrize(
    ("model", "norm"), [("timm/resnet18", "auto"), ("convnext_atto", "auto"), ("monai/densenet121", "trained")]
)
def test_other_backbones_train_and_export(model: str, norm: str, tiny: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"  # local, as what starts from random weights has no statistics to freeze
    save_weights(weights, create(model, classes=2, weights="none").backbone.state_dict())
    settings = small(model=model, weights=str(weights), batch_size=9, batch_norm=norm, adapt=False)
    summary = train(str(tiny), tmp_path / "run", settings)
    if model == "convnext_atto":
        assert summary["batch_norm"]["why"] == "the backbone has no batch normalisation"
        return
    assert set(summary["batch_norm"]["trials"]) == ({"frozen", "trained"} if norm == "auto" else set())
    export_run(tmp_path / "run", tmp_path / "m.onnx")
    session: Any = ort.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    found = session.run(["probabilities"], {"image": np.zeros((2, 50, 70, 1), np.uint8)})[0]
    assert found.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_local_weights_leave_no_folder_of_this_machine_in_the_model(
    tiny: Path, tmp_path: Path, trained: Trained
) -> None:
    state = load_file(trained.run / "model.safetensors")
    backbone = {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")}
    save_weights(tmp_path / "mine.safetensors", backbone)
    train(str(tiny), tmp_path / "run", small(weights=str(tmp_path / "mine.safetensors"), epochs=0))
    info = json.loads((tmp_path / "run" / "model.json").read_text())
    assert info["provenance"]["config"]["weights"] == "mine.safetensors"
    assert str(tmp_path) not in (tmp_path / "run" / "model.json").read_text()


def test_a_loss_that_is_no_number_ends_in_one_line(tiny: Path, tmp_path: Path) -> None:
    settings = small(learning_rate=1e30, weights="none", model="test_resnet", epochs=3, warmup=0, batch_size=4)
    with pytest.raises(RunError, match=r"the training loss is no longer a number; lower --set learning_rate"):
        train(str(tiny), tmp_path / "run", settings)
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"model": "resnet99", "weights": "none"}, WeightsError, "no model named 'resnet99'"),
        ({"augmentation": "xray"}, ConfigError, "no augmentation recipe named 'xray'"),
        ({"device": "cuda"}, DeviceError, "torch sees no CUDA device here"),
    ],
)
def test_a_wrong_setting_ends_before_anything_is_trained(
    values: dict[str, Any], error: type[Exception], message: str, tiny: Path, tmp_path: Path
) -> None:
    import torch

    if values.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(error, match=message):
        train(str(tiny), tmp_path / "run", small(**values))
    assert not (tmp_path / "run" / "history.csv").exists()


def test_a_run_is_never_replaced_unasked(trained: Trained, tiny: Path) -> None:
    with pytest.raises(RunError, match=r"already holds a run; choose another --out, or replace it with --overwrite"):
        train(str(tiny), trained.run, small())


@pytest.mark.parametrize("name", ["notes.txt", "config.yaml"])
def test_a_users_folder_is_never_taken_for_a_run(name: str, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("mine")
    with pytest.raises(RunError, match="not empty, and not a run folder"):
        train(str(tiny), tmp_path / "mine", small(), overwrite=True)
    assert (tmp_path / "mine" / name).read_text() == "mine"


def test_a_replaced_run_keeps_what_else_lies_in_its_folder(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", overwrite=False)
    for name in PLAN:
        (run.path / name).write_text("old")
    (run.checkpoints / "best.json").write_text("old")
    (run.path / "notes.txt").write_text("mine")
    RunFolder.create(run.path, overwrite=True)
    assert {path.name for path in run.path.rglob("*")} == {"notes.txt", "checkpoints"}


def test_a_file_in_the_runs_place_is_refused(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(RunError, match="a file stands where the run folder should be"):
        train(str(tiny), tmp_path / "run", small(), overwrite=True)
