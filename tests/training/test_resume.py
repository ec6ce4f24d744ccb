"""A run that was broken off, by whatever, ends with the bytes of one that was not."""

import json
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from imaging_ft.errors import RunError
from imaging_ft.training.checkpoint import latest, read_checkpoint, write_checkpoint
from imaging_ft.training.settings import TrainSettings, resumed_settings
from tests.conftest import write_dataset
from tests.training.processes import (
    Ended,
    Hook,
    imaging_ft,
    killed_at_rename,
    posix,
    signalled_after,
    with_dropout,
)

pytestmark = posix

SETTINGS = {
    "preset": "robust",
    "model": "test_efficientnet",
    "weights": "none",
    "size": 32,
    "epochs": 3,
    "batch_size": 6,
    "learning_rate": 0.003,
    "l2_sp": 0.1,
    "deterministic": "true",
    "augmentation": "radiograph",
    "checkpoint_minutes": 1e-6,
}
"""A net with batch normalisation that drops features, three steps an epoch, and a checkpoint after each of them."""


def trained(dataset: Path, run: Path, *options: str, hooks: tuple[Hook, ...] = (), **settings: Any) -> Ended:
    """Train into a run folder, in a process of its own."""
    words = [f"--set={name}={value}" for name, value in (SETTINGS | settings).items()]
    return imaging_ft("train", dataset, "--out", run, *words, *options, hooks=(with_dropout, *hooks))


def resumed(dataset: Path, run: Path, *options: str, hooks: tuple[Hook, ...] = ()) -> Ended:
    """Take a run up again, in a process of its own."""
    return imaging_ft("train", dataset, "--out", run, "--resume", *options, hooks=(with_dropout, *hooks))


def model(run: Path) -> bytes:
    return (run / "model.safetensors").read_bytes()


def summary(run: Path) -> dict[str, Any]:
    return json.loads((run / "summary.json").read_text())


def files(run: Path) -> dict[str, bytes]:
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), per_group=1)


