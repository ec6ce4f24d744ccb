"""Several processes train as one: the numbers of a single process, whatever the shares, and one of them that speaks."""

import csv
import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from imaging_ft.augment.recipe import load_recipe
from imaging_ft.data import Images
from imaging_ft.models.factory import create
from imaging_ft.models.recompute import checkpoint_gradients
from imaging_ft.training.batchnorm import synchronised
from imaging_ft.training.engine import _engine  # pyright: ignore[reportPrivateUsage]
from imaging_ft.training.images import Share, TrainingBatches
from imaging_ft.training.objective import Objective
from imaging_ft.training.settings import TrainSettings
from imaging_ft.training.team import await_ctrl_c
from imaging_ft.training.trainer import Trainer
from imaging_ft.types import Task
from tests.conftest import write_dataset
from tests.training.processes import Ended, Hook, imaging_ft, posix, signalled_after, team, together, with_dropout

pytestmark = posix

SETTINGS = {
    "preset": "robust",
    "model": "test_resnet",
    "weights": "none",
    "size": 32,
    "epochs": 2,
    "batch_size": 5,
    "deterministic": "true",
    "augmentation": "radiograph",
    "learning_rate": 3e-4,
}
"""At this rate steps don't magnify summation's noise; at the preset's, 4e-6 after one epoch was 1.5e-4 after two.

Of 17 images: batches of 5, 5, 5 and 2. In a team of 3, the last process has none of the last batch."""


def arguments(dataset: Path, run: Path, *options: str, **settings: Any) -> list[str]:
    words = [f"--set={name}={value}" for name, value in (SETTINGS | settings).items()]
    return ["train", str(dataset), "--out", str(run), *words, *options]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with an odd number of training images."""
    manifest = write_dataset(tmp_path_factory.mktemp("data"), per_group=1)
    rows = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join(row for row in rows if "ring-7-" not in row))
    return manifest


def history(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def summary(run: Path) -> dict[str, Any]:
    return json.loads((run / "summary.json").read_text())


def model(run: Path) -> bytes:
    return (run / "model.safetensors").read_bytes()


def silent_and_readonly() -> None:
    """Let every process but the first fail where it writes a file."""
    if os.environ.get("RANK", "0") != "0":
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def assert_well(members: list[Ended]) -> None:
    """Assert that all ended well, and only the first spoke, without a warning of Python's."""
    assert [member.code for member in members] == [0] * len(members), "\n".join(member.err for member in members)
    assert "Warning" not in members[0].err
    assert [member.out + member.err for member in members[1:]] == [""] * (len(members) - 1)


def assert_same_numbers(run: Path, alone: Path) -> None:
    mine, other = history(run), history(alone)
    assert len(mine) == len(other)
    for row, wanted in zip(mine, other, strict=True):
        assert row["worst_condition"] == wanted["worst_condition"]
        for name, value in wanted.items():
            if name.startswith(("train_loss", "val_", "judged_", "odds_", "learning_rate")) and value:
                assert float(row[name]) == pytest.approx(float(value), abs=1e-4), f"epoch {row['epoch']}: {name}"
    for name in ("best_epoch", "ended", "batch_norm", "adapted"):
        assert summary(run)[name] == summary(alone)[name]
    assert summary(run)["validation"]["loss"] == pytest.approx(summary(alone)["validation"]["loss"], abs=1e-4)


@pytest.mark.parametrize(("statistics", "size"), [("frozen", 3), ("trained", 2)])
def test_a_team_reaches_the_numbers_of_one_process(statistics: str, size: int, dataset: Path, tmp_path: Path) -> None:
    alone = imaging_ft(*arguments(dataset, tmp_path / "alone", batch_norm=statistics))
    assert alone.code == 0, alone.err
    members = team(size, *arguments(dataset, tmp_path / "team", batch_norm=statistics), hooks=(silent_and_readonly,))
    assert_well(members)
    assert_same_numbers(tmp_path / "team", tmp_path / "alone")
    epochs = [line for line in members[0].err.splitlines() if line.startswith("epoch ")]
    assert [line.split()[1] for line in epochs] == ["1", "2"]
    found = summary(tmp_path / "team")
    assert found["cost"]["processes"] == size
    assert found["cost"]["images_trained"] == summary(tmp_path / "alone")["cost"]["images_trained"] == 2 * 17
    assert found["interpolation"]["tried"].keys() == summary(tmp_path / "alone")["interpolation"]["tried"].keys()


