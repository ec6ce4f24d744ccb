"""The command line in a process of its own, that costs no import: forked from a server which has imported all there is.

A hook runs in the process before the command does, and may kill it at a point that no signal from outside can hit.
"""

import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

Hook = Callable[[], None]

LIMIT = 240
"""Seconds after which a process counts as hung."""
_HEAVY = [
    "albumentations",
    "imaging_ft.cli.app",
    "imaging_ft.export.onnx",
    "imaging_ft.training.rehearse",
    "imaging_ft.training.train",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "sklearn.linear_model",
    "timm",
]

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork, and no signals between processes")


@dataclass(frozen=True)
class Ended:
    """What a process left behind; `code` is negative where a signal ended it."""

    code: int
    out: str
    err: str

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL

    @property
    def errors(self) -> list[str]:
        """The lines by which a command says why it failed."""
        return [line for line in self.err.splitlines() if line.startswith("imaging-ft: ")]


def imaging_ft(*arguments: str | Path, hooks: tuple[Hook, ...] = ()) -> Ended:
    """Run `imaging-ft ARGUMENTS` in a process of its own, and return how it ended."""
    (ended,) = _ended([partial(_command, [str(word) for word in arguments], hooks)])
    return ended


def team(size: int, *arguments: str | Path, hooks: tuple[Hook, ...] = ()) -> list[Ended]:
    """Run `imaging-ft ARGUMENTS` in processes that work as one, under torchrun's variables; return them by rank.

    Where one fails the others are killed, as torchrun does.
    """
    return together(size, partial(_command, [str(word) for word in arguments], hooks))


def together(size: int, target: Hook) -> list[Ended]:
    """Run a function in processes that can meet, under torchrun's variables; return them by rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return _ended([partial(_member, rank, size, port, target) for rank in range(size)])


def _ended(targets: list[Hook]) -> list[Ended]:
    context: Any = get_context("forkserver")
    context.set_forkserver_preload(_HEAVY)
    with TemporaryDirectory() as folder:
        files = [(Path(folder) / f"{rank}.out", Path(folder) / f"{rank}.err") for rank in range(len(targets))]
        processes = [
            context.Process(target=_child, args=(target, *paths)) for target, paths in zip(targets, files, strict=True)
        ]
        for process in processes:
            process.start()
        running = list(processes)
        while running:
            ended = wait([process.sentinel for process in running], LIMIT)
            running = [process for process in running if process.sentinel not in ended]
            failed = any(process.exitcode for process in processes if process not in running)
            if failed or not ended:
                for process in running:
                    process.kill()
            if not ended:
                pytest.fail(f"a process hung; it said: {files[processes.index(running[0])][1].read_text()}")
        for process in processes:
            process.join()
        return [
            Ended(process.exitcode, out.read_text(), err.read_text())
            for process, (out, err) in zip(processes, files, strict=True)
        ]


def _child(target: Hook, out: Path, err: Path) -> None:
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout = os.fdopen(1, "w")
    sys.stderr = os.fdopen(2, "w")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    import torch

    torch.set_num_threads(1)
    target()


def _command(arguments: list[str], hooks: tuple[Hook, ...]) -> None:
    for hook in hooks:
        hook()
    from imaging_ft.cli.app import main

    sys.argv = ["imaging-ft", *arguments]
    main()


def _member(rank: int, size: int, port: int, target: Hook) -> None:
    """Run a function under the variables that torchrun gives to each of its processes on one machine."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
    }
    target()


def signalled_after(name: str, *, epoch: int | None = None, step: int = 0, number: int = signal.SIGKILL) -> Hook:
    """Return a hook: a signal once a checkpoint of an epoch (finished) and a step (of the next one) is written."""
    return partial(_signalled_after, name, epoch, step, number)


def _signalled_after(name: str, epoch: int | None, step: int, number: int) -> None:
    from imaging_ft.training import loop

    write: Any = loop.write_checkpoint

    def wrapped(folder: Path, found: str, tensors: Any, progress: Any, **row: Any) -> None:
        write(folder, found, tensors, progress, **row)
        if (found, progress.get("epoch"), progress.get("step", 0)) == (name, epoch, step):
            os.kill(os.getpid(), number)

    loop.write_checkpoint = wrapped


def killed_at_rename(number: int) -> Hook:
    """Return a hook: SIGKILL in place of the n-th time (from 1) that a file is renamed."""
    return partial(_killed_at_rename, number)


def _killed_at_rename(number: int) -> None:
    rename: Any = Path.replace
    left = [number]

    def counted(path: Path, target: Path) -> Path:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(path, target)

    Path.replace = counted  # type: ignore[method-assign]


def with_dropout() -> None:
    """Let timm build nets that drop features at random: what they learn then depends on torch's generator."""
    import timm

    create: Any = timm.create_model
    timm.create_model = partial(create, drop_rate=0.3)
