"""The measurement: image by image, and taken up again where it was broken off."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from imaging_ft.errors import ConfigError
from imaging_ft.inference import Device
from imaging_ft.inference.runner import Runner
from imaging_ft.report.measure import measure, reassemble
from imaging_ft.report.predict import FOLDER
from imaging_ft.types import T

if TYPE_CHECKING:
    from conftest import Exported

SUITE = "name: small\nconditions: [low_light, roll]\nseverities: [1, 5]\n"


@pytest.fixture(scope="module")
def runner(exported: "Exported") -> Runner:
    return Runner.open(exported.model, device=Device.CPU)


@pytest.fixture
def suite(tmp_path: Path) -> str:
    path = tmp_path / "small.yaml"
    path.write_text(SUITE)
    return str(path)


class Broken(Exception):
    """Stands for whatever ends a measurement in its middle."""


class Counting:
    """A progress bar that notes how many images are to be measured, and ends after some of them."""

    def __init__(self, after: int | None = None) -> None:
        self.after = after
        self.total = -1

    def __call__(self, items: Iterable[T], what: str, total: int | None = None) -> Iterable[T]:
        if what != "measuring":
            yield from items
            return
        self.total = total or 0
        for number, item in enumerate(items, start=1):
            yield item
            if number == self.after:
                raise Broken


def test_a_measurement_that_was_broken_off_goes_on_where_it_stopped(
    runner: Runner, exported: "Exported", suite: str, tmp_path: Path
) -> None:
    whole = measure(runner, str(exported.dataset), suite=suite, out=tmp_path / "whole").report
    with pytest.raises(Broken):
        measure(runner, str(exported.dataset), suite=suite, out=tmp_path / "report", track=Counting(after=5))
    done = int(np.load(tmp_path / "report" / FOLDER / "done.npy").sum())
    assert 5 <= done < whole.dataset.n
    counting = Counting()
    found = measure(runner, str(exported.dataset), suite=suite, out=tmp_path / "report", track=counting).report
    assert counting.total == whole.dataset.n - done
    assert found.model_copy(update={"created": whole.created}) == whole
    assert not (tmp_path / "report" / FOLDER).exists()


def test_nothing_is_used_of_another_measurement(
    runner: Runner, exported: "Exported", suite: str, tmp_path: Path
) -> None:
    with pytest.raises(Broken):
        measure(runner, str(exported.dataset), suite=suite, out=tmp_path / "report", track=Counting(after=5))
    counting = Counting()
    dataset, out = str(exported.dataset), tmp_path / "report"
    found = measure(runner, dataset, suite=suite, severities=(1,), out=out, track=counting).report
    assert counting.total == found.dataset.n


def test_a_report_that_is_killed_loses_nothing(exported: "Exported", suite: str, tmp_path: Path) -> None:
    out = tmp_path / "report"
    command = [sys.executable, "-m", "imaging_ft", "report", str(exported.model), str(exported.dataset)]
    command += ["--out", str(out), "--conditions", suite, "--device", "cpu", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    done = out / FOLDER / "done.npy"
    while process.poll() is None and not (done.is_file() and (out / FOLDER / "key.json").is_file()):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    plain = measure(Runner.open(exported.model, device=Device.CPU), str(exported.dataset), suite=suite).report
    found = json.loads(again.stdout)
    assert found["cells"] == json.loads(plain.model_dump_json())["cells"]
    assert not (out / FOLDER).exists()
    assert (out / "predictions.parquet").is_file()


def test_images_of_which_nothing_was_recorded_are_measured(
    runner: Runner, exported: "Exported", suite: str, tmp_path: Path
) -> None:
    for path in sorted((exported.dataset.parent / "images").glob("*-0-*.png")):
        folder = tmp_path / "images" / path.name.partition("-")[0]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.name).write_bytes(path.read_bytes())
    found = measure(runner, str(tmp_path / "images"), suite=suite).report
    assert found.dataset.n == 9
    assert {cell.source for cell in found.cells} == {"synthetic", "measured"}


def test_stored_predictions_give_the_report_again(
    runner: Runner, exported: "Exported", suite: str, tmp_path: Path
) -> None:
    require = ["worst.accuracy >= 0.1", "condition[site=south].accuracy >= 0.99"]
    found = measure(runner, str(exported.dataset), suite=suite, out=tmp_path, require=require).report
    assert reassemble(tmp_path / "predictions.parquet", require=require) == found


def test_another_model_is_measured_on_the_very_same_images(
    runner: Runner, exported: "Exported", suite: str, tmp_path: Path
) -> None:
    other = Runner.open(exported.model, device=Device.CPU)
    found = measure(runner, str(exported.dataset), suite=suite, out=tmp_path / "out", against=other).report
    assert found.against is not None
    assert (found.against.overall.accuracy.value, found.against.overall.p) == (0, 1)
    assert all(cell.against is None or cell.against.only_this == 0 for cell in found.cells)
    wrong = {
        name
        for cell in found.cells
        if cell.source == "synthetic" and len(cell.conditions) == 1 and cell.metrics["accuracy"].value < 1
        for name in cell.conditions
    }
    assert found.against.by_condition == dict.fromkeys(wrong, 1)
    assert found.against.mce == (1 if wrong == {"low_light", "roll"} else None)
    stored = tmp_path / "out" / "predictions.parquet", tmp_path / "out" / "predictions-against.parquet"
    assert reassemble(*stored) == found
    measure(runner, str(exported.dataset), suite=suite, out=tmp_path / "out", show=False)
    assert not stored[1].exists()


def test_intersections_and_measured_columns_are_cells(
    runner: Runner, exported: "Exported", suite: str, tmp_path: Path
) -> None:
    manifest = exported.dataset
    found = measure(
        runner, str(manifest), suite=suite, cross=[["site", "angle"]], require=["condition[brightness=1].ece <= 1"]
    ).report
    sources = {tuple(cell.conditions): cell.source for cell in found.cells if cell.source != "synthetic"}
    assert sources[("site", "angle")] == "recorded"
    assert sources[("brightness",)] == "measured"
    assert found.gates[0].outcome == "insufficient"  # no bin of brightness is called 1
    with pytest.raises(ConfigError, match="no column 'sight'; did you mean 'site'"):
        measure(runner, str(manifest), suite=suite, cross=[["sight", "angle"]])
    with pytest.raises(ConfigError, match="crosses recorded with measured"):
        measure(runner, str(manifest), suite=suite, cross=[["site", "brightness"]])