def test_a_team_ends_early_together(dataset: Path, tmp_path: Path) -> None:
    """At a rate below a weight's last digit no epoch is better than the start."""
    members = team(
        2,
        *arguments(
            dataset, tmp_path / "run", batch_norm="frozen", adapt="false", patience=2, epochs=6, learning_rate=1e-30
        ),
    )
    assert_well(members)
    assert summary(tmp_path / "run")["ended"] == "no better epoch in 2"
    assert len(history(tmp_path / "run")) == 3


@pytest.mark.parametrize("kill", [("last", 1, 2), ("last", 1, 0)], ids=["in an epoch", "before best is written"])
def test_a_killed_team_that_is_taken_up_ends_with_the_bytes_of_a_whole_one(
    kill: tuple[str, int, int], dataset: Path, tmp_path: Path, whole_team: Path
) -> None:
    """With dropout, each process draws its own; shares differ in size, so their generators would drift apart."""
    name, epoch, step = kill
    hook = signalled_after(name, epoch=epoch, step=step)
    assert dropped(2, dataset, tmp_path / "run", hook)[0].killed
    members = dropped(2, dataset, tmp_path / "run", silent_and_readonly, options=("--resume",))
    assert_well(members)
    assert f"going on after epoch 1 of 2, step {step}" in members[0].err
    assert model(tmp_path / "run") == model(whole_team)


@pytest.fixture(scope="module")
def whole_team(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    assert_well(dropped(2, dataset, run))
    return run


def dropped(size: int, dataset: Path, run: Path, *hooks: Hook, options: tuple[str, ...] = ()) -> list[Ended]:
    """Train a net with dropout in a team, with a checkpoint whenever the first process's clock allows."""
    words = arguments(
        dataset, run, *options, model="test_efficientnet", batch_norm="frozen", adapt="false", checkpoint_minutes=1e-6
    )
    return team(size, *words, hooks=(with_dropout, *hooks))


def clocks_that_differ() -> None:
    """Let only the first process find it time for a checkpoint; and let the loss of the third step be no number."""
    from imaging_ft.training import loop

    if os.environ["RANK"] != "0":
        begin: Any = loop.Loop.begin

        def late(self: Any) -> None:
            begin(self)
            self._saved = float("inf")

        loop.Loop.begin = late  # type: ignore[method-assign]

    from imaging_ft.training.trainer import Trainer

    step: Any = Trainer.step

    def poisoned(self: Any, batch: Any, number: int, images: int) -> float:
        if number == 2 and self.factor == 1:
            batch[1][:] = float("nan")
        return step(self, batch, number, images)

    Trainer.step = poisoned  # type: ignore[method-assign]


def test_a_team_rolls_back_to_one_step_though_its_clocks_differ(dataset: Path, tmp_path: Path) -> None:
    words = arguments(dataset, tmp_path / "run", batch_norm="frozen", adapt="false", checkpoint_minutes=1e-6, epochs=1)
    members = team(2, *words, hooks=(clocks_that_differ,))
    assert_well(members)
    assert summary(tmp_path / "run")["cost"]["rollbacks"] == 1
    assert summary(tmp_path / "run")["cost"]["images_trained"] == 17


@dataclass(frozen=True)
class CtrlCAt:
    """A hook: Ctrl-C to one process in one step of the training (from 0), or else once the epochs are over."""

    rank: int
    step: int | None = None
    times: int = 1

    def __call__(self) -> None:
        from imaging_ft.training import interpolate
        from imaging_ft.training.trainer import Trainer

        if os.environ["RANK"] != str(self.rank):
            return
        step: Any = Trainer.step
        start_weights: Any = interpolate.start_weights

        def stepped(trainer: Any, batch: Any, number: int, images: int) -> float:
            if number == self.step:
                self._send()
            return step(trainer, batch, number, images)

        def started(job: Any) -> Any:
            if self.step is None:
                self._send()
            return start_weights(job)

        Trainer.step = stepped  # type: ignore[method-assign]
        interpolate.start_weights = started

    def _send(self) -> None:
        for _ in range(self.times):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    "moments", [[CtrlCAt(1, step=5)], [CtrlCAt(0, step=5), CtrlCAt(1)]], ids=["to one process", "to one later"]
)
def test_ctrl_c_stops_a_team_after_one_step_and_keeps_the_best(
    moments: list[CtrlCAt], dataset: Path, tmp_path: Path
) -> None:
    words = arguments(dataset, tmp_path / "run", batch_norm="frozen", adapt="false", epochs=3)
    members = team(2, *words, hooks=(silent_and_readonly, *moments))
    assert_well(members)
    assert "stopped; the best model so far (epoch " in members[0].err
    found = summary(tmp_path / "run")
    assert (found["interrupted"], found["epochs"]) == (True, 1)
    assert found["cost"]["images_trained"] == 17 + 2 * 5, "an epoch and two steps"
    assert found["interpolation"]["tried"], "it follows the epochs, and there the later signal comes"
    assert load_file(tmp_path / "run" / "model.safetensors")


