"""How fast a model runs here: the runner and its batching, beside plain onnxruntime in the same run."""

import importlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imaging_ft.bundle import PROBABILITIES
from imaging_ft.inference.batching import Batcher
from imaging_ft.inference.feed import feeds
from imaging_ft.inference.model_file import ModelFile
from imaging_ft.inference.models import runner_all
from imaging_ft.inference.providers import Device, open_session
from imaging_ft.inference.runner import Runner
from imaging_ft.types import Json, Pixels, Track, silent

_ROUNDS = 5
_WARM = 3


@dataclass(frozen=True)
class Timing:
    """One way of running, at one batch size or with so many clients."""

    way: str
    """`plain`: `session.run` of the whole file. `runner`: `Runner.predict`. `service`: clients with single images."""
    batch: int
    """Images in a call."""
    clients: int
    """Callers at the same time."""
    p50: float
    """Seconds that a call took, median."""
    p99: float
    images: float
    """A second, over all callers."""
    against_plain: float | None
    """Images a second over plain's at the same batch size; of the service, over plain's best. Medians over rounds."""


@dataclass(frozen=True)
class Bench:
    """What was measured of one file on one device."""

    model: str
    sha256: str
    device: str
    size: tuple[int, int]
    """Height and width of the stored images."""
    threads: int | None
    timings: tuple[Timing, ...]

    def as_json(self) -> Json:
        """Return the measurement for a script."""
        return asdict(self)


def bench(
    path: Path,
    *,
    device: Device = Device.AUTO,
    threads: int | None = None,
    batches: Sequence[int] = (1, 8, 32),
    clients: Sequence[int] = (1, 8, 32),
    size: tuple[int, int] | None = None,
    seconds: float = 1.0,
    track: Track = silent,
) -> Bench:
    """Return how fast a bundle runs on a device.

    All ways take turns, five rounds of `seconds / 5` each, so that what else the machine does falls on all of them.
    Images are noise of one size, by default twice the network's. Raises BundleError, DeviceError.
    """
    runner = Runner.open(path, device=device, threads=threads)
    spec = runner.bundle.input
    height, width = size or (2 * spec.height, 2 * spec.width)
    rng = np.random.default_rng(0)
    most = max(*batches, 8)
    images: list[Pixels] = [
        rng.integers(0, spec.full_scale + 1, (height, width, spec.channels)).astype(spec.dtype) for _ in range(most)
    ]
    file = ModelFile.read(path)
    plain = open_session(file.data, runner.device, where=str(path), threads=threads).session
    ways: list[tuple[str, int, int, Callable[[float], list[float]]]] = []
    if runner.bundle.graph.batch is not None:
        batches = (1,)
    for batch in batches:
        stacked = np.stack(images[:batch])
        ways.append(("plain", batch, 1, _repeat(lambda stacked=stacked: _plain(plain, runner, stacked))))
        ways.append(("runner", batch, 1, _repeat(lambda batch=batch: runner.predict(images[:batch]))))
    batcher = Batcher(runner_all(runner), max_batch=runner.best_batch, max_queue=4096)
    ways += [("service", 1, count, _clients(runner, batcher, images, count)) for count in clients]
    for *_, run in ways:
        run(0.0)
    found: list[list[list[float]]] = [[] for _ in ways]
    spent: list[list[float]] = [[] for _ in ways]
    for _ in track(range(_ROUNDS), "measuring", _ROUNDS):
        for place, (*_, run) in enumerate(ways):
            began = time.perf_counter()
            found[place].append(run(seconds / _ROUNDS))
            spent[place].append(time.perf_counter() - began)
    batcher.close()
    names = [(way, batch, count) for way, batch, count, _ in ways]
    timings = _timings(names, found, spent)
    return Bench(path.name, runner.sha256, runner.device.value, (height, width), threads, timings)


def _plain(session: Any, runner: Runner, images: Pixels) -> None:
    for fed in feeds(runner.bundle, images):
        session.run([PROBABILITIES], fed)


def _repeat(call: Callable[[], Any]) -> Callable[[float], list[float]]:
    """Return what calls a function again and again for so many seconds, and gives how long each call took."""

    def run(seconds: float) -> list[float]:
        taken: list[float] = []
        end = time.perf_counter() + seconds
        while not taken or time.perf_counter() < end or len(taken) < _WARM:
            began = time.perf_counter()
            call()
            taken.append(time.perf_counter() - began)
        return taken

    return run


def _clients(runner: Runner, batcher: Batcher, images: Sequence[Pixels], count: int) -> Callable[[float], list[float]]:
    """Return what lets so many threads send single images for so many seconds, each waiting for its answer."""

    def run(seconds: float) -> list[float]:
        taken: list[list[float]] = [[] for _ in range(count)]
        end = time.perf_counter() + seconds

        def client(place: int) -> None:
            turn = place
            while not taken[place] or time.perf_counter() < end:
                began = time.perf_counter()
                batcher.submit(runner.levels(images[turn % len(images)])).result()
                taken[place].append(time.perf_counter() - began)
                turn += 1

        threads = [threading.Thread(target=client, args=(place,)) for place in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [one for each in taken for one in each]

    return run


def _timings(
    names: Sequence[tuple[str, int, int]], found: Sequence[Sequence[Sequence[float]]], spent: Sequence[Sequence[float]]
) -> tuple[Timing, ...]:
    rates = [
        np.array([batch * len(calls) / seconds for calls, seconds in zip(rounds, used, strict=True)])
        for (_, batch, _), rounds, used in zip(names, found, spent, strict=True)
    ]
    plain = {batch: rate for (way, batch, _), rate in zip(names, rates, strict=True) if way == "plain"}
    best = np.max(list(plain.values()), axis=0)
    timings: list[Timing] = []
    for (way, batch, count), rounds, rate in zip(names, found, rates, strict=True):
        calls = np.concatenate([np.asarray(one) for one in rounds])
        against = None
        if way != "plain":
            against = float(np.median(rate / (plain[batch] if way == "runner" else best)))
        p50, p99 = (float(value) for value in np.quantile(calls, (0.5, 0.99)))
        timings.append(Timing(way, batch, count, p50, p99, float(np.median(rate)), against))
    return tuple(timings)


def draw(found: Bench, path: Path) -> None:
    """Write a measurement as a picture: images a second of each way."""
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    plt: Any = importlib.import_module("matplotlib.pyplot")
    labels = [label_of(one) for one in found.timings]
    colours = {"plain": "#8a8f98", "runner": "#0b5cad", "service": "#b3541e"}
    figure, axes = plt.subplots(figsize=(7, 0.4 * len(labels) + 1.4), layout="constrained")
    bars = axes.barh(labels, [one.images for one in found.timings], color=[colours[one.way] for one in found.timings])
    axes.bar_label(bars, [f"{one.images:.0f}/s, p99 {1000 * one.p99:.1f} ms" for one in found.timings], padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.35)
    axes.set_xlabel("images a second")
    height, width = found.size
    axes.set_title(f"{found.model} on {found.device}, stored images of {height} × {width}")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def label_of(timing: Timing) -> str:
    """Return what a timing is of, in a few words."""
    if timing.way == "service":
        return f"service, {timing.clients} clients" if timing.clients > 1 else "service, 1 client"
    return f"{timing.way}, batch {timing.batch}"