@pytest.fixture(scope="module")
def whole(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing breaks off."""
    run = tmp_path_factory.mktemp("whole") / "run"
    ended = trained(dataset, run)
    assert ended.code == 0, ended.err
    found = summary(run)
    assert found["best_epoch"] > 0, "else the weights that are kept do not depend on a step"
    assert found["interpolation"]["tried"]
    assert set(found["odds"].values()) != {1.0}
    return run


@pytest.fixture(scope="module")
def broken(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed in its third epoch."""
    run = tmp_path_factory.mktemp("broken") / "run"
    assert trained(dataset, run, hooks=(signalled_after("last", epoch=2, step=1),)).killed
    return run


@pytest.fixture
def copy(broken: Path, tmp_path: Path) -> Path:
    """The broken run's folder, to be broken further."""
    return copytree(broken, tmp_path / "run")


def assert_same(run: Path, whole: Path) -> None:
    """Assert that two runs ended alike, but for the time that they took."""
    assert model(run) == model(whole)
    mine, other = summary(run), summary(whole)
    for name in ("best_epoch", "epochs", "validation", "judged", "odds", "batch_norm", "adapted", "interpolation"):
        assert mine[name] == other[name], name
    assert mine["cost"]["images_trained"] == other["cost"]["images_trained"]
    assert rows(run) == rows(whole)


def rows(run: Path) -> list[str]:
    """Return the history without its last column, the seconds."""
    return [line.rpartition(",")[0] for line in (run / "history.csv").read_text().splitlines()]


@pytest.mark.parametrize(
    "kill",
    [
        signalled_after("start"),
        signalled_after("last", epoch=0),
        signalled_after("last", epoch=1),
        signalled_after("last", epoch=1, step=2),
        signalled_after("best", epoch=2),
    ],
    ids=["before the first checkpoint", "at the start", "before best is written", "in an epoch", "between epochs"],
)
def test_a_killed_run_ends_with_the_bytes_of_a_whole_one(
    kill: Hook, dataset: Path, whole: Path, tmp_path: Path
) -> None:
    assert trained(dataset, tmp_path / "run", hooks=(kill,)).killed
    ended = resumed(dataset, tmp_path / "run")
    assert ended.code == 0, ended.err
    assert_same(tmp_path / "run", whole)


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bytes(
    dataset: Path, whole: Path, tmp_path: Path
) -> None:
    """Every kill takes the place of a rename, so that it finds a half-written file; a step in between is made."""
    ended = trained(dataset, tmp_path / "run", hooks=(killed_at_rename(12),))
    kills = 0
    while ended.killed:
        kills += 1
        assert kills < 20, "the run gets nowhere"
        assert list((tmp_path / "run").rglob(".*.part")), "the file that the kill found half-written"
        ended = resumed(dataset, tmp_path / "run", hooks=(killed_at_rename(11 + kills % 3),))
    assert ended.code == 0, ended.err
    assert kills > 2
    assert_same(tmp_path / "run", whole)
    assert not list((tmp_path / "run").rglob(".*.part")), "half-written files are swept"


STOP = signalled_after("last", epoch=1, step=2, number=signal.SIGINT)


@pytest.fixture(scope="module")
def stopped(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that Ctrl-C ended in its second epoch."""
    run = tmp_path_factory.mktemp("stopped") / "run"
    ended = trained(dataset, run, hooks=(STOP,))
    assert ended.code == 0, ended.err
    assert "stopped; the best model so far (epoch 1) is kept" in ended.err
    assert summary(run)["interrupted"] is True
    return run


def test_a_run_that_was_stopped_goes_on(stopped: Path, dataset: Path, whole: Path, tmp_path: Path) -> None:
    run = copytree(stopped, tmp_path / "run")
    ended = resumed(dataset, run)
    assert ended.code == 0, ended.err
    assert "going on after epoch 1 of 3, step 2" in ended.err
    assert summary(run)["interrupted"] is False
    assert_same(run, whole)


def test_the_best_weights_survive_a_second_kill(dataset: Path, stopped: Path, tmp_path: Path) -> None:
    """The first kill comes before `best` is written, the second once `last` no longer holds its weights."""
    run = tmp_path / "run"
    assert trained(dataset, run, hooks=(signalled_after("last", epoch=1),)).killed
    assert resumed(dataset, run, hooks=(signalled_after("last", epoch=1, step=1),)).killed
    ended = resumed(dataset, run, hooks=(STOP,))
    assert ended.code == 0, ended.err
    assert summary(run)["interrupted"] is True
    assert model(run) == model(stopped)


def test_where_the_best_weights_are_lost_the_start_stands_in_and_says_so(copy: Path, dataset: Path) -> None:
    """Other weights under the best epoch's name and figures would be worse than none."""
    (copy / "checkpoints" / "best.safetensors").unlink()
    ended = resumed(dataset, copy, hooks=(signalled_after("last", epoch=2, step=2, number=signal.SIGINT),))
    assert ended.code == 0, ended.err
    assert "no such checkpoint; until a better epoch comes, the start stands in for it" in ended.err
    assert summary(copy)["best_epoch"] == 0
    start, kept = (load_file(copy / name) for name in ("checkpoints/start.safetensors", "model.safetensors"))
    assert all((start[name] == value).all() for name, value in kept.items())


def test_a_finished_run_is_left_as_it_is(dataset: Path, whole: Path) -> None:
    before = files(whole)
    ended = resumed(dataset, whole)
    assert ended.code == 0
    assert "finished already; nothing to resume" in ended.err
    assert files(whole) == before


def test_resume_begins_a_run_where_there_is_none(dataset: Path, whole: Path, tmp_path: Path) -> None:
    ended = trained(dataset, tmp_path / "run", "--resume")
    assert ended.code == 0, ended.err
    assert "no checkpoint to go on from; the training begins anew" in " ".join(ended.err.split())
    assert_same(tmp_path / "run", whole)


def test_the_command_that_began_a_run_also_takes_it_up(copy: Path, dataset: Path, whole: Path) -> None:
    ended = trained(dataset, copy, "--resume")
    assert ended.code == 0, ended.err
    assert_same(copy, whole)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["--epochs", "5"], "epochs=3"),
        (["--preset", "balanced"], "preset=robust"),
        (["--set", "learning_rate=0.1"], "learning_rate=0.003"),
        (["--set", "average=false"], "average=True"),
        (["--from-scratch", "--seed", "3"], "seed=0"),
    ],
)
def test_other_options_are_refused_by_name(options: list[str], name: str, copy: Path, dataset: Path) -> None:
    before = files(copy)
    ended = resumed(dataset, copy, *options)
    assert ended.code == 2
    assert len(ended.errors) == 1
    assert f"the run was begun with {name}, which --resume can't change" in ended.errors[0]
    assert files(copy) == before