def test_a_second_ctrl_c_breaks_a_team_off_and_its_checkpoints_stay(dataset: Path, tmp_path: Path) -> None:
    words = arguments(dataset, tmp_path / "run", batch_norm="frozen", adapt="false", epochs=3)
    members = team(2, *words, hooks=(silent_and_readonly, CtrlCAt(0, step=5, times=2)))
    assert members[0].code == 130, members[0].err
    assert "the best model so far" not in members[0].err
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert load_file(tmp_path / "run" / "checkpoints" / "best.safetensors")


def test_ctrl_c_is_remembered_until_the_process_ends_unless_it_is_ignored() -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert not await_ctrl_c().came
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        signal.signal(signal.SIGINT, signal.default_int_handler)
        found = await_ctrl_c()
        signal.raise_signal(signal.SIGINT)
        assert await_ctrl_c() is found, "a later fold stops too"
        assert found.came
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_team_without_an_epoch_keeps_the_start(dataset: Path, tmp_path: Path) -> None:
    members = team(2, *arguments(dataset, tmp_path / "run", epochs=0), hooks=(silent_and_readonly,))
    assert_well(members)
    assert summary(tmp_path / "run")["best_epoch"] == 0


def test_folds_are_trained_by_a_team(dataset: Path, tmp_path: Path) -> None:
    words = arguments(dataset, tmp_path / "run", "--folds", "2", epochs=0, model="test_efficientnet")
    members = team(2, *words, hooks=(silent_and_readonly,))
    assert_well(members)
    assert [line for line in members[0].err.splitlines() if line.startswith("fold ")] == [
        f"fold {fold} of 2: {tmp_path / 'run'}/fold_{fold}" for fold in (1, 2)
    ]
    assert json.loads((tmp_path / "run" / "folds.json").read_text())["folds"] == 2


