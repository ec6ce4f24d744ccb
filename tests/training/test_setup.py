"""What a training looks at before its first step: a mistake costs neither time nor an earlier run."""

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from imaging_ft.bundle import digest
from imaging_ft.data import prepare
from imaging_ft.errors import ConfigError, DataError, ImagingFtError, RunError
from imaging_ft.report.result import SCHEMA
from imaging_ft.training.checks import refuse_other_start
from imaging_ft.training.seen import seen_by
from imaging_ft.training.settings import TrainSettings
from imaging_ft.training.setup import open_job
from imaging_ft.training.train import train
from imaging_ft.types import Json, silent
from tests.conftest import LABELS, draw, write_dataset

BASE: Json = {
    "model": "test_resnet",
    "size": 64,
    "precision": "fp32",
    "augmentation": "radiograph",
    "batch_norm": "trained",
    "epochs": 0,
}


def settings(**values: Any) -> TrainSettings:
    chosen = {name: value for name, value in (BASE | values).items() if value is not None}
    return TrainSettings.checked(chosen, where="test")


def folder(root: Path, *, seed: int, splits: dict[str, int]) -> Path:
    rng = np.random.default_rng(seed)
    for label in LABELS:
        for split, count in splits.items():
            for index in range(count):
                path = root / split / label / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), draw(label, rng))
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), per_group=1)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("earlier") / "run"
    train(str(data), out, settings(weights="none"))
    return out


def content(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


def report(path: Path, **dataset: Any) -> str:
    cell: Json = {"source": "synthetic", "conditions": {"low_dose": 3}, "metrics": {"accuracy": {"value": 0.5}}}
    path.write_text(json.dumps({"schema": SCHEMA, "dataset": dataset, "cells": [cell]}))
    return str(path)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"class_weights": {"dics": 2.0}}, ConfigError, "no class named 'dics'"),
        ({"focus": "missing.json"}, ConfigError, "missing.json: can't be read"),
        ({"device": "cuda"}, ImagingFtError, "cuda"),
        ({"precision": "fp16"}, ImagingFtError, "fp16"),
        ({"hold_out": ["low_dosis"]}, ConfigError, "low_dosis"),
        ({"track": "mlflow"}, ConfigError, r"pip install 'imaging-ft\[track\]'"),
    ],
)
def test_a_mistake_leaves_the_run_that_was_to_be_replaced_as_it_was_and_none_behind(
    wrong: Json, error: type[Exception], message: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)  # as where the extra isn't installed
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    old = tmp_path / "old"
    train(str(data), old, settings(weights="none"))
    before = content(old)
    with pytest.raises(error, match=message):
        train(str(data), old, settings(weights="none", **wrong), overwrite=True)
    assert content(old) == before
    with pytest.raises(error, match=message):
        train(str(data), tmp_path / "new", settings(weights="none", **wrong))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("start", ["from_run", "weights"])