def test_other_settings_in_a_file_are_refused_by_name(copy: Path, dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("{epochs: 3, mixup: 0.4}\n")
    ended = resumed(dataset, copy, "--config", str(tmp_path / "mine.yaml"))
    assert ended.code == 2
    assert "the run was begun with mixup=0.0" in ended.errors[0]


def test_what_no_result_depends_on_may_change(broken: Path) -> None:
    options = {"device": "cpu", "workers": 0, "time_budget": "1h", "checkpoint_minutes": 5, "track": "none"}
    found = resumed_settings(broken / "config.yaml", options)
    assert found.time_budget == "1h"
    assert found.epochs == 3


def test_the_command_of_a_run_that_went_on_from_another_also_takes_it_up(
    dataset: Path, whole: Path, tmp_path: Path
) -> None:
    values = {"model": "test_efficientnet", "size": 32, "epochs": 1, "batch_size": 6, "augmentation": "none"}
    options = [f"--set={name}={value}" for name, value in values.items()]
    command = ["train", str(dataset), "--out", str(tmp_path / "run"), "--from", str(whole), "--resume", *options]
    assert imaging_ft(*command, hooks=(signalled_after("last", epoch=0),)).killed
    ended = imaging_ft(*command)
    assert ended.code == 0, ended.err
    assert "going on after epoch 0 of 1" in ended.err


def test_epochs_that_are_left_to_the_preset_stay_so_where_a_run_begins_anew(dataset: Path, tmp_path: Path) -> None:
    """A far domain gets more of them, which is decided only after the probe."""
    assert trained(dataset, tmp_path / "run", epochs="null", hooks=(signalled_after("start"),)).killed
    recorded = TrainSettings.from_yaml(tmp_path / "run" / "config.yaml")
    assert recorded.epochs is None
    assert recorded.average is True
    assert resumed_settings(tmp_path / "run" / "config.yaml", {}).epochs is None


def test_a_run_whose_card_names_a_recipe_file_can_be_taken_up(dataset: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("{name: ours, title: Ours, transforms: [{HorizontalFlip: {p: 0.5}}]}\n")
    card = tmp_path / "card.yaml"
    card.write_text(f"{{name: data, root: {dataset.parent}, layout: manifest, augmentation: {recipe}}}\n")
    options = [f"--set={name}={value}" for name, value in SETTINGS.items() if name != "augmentation"]
    killed = imaging_ft(
        "train", card, "--out", tmp_path / "run", *options, "--set=epochs=1", hooks=(signalled_after("last", epoch=0),)
    )
    assert killed.killed, killed.err
    ended = resumed(card, tmp_path / "run")
    assert ended.code == 0, ended.err
    assert summary(tmp_path / "run")["recipe"] == "ours"


def test_other_images_are_refused(copy: Path, tmp_path: Path) -> None:
    other = write_dataset(tmp_path / "other", per_group=1, seed=1)
    before = files(copy)
    ended = resumed(other, copy)
    assert ended.code == 2
    assert "was begun on other images" in ended.errors[0]
    assert files(copy) == before


def test_a_vanished_image_is_named_and_the_run_goes_on_once_it_is_back(copy: Path, tmp_path: Path, whole: Path) -> None:
    mine = write_dataset(tmp_path / "mine", per_group=1)
    image = mine.parent / "images" / "disc-3-0.png"
    content = image.read_bytes()
    image.unlink()
    for options in ((), ("--skip-bad",)):
        ended = resumed(mine, copy, *options)
        assert ended.code == 2
        assert "Traceback" not in ended.err
        assert "disc-3-0.png" in ended.err or "was begun on other images" in ended.errors[0]
    image.write_bytes(content)
    assert resumed(mine, copy).code == 0
    assert_same(copy, whole)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1000] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [truncate, flip])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(damage: Any, copy: Path, dataset: Path, whole: Path) -> None:
    damage(copy / "checkpoints" / "last.safetensors")
    ended = resumed(dataset, copy)
    assert ended.code == 0, ended.err
    (warning,) = [line for line in ended.err.splitlines() if "damaged" in line]
    assert warning.startswith("warning: ")
    assert warning.endswith("going on from previous.safetensors")
    assert_same(copy, whole)