def test_torchrun_starts_a_team(dataset: Path, tmp_path: Path) -> None:
    """The real launcher, with processes that import everything by themselves."""
    words = arguments(dataset, tmp_path / "run", batch_norm="frozen", adapt="false", epochs=1)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "imaging_ft"]
    done = subprocess.run(
        [sys.executable, *launcher, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("next: imaging-ft export") == 1
    assert [line.split()[1] for line in done.stderr.splitlines() if line.startswith("epoch ")] == ["1"]
    assert "Warning" not in done.stderr
    assert summary(tmp_path / "run")["cost"]["processes"] == 2


SHARES = {"even": (4, 4), "uneven": (5, 2), "one has none": (4, 3, 0)}
LARGE = 1000.0
"""A mean beside which the spread is small: the mean of squares less the squared mean would be rounding alone."""


def values(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return inputs [rows, 3, 4, 4] of a large mean, and weights of a loss on what becomes of them."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 3, 4, 4, generator=generator) + torch.tensor([0.0, 1.0, LARGE]).view(1, 3, 1, 1)
    return x, torch.randn(rows, 3, 4, 4, generator=generator)


def norm() -> nn.BatchNorm2d:
    made = nn.BatchNorm2d(3)
    with torch.no_grad():
        made.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
        made.bias.copy_(torch.tensor([1.0, 0.0, -1.0]))
    return made.train()


def normalised(layer: nn.Module, x: torch.Tensor, weights: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return what a layer makes of inputs, its statistics, and the gradients of a loss on it."""
    x = x.clone().requires_grad_()
    found = layer(x)
    (found * weights).sum().backward()
    assert x.grad is not None
    gradients = {name: p.grad for name, p in layer.named_parameters() if p.grad is not None}
    return {"found": found.detach(), "input": x.grad, **gradients, **dict(layer.named_buffers())}


def normalise_share(folder: Path, shares: tuple[int, ...]) -> None:
    """Pass this process's share of the rows through a synchronised norm, and write what comes of it."""
    running = _engine("cpu", "fp32")
    rank = running.team.rank
    start = sum(shares[:rank])
    x, weights = (value[start : start + shares[rank]] for value in values(sum(shares)))
    layer = norm()
    with synchronised(running.team, on=True):
        found = normalised(layer, x, weights)
    running.team.sum_gradients(list(layer.parameters()))
    found |= {name: p.grad for name, p in layer.named_parameters() if p.grad is not None}
    torch.save(found, folder / f"{rank}.pt")


@pytest.mark.parametrize("shares", SHARES.values(), ids=SHARES)
def test_synchronised_statistics_are_those_of_the_whole_batch(shares: tuple[int, ...], tmp_path: Path) -> None:
    members = together(len(shares), partial(normalise_share, tmp_path, shares))
    assert [member.code for member in members] == [0] * len(shares), "\n".join(member.err for member in members)
    layer = norm().double()
    wanted = normalised(layer, *(value.double() for value in values(sum(shares))))
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(len(shares))]
    for name in ("found", "input"):
        together_ = torch.cat([part[name] for part in parts]).double()
        assert torch.allclose(together_, wanted[name], atol=2e-3, rtol=1e-3), name
        assert torch.allclose(together_[:, :2], wanted[name][:, :2], atol=1e-5, rtol=1e-4), name
    for part in parts:
        for name in ("weight", "bias", "running_mean", "running_var"):
            assert torch.allclose(part[name].double(), wanted[name], atol=1e-4, rtol=1e-4), name


def after_a_step(name: str, *, recompute: bool) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return the gradients and the statistics that this process's share of a step leaves in a whole net."""
    torch.manual_seed(0)
    net = create(name, classes=2, weights="none")
    assert not recompute or checkpoint_gradients(net)
    running = _engine("cpu", "fp32")
    levels = np.random.default_rng(0).integers(0, 255, (7, 64, 64, 1), dtype=np.uint8)
    batches = TrainingBatches(
        Images(levels, np.eye(2, dtype=np.float32)[np.arange(7) % 2]),
        load_recipe("none").build(),
        batch_size=7,
        seed=0,
        workers=0,
        share=Share(running.team.rank, running.team.size),
    )
    settings = TrainSettings(epochs=1, batch_size=7, trained="all", unfreeze_over=0.0, average=False).resolved()
    trainer = Trainer(running, net, batches, settings, Objective(Task.MULTICLASS), frozen=False)
    next(trainer.epoch(1))
    gradients = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    return gradients, {name: value for name, value in net.named_buffers() if "running" in name}


def step_share(folder: Path, name: str) -> None:
    torch.save([after_a_step(name, recompute=recompute) for recompute in (False, True)], folder / os.environ["RANK"])


@pytest.mark.parametrize("name", ["test_resnet", "monai/resnet18"])
def test_a_team_that_recomputes_activations_makes_the_step_that_it_makes_otherwise(name: str, tmp_path: Path) -> None:
    """Layers that run again on the way back take the whole batch's statistics then as well."""
    members = together(2, partial(step_share, tmp_path, name))
    assert [member.code for member in members] == [0, 0], "\n".join(member.err for member in members)
    _, wanted = after_a_step(name, recompute=True)
    for rank in range(2):
        (plain, _), (gradients, statistics) = torch.load(tmp_path / str(rank))
        assert len(plain) > 10
        assert gradients.keys() == plain.keys()
        for key, gradient in gradients.items():
            assert torch.allclose(gradient, plain[key], rtol=1e-4, atol=1e-7), key
        for key, value in statistics.items():
            assert torch.allclose(value, wanted[key], rtol=1e-3, atol=1e-5), key


def test_the_shares_of_a_batch_are_the_batch() -> None:
    """Every image is in one share, and each process makes of it what a single one would."""
    levels = np.random.default_rng(0).integers(0, 255, (17, 32, 32, 1), dtype=np.uint8)
    images = Images(levels, np.eye(17, dtype=np.float32))

    def epoch(rank: int, size: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        augment = load_recipe("radiograph").build()
        return list(TrainingBatches(images, augment, batch_size=5, seed=0, workers=0, share=Share(rank, size)).epoch(1))

    shares = [epoch(rank, 3) for rank in range(3)]
    assert [[len(levels) for levels, _ in share] for share in shares] == [[2, 2, 2, 1], [2, 2, 2, 1], [1, 1, 1, 0]]
    for step, (levels, targets) in enumerate(epoch(0, 1)):
        for rank, share in enumerate(shares):
            assert torch.equal(share[step][0], levels[rank::3])
            assert torch.equal(share[step][1], targets[rank::3])
