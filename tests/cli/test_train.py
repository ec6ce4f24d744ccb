"""`imaging-ft train` as a user types it."""

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.test_app import one_line, run
from tests.conftest import write_dataset

SMALL = ("--size", 32, "--set", "precision=fp32", "--set", "model=test_resnet", "--from-scratch")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), per_group=1)


def test_a_dry_run_passes_one_batch_and_draws_samples_and_leaves_no_run(data: Path, tmp_path: Path) -> None:
    done = run("train", data, "--out", tmp_path / "run", *SMALL, "--dry-run", "--augmentation", "camera")
    assert done.returncode == 0, done.stderr
    assert "one batch went through" in done.stdout
    assert max(map(len, done.stdout.splitlines()[:3])) <= 100
    assert not (tmp_path / "run").exists()
    with Image.open(tmp_path / "run.samples.png") as picture:
        assert min(picture.size) > 300


def test_the_rate_search_draws_a_plot_and_leaves_no_run(data: Path, tmp_path: Path) -> None:
    options = ("--augmentation", "none", "--find-rate", "--json")
    done = run("train", data, "--out", tmp_path / "run", *SMALL, *options)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {"suggestion", "diverged", "plot"}
    assert Path(found["plot"]).is_file()
    assert not (tmp_path / "run").exists()


def test_a_finished_run_says_what_it_reached_clean_and_under_conditions(data: Path, tmp_path: Path) -> None:
    done = run("train", data, "--out", tmp_path / "run", *SMALL, "--epochs", 1, "--augmentation", "mr")
    assert done.returncode == 0, done.stderr
    assert "validation: balanced accuracy" in done.stdout
    assert "under conditions: balanced accuracy" in done.stdout
    assert "next: imaging-ft export" in done.stdout
    again = run("train", data, "--out", tmp_path / "run", "--resume")
    assert again.returncode == 0
    assert "finished already" in again.stderr
    one_line(run("train", data, "--out", tmp_path / "run", "--resume", "--epochs", 3), "epochs=1", "--resume can't")


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--preset", "strong"), ("preset", "'fast', 'balanced' or 'robust'")),
        (("--time-budget", "soon"), ("time_budget", "10m")),
        (("--operating-point", "recall=1"), ("operating_point", "sensitivity=0.95")),
        (("--hold-out", "low_does"), ("low_does", "low_dose")),
        (("--from", "nowhere"), ("nowhere", "no finished run")),
        (("--retain", "baggage"), ("retain needs from_run",)),
        (("--focus", "nowhere.json", "--augmentation", "mr"), ("nowhere.json", "can't be read")),
        (("--folds", "50", "--augmentation", "none"), ("50 folds need 50",)),
    ],
)
def test_a_wrong_option_ends_in_one_line(
    options: tuple[str, ...], parts: tuple[str, ...], data: Path, tmp_path: Path
) -> None:
    done = run("train", data, "--out", tmp_path / "run", "--size", 32, "--set", "precision=fp32", *options)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert all(part in last for part in parts), last
    assert not (tmp_path / "run" / "model.json").exists()