def test_where_no_checkpoint_is_whole_one_line_says_so(copy: Path, dataset: Path) -> None:
    truncate(copy / "checkpoints" / "last.safetensors")
    flip(copy / "checkpoints" / "previous.safetensors")
    before = files(copy)
    ended = resumed(dataset, copy)
    assert ended.code == 2
    assert len(ended.errors) == 1
    assert "last.safetensors: damaged" in ended.errors[0]
    assert "no other checkpoint is whole: train again with --overwrite" in ended.errors[0]
    assert files(copy) == before


@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_flipped_bit_goes_unnoticed(share: float, bit: int, broken: Path, tmp_path_factory: Any) -> None:
    """The header holds the progress: a flipped bit there would be another epoch, not a damaged file."""
    found = read_checkpoint(broken / "checkpoints" / "last.safetensors")
    folder = tmp_path_factory.mktemp("flipped", numbered=True)
    write_checkpoint(folder, "last", {"head.bias": found.tensors["head.bias"]}, found.progress, row={})
    path = folder / "last.safetensors"
    data = bytearray(path.read_bytes())
    data[int(share * len(data))] ^= 1 << bit
    path.write_bytes(data)
    with pytest.raises(RunError, match=r"damaged|not a checkpoint of this version"):
        latest(folder, lambda _: None)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, that holds a run's first checkpoints and no more."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system can't be mounted here; test_a_file_that_grows_too_large covers the rest")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fills(folder: Path) -> None:
    """Take up what is free, once training has begun."""
    from imaging_ft.training import loop

    epoch: Any = loop.Loop._epoch

    def wrapped(self: Any) -> None:
        if self.progress.epoch == 1 and not (folder / "filler").exists():
            with (folder / "filler").open("wb") as file:
                free = os.statvfs(folder)
                file.write(b"0" * (free.f_bavail * free.f_bsize - 4096))
        epoch(self)

    loop.Loop._epoch = wrapped  # type: ignore[method-assign]


def test_a_full_disk_ends_in_one_line_and_the_run_goes_on_once_there_is_room(
    small_disk: Path, dataset: Path, whole: Path
) -> None:
    run = small_disk / "run"
    ended = trained(dataset, run, hooks=(partial(fills, small_disk),))
    assert ended.code == 2, ended.err
    assert "Traceback" not in ended.err
    assert len(ended.errors) == 1
    assert ended.errors[0].endswith("can't be written: No space left on device")
    assert not (run / "model.safetensors").exists()
    assert not list(run.rglob(".*.part"))
    (small_disk / "filler").unlink()
    ended = resumed(dataset, run)
    assert ended.code == 0, ended.err
    assert "going on after epoch 1 of 3" in ended.err
    assert_same(run, whole)


def no_larger_than(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_file_that_grows_too_large_ends_in_one_line_and_the_run_can_be_resumed(
    copy: Path, dataset: Path, whole: Path
) -> None:
    before = files(copy)
    ended = resumed(dataset, copy, hooks=(partial(no_larger_than, 200_000),))
    assert ended.code == 2, ended.err
    assert "Traceback" not in ended.err
    assert len(ended.errors) == 1
    assert "last.safetensors: can't be written" in ended.errors[0]
    assert {name: data for name, data in files(copy).items() if name in before} == before
    assert resumed(dataset, copy).code == 0
    assert_same(copy, whole)
