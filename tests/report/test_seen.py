"""Images that a model has seen in training are no evidence: a report leaves them out, whatever their data set is."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest

from imaging_ft.bundle import Bundle, Seen
from imaging_ft.inference import Device
from imaging_ft.inference.runner import Runner
from imaging_ft.report.measure import measure
from imaging_ft.report.subject import find_subject
from imaging_ft.types import Split
from tests.conftest import Exported, draw

LEFT_OUT = "{} of {} images are among those that the model was trained or validated on: they are left out"


@pytest.fixture(scope="module")
def runner(exported: Exported) -> Runner:
    return Runner.open(exported.model, device=Device.CPU)


@pytest.fixture
def table(exported: Exported) -> pl.DataFrame:
    """The rows that the model was trained, validated and tested on, with absolute paths."""
    folder = exported.dataset.parent.resolve().as_posix()
    rows = pl.read_csv(exported.dataset, infer_schema=False)
    return rows.with_columns(image=pl.lit(folder + "/") + pl.col("image"))


def written(table: pl.DataFrame, path: Path) -> str:
    table.write_csv(path)
    return str(path)


def new_image(path: Path, **columns: str) -> pl.DataFrame:
    """Return the row of an image that the model has not seen."""
    cv2.imwrite(str(path), draw("ring", np.random.default_rng(99)))
    return pl.DataFrame({"image": str(path), "label": "ring", **columns})


@pytest.mark.parametrize("change", ["deleted", "relabelled", "added"])
def test_one_changed_image_does_not_let_training_images_into_the_measurement(
    change: str, table: pl.DataFrame, runner: Runner, tmp_path: Path
) -> None:
    own = table.filter(pl.col("split") == "test")
    rows = table.drop("split")
    if change == "deleted":
        rows = rows.filter(pl.col("image") != table.filter(pl.col("split") == "train")["image"][0])
    elif change == "relabelled":
        first = pl.col("image") == table.filter(pl.col("split") == "train")["image"][0]
        rows = rows.with_columns(label=pl.when(first).then(pl.lit("ring")).otherwise("label"))
    else:
        rows = pl.concat([rows, new_image(tmp_path / "new.png", group="ring-new")], how="diagonal")
    subject = find_subject(written(rows, tmp_path / "grown.csv"), runner.bundle)
    new = [str(tmp_path / "new.png")] if change == "added" else []
    assert subject.name == "all"
    assert sorted(str(sample.path) for sample in subject.samples) == sorted([*own["image"], *new])
    assert subject.notes == (LEFT_OUT.format(len(rows) - len(own) - len(new), len(rows)),)


def test_a_report_says_first_how_many_images_were_left_out(table: pl.DataFrame, runner: Runner, tmp_path: Path) -> None:
    rows = table.filter(pl.col("split").is_in(["test", "val"])).with_columns(split=pl.lit("test"))
    suite = tmp_path / "small.yaml"
    suite.write_text("name: small\nconditions: [roll]\nseverities: [5]\n")
    found = measure(runner, written(rows, tmp_path / "declared.csv"), suite=str(suite), show=False).report
    assert found.warnings[0] == LEFT_OUT.format(18, 36)
    assert (found.dataset.split, found.dataset.n, found.overall.n) == ("test", 18, 18)


def test_images_that_the_other_model_has_seen_are_left_out_as_well(runner: Runner, exported: Exported) -> None:
    alone = find_subject(str(exported.dataset), runner.bundle)
    groups = sorted({str(sample.group) for sample in alone.samples})[:2]
    met = [sample.id for sample in alone.samples if sample.group in groups]
    other = runner.bundle.model_copy(update={"seen": Seen.of(alone.data.hashes[name] for name in met)})
    subject = find_subject(str(exported.dataset), runner.bundle, against=other)
    assert [sample.id for sample in subject.samples] == [one.id for one in alone.samples if one.id not in met]
    told = LEFT_OUT.replace("the model was", "the model that it is held against was").format(6, 18)
    assert (len(alone.samples), subject.notes) == (18, (told,))


def test_new_images_of_a_patient_that_was_trained_on_are_told(
    table: pl.DataFrame, runner: Runner, tmp_path: Path
) -> None:
    rows = pl.concat([table.drop("split"), new_image(tmp_path / "new.png", group="ring-5")], how="diagonal")
    notes = find_subject(written(rows, tmp_path / "grown.csv"), runner.bundle).notes
    assert len(notes) == 2
    assert notes[1].startswith("1 of the 19 measured images are of groups (patients, series, cameras)")


def test_images_that_were_all_seen_are_one_clear_line_and_exit_code_2(
    table: pl.DataFrame, exported: Exported, tmp_path: Path
) -> None:
    dataset = written(table.filter(pl.col("split") == "train").drop("split"), tmp_path / "known.csv")
    command = ["report", str(exported.model), dataset, "--out", "report"]
    done = subprocess.run(
        [sys.executable, "-m", "imaging_ft", *command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    said = " ".join(done.stderr.split())
    assert "known: 108 of 108 images are among those that the model was trained or validated on: none is left" in said
    assert "Traceback" not in done.stderr


def test_a_split_that_was_trained_on_is_measured_where_it_is_asked_for(runner: Runner, exported: Exported) -> None:
    subject = find_subject(str(exported.dataset), runner.bundle, Split.VAL)
    assert len(subject.samples) == 18
    assert subject.notes[0].endswith("validated on: what is measured on val is too good")
    assert find_subject(str(exported.dataset), runner.bundle).notes == (), "the test split needs no word"


def bundle_of(runner: Runner, seen: Seen | None, name: str) -> Bundle:
    dataset: dict[str, Any] = {**runner.bundle.provenance["dataset"], "name": name}
    provenance = {**runner.bundle.provenance, "dataset": dataset}
    return runner.bundle.model_copy(update={"provenance": provenance, "seen": seen})


def test_a_model_that_does_not_say_what_it_has_seen_is_doubted_on_a_data_set_of_that_name(
    table: pl.DataFrame, runner: Runner, exported: Exported, tmp_path: Path
) -> None:
    dataset = written(table.drop("split"), tmp_path / "bags.csv")
    (note,) = find_subject(dataset, bundle_of(runner, None, "bags")).notes
    assert note.startswith("the model was trained on bags as it was before (fingerprints differ)")
    assert find_subject(dataset, bundle_of(runner, None, "others")).notes == ()
    assert find_subject(str(exported.dataset), bundle_of(runner, None, "manifest")).notes == (), "the same fingerprint"


def test_what_is_not_known_whole_is_told(runner: Runner, exported: Exported) -> None:
    (note,) = find_subject(str(exported.dataset), bundle_of(runner, Seen(images=9, complete=False), "x")).notes
    assert note.startswith("not every image that the model has seen is known")