def test_a_run_never_replaces_the_one_that_it_starts_from(
    start: str, run: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(run)
    where = run if start == "from_run" else run / "model.safetensors"
    monkeypatch.chdir(run.parent)
    with pytest.raises(ConfigError, match="lies in --out run, which a new run replaces; choose another --out"):
        train(str(data), Path("run"), settings(**{start: str(where), "model": None}), overwrite=True)
    assert content(run) == before


def test_the_earlier_run_may_vanish_while_the_next_one_trains(run: Path, data: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    copied.mkdir()
    for name in ("model.json", "model.safetensors"):
        (copied / name).write_bytes((run / name).read_bytes())

    def gone(line: str) -> None:
        if line.startswith("start: "):
            (copied / "model.safetensors").unlink()
            (copied / "model.json").unlink()

    train(str(data), tmp_path / "run", settings(from_run=str(copied), augmentation="none"), say=gone)
    made = json.loads((tmp_path / "run" / "model.json").read_text())["provenance"]
    assert made["went_on_from"]["run"] == "copied"
    assert {"low_dose", "scatter"} <= set(made["practised"]), "what the earlier run met stays met"


def test_an_earlier_runs_backbone_and_size_hold_where_no_others_are_asked_for(
    run: Path, data: Path, tmp_path: Path
) -> None:
    said: list[str] = []

    def job(**values: Any) -> TrainSettings:
        chosen = settings(from_run=str(run), **values)
        return open_job(str(data), tmp_path / "x", chosen, dry=True, track=silent, say=said.append).job.settings

    found = job(model=None, size=None)
    assert (found.model, found.size) == ("timm/test_resnet", 64)
    assert "as the earlier run: model timm/test_resnet, size 64" in said
    assert job(size=96).size == 96
    assert any("otherwise than before: height 96 (it saw 64), width 96 (it saw 64)" in line for line in said)


def test_another_backbone_than_the_earlier_runs_is_refused_even_if_it_is_the_default(
    run: Path, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ImagingFtError, match="trained with timm/test_resnet"):
        train(str(data), tmp_path / "run", settings(from_run=str(run), model="tf_efficientnet_lite0"))


def test_a_model_that_is_to_be_kept_must_see_images_as_before(run: Path, data: Path, tmp_path: Path) -> None:
    chosen = settings(from_run=str(run), retain=str(data), size=96)
    with pytest.raises(ConfigError, match=r"retain: .*otherwise than before: height 96 \(it saw 64\)"):
        train(str(data), tmp_path / "run", chosen)
    assert not (tmp_path / "run").exists()


def test_retained_images_that_stand_on_the_other_side_are_left_out(run: Path, tmp_path: Path) -> None:
    old = folder(tmp_path / "old", seed=1, splits={"train": 6, "val": 4, "test": 4})
    new = folder(tmp_path / "new", seed=2, splits={"train": 4, "val": 3, "test": 3})
    for label in LABELS:  # earlier training images test here, and earlier validation images train
        (new / "test" / label / "seen.png").write_bytes((old / "train" / label / "0.png").read_bytes())
        (new / "val" / label / "seen.png").write_bytes((old / "train" / label / "1.png").read_bytes())
        (new / "train" / label / "held.png").write_bytes((old / "val" / label / "0.png").read_bytes())
        (new / "train" / label / "both.png").write_bytes((old / "train" / label / "2.png").read_bytes())
    said: list[str] = []
    chosen = settings(from_run=str(run), retain=str(old))
    job = open_job(str(new), tmp_path / "run", chosen, dry=True, track=silent, say=said.append).job
    assert job.retained is not None
    assert job.retained.test is not None
    assert [len(images) for images in (job.retained.train, job.retained.val, job.retained.test)] == [12, 9, 12]
    known = seen_by(job.data, job.retained, None).known()
    assert len(job.retained.hashes) == 21, "what is replayed and what is held"
    assert {digest(found) for found in job.retained.hashes} <= known
    assert any("retain old: 9 images left out that stand on the other side in new" in line for line in said)


def test_retained_data_with_bad_rows_is_used_without_them_where_that_is_asked_for(
    run: Path, data: Path, tmp_path: Path
) -> None:
    old = folder(tmp_path / "old", seed=3, splits={"train": 3, "val": 2})
    (old / "train" / LABELS[0] / "bad.png").write_bytes(b"no image")
    chosen = settings(from_run=str(run), retain=str(old))
    with pytest.raises(DataError, match=r"bad\.png"):
        open_job(str(data), tmp_path / "run", chosen, dry=True, track=silent, say=print)
    job = open_job(str(data), tmp_path / "run", chosen, dry=True, skip_bad=True, track=silent, say=print).job
    assert job.retained is not None
    assert len(job.retained.train) == 9


def test_a_focus_says_what_its_report_was_of(data: Path, tmp_path: Path) -> None:
    said: list[str] = []

    def job(**dataset: Any) -> Json:
        said.clear()
        chosen = settings(weights="none", focus=report(tmp_path / "report.json", **dataset))
        return open_job(str(data), tmp_path / "run", chosen, dry=True, track=silent, say=said.append).job.focus

    fingerprint = prepare(str(data)).fingerprint
    assert job(name="data", fingerprint=fingerprint, split="val")["split"] == "val"
    assert not any("focus" in line for line in said)
    job(name="other", fingerprint="0" * 64, split="val")
    assert any("focus: the report is of other images than these (other)" in line for line in said)
    job(name="data", fingerprint=fingerprint, split="test")
    assert any("data's test images, so this model's figures on them will be too good" in line for line in said)


def test_what_a_model_was_focused_by_stands_in_its_provenance(data: Path, tmp_path: Path) -> None:
    focus = report(tmp_path / "report.json", name="data", fingerprint="f", split="test")
    train(str(data), tmp_path / "run", settings(weights="none", focus=focus))
    made = json.loads((tmp_path / "run" / "model.json").read_text())["provenance"]
    assert made["focus"] == {"name": "data", "fingerprint": "f", "split": "test"}


def test_a_run_is_not_taken_up_with_other_weights(data: Path, run: Path, tmp_path: Path) -> None:
    weights, out = tmp_path / "weights.safetensors", tmp_path / "run"
    state = load_file(run / "model.safetensors")
    backbone = {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")}
    save_file(backbone, weights)
    chosen = settings(weights=str(weights), epochs=1)
    train(str(data), out, chosen)
    (out / "summary.json").unlink()  # as if it had been killed
    save_file({name: value + 1 if value.is_floating_point() else value for name, value in backbone.items()}, weights)
    with pytest.raises(RunError, match="was begun with other weights than there now are"):
        train(str(data), out, chosen, resume=True)


def test_validation_that_can_say_nothing_of_a_multi_label_task_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = ["image,labels,split"]
    for index in range(12):
        name = f"{index}.png"
        cv2.imwrite(str(tmp_path / name), draw(LABELS[index % 3], rng))
        labels = "|".join(LABELS[: index % 4]) if index < 8 else ""
        rows.append(f"{name},{labels},{'train' if index < 8 else 'val'}")
    (tmp_path / "data.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(DataError, match="no class has val images both with and without it"):
        train(str(tmp_path / "data.csv"), tmp_path / "run", settings(weights="none"))
    assert not (tmp_path / "run").exists()


def test_an_image_that_shows_a_positive_class_beside_another_is_never_laid_over_others(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    card = tmp_path / "card.yaml"
    card.write_text(
        "name: bags\ntask: multilabel\nlayout: manifest\nlabels: [bottle, gun]\npositive: [gun]\nroot: .\n"
        "image: {channels: 1, bits: 8}\naugmentation: baggage_xray\n"
    )
    rows = ["image,labels,split"]
    for index in range(16):
        name = f"{index}.png"
        labels = ("bottle|gun", "gun", "bottle", "")[index % 4]
        image = draw(LABELS[0], rng)
        image[0, 0] = 255 if "gun" in labels else 0
        cv2.imwrite(str(tmp_path / name), cv2.resize(image, (64, 64), interpolation=cv2.INTER_NEAREST))
        rows.append(f"{name},{labels},{'train' if index < 12 else 'val'}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    chosen = settings(weights="none", augmentation=None)
    job = open_job(str(card), tmp_path / "run", chosen, dry=True, track=silent, say=print).job
    guns = job.train.levels[job.train.targets[:, 1] > 0]
    assert len(job.clutter) == 6
    assert not any((laid == gun).all() for laid in job.clutter for gun in guns)


def test_a_folder_that_cannot_be_made_is_told_before_the_data_is_read(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="can't be made"):
        train("no_such_data", tmp_path / "file" / "run", settings(weights="none"))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "note.txt").touch()
    with pytest.raises(RunError, match="not empty, and not a run folder"):
        train("no_such_data", tmp_path / "notes", settings(weights="none"), resume=True)
    assert [path.name for path in (tmp_path / "notes").iterdir()] == ["note.txt"]


def test_a_training_that_is_broken_off_before_its_first_step_keeps_its_settings(data: Path, tmp_path: Path) -> None:
    def stop(line: str) -> None:
        if "test_resnet at 64×64" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(str(data), tmp_path / "run", settings(weights="none", label_smoothing=0.1), say=stop)
    said: list[str] = []
    train(str(data), tmp_path / "run", resume=True, say=said.append)
    made = json.loads((tmp_path / "run" / "model.json").read_text())["provenance"]["config"]
    assert (made["model"], made["label_smoothing"], made["epochs"]) == ("test_resnet", 0.1, 0)
    assert any("no checkpoint to go on from; the training begins anew" in line for line in said)


def test_folds_never_replace_the_run_that_they_start_from(run: Path, data: Path, tmp_path: Path) -> None:
    for fold in ("fold_1", "fold_2"):
        for name, found in content(run).items():
            path = tmp_path / fold / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(found)
    before = content(tmp_path)
    with pytest.raises(ConfigError, match="lies in --out"):
        train(str(data), tmp_path, settings(folds=2, from_run=str(tmp_path / "fold_2")), overwrite=True)
    assert content(tmp_path) == before


def test_a_folder_in_a_later_folds_place_is_told_before_the_first_fold(data: Path, tmp_path: Path) -> None:
    (tmp_path / "fold_2").mkdir()
    (tmp_path / "fold_2" / "note.txt").touch()
    with pytest.raises(RunError, match=r"fold_2: not empty, and not a run folder"):
        train(str(data), tmp_path, settings(folds=2, weights="none"))
    assert not (tmp_path / "fold_1").exists()


def test_stored_values_that_would_reach_an_earlier_model_otherwise_are_told(run: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    for label in LABELS:
        for split in ("train", "val"):
            for index in range(2):
                path = tmp_path / "data" / split / label / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), draw(label, rng).astype(np.uint16) * 16)
    card = tmp_path / "card.yaml"
    card.write_text("name: deep\nroot: data\nimage: {channels: 1, bits: 16, window: [0, 4095]}\n")
    said: list[str] = []
    open_job(str(card), tmp_path / "x", settings(from_run=str(run)), dry=True, track=silent, say=said.append)
    assert any("dtype uint16 (it saw uint8), window (0, 4095) (it saw None)" in line for line in said)
    with pytest.raises(ConfigError, match=r"retain: .*window \(0, 4095\)"):
        train(str(card), tmp_path / "run", settings(from_run=str(run), retain=str(card)))


def test_a_run_that_is_taken_up_again_stays_focused_by_its_own_report(data: Path, tmp_path: Path) -> None:
    focus, out = report(tmp_path / "report.json", name="first", fingerprint="f", split="val"), tmp_path / "run"
    chosen = settings(weights="none", focus=focus, epochs=1)
    train(str(data), out, chosen)
    (out / "summary.json").unlink()  # as if it had been killed
    report(tmp_path / "report.json", name="second", fingerprint="f", split="val")
    train(str(data), out, chosen, resume=True)
    made = json.loads((out / "model.json").read_text())["provenance"]
    assert made["focus"]["name"] == "first"


def test_other_retained_images_are_refused_and_a_run_that_does_not_say_is_taken_up(tmp_path: Path) -> None:
    now = {"weights_sha256": "a", "retained_fingerprint": "b"}
    (tmp_path / "dataset.json").write_text(json.dumps({"begun_with": now | {"retained_fingerprint": "c"}}))
    with pytest.raises(RunError, match="was begun with other retained images"):
        refuse_other_start(tmp_path, now)
    (tmp_path / "dataset.json").write_text("{}")  # of a run from before it was recorded
    refuse_other_start(tmp_path, now)
