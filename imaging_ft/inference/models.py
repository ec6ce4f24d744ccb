"""Several models side by side, each with its own queue; one is exchanged for another while requests go on."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from imaging_ft.errors import DrainingError, InputError, UnknownModelError
from imaging_ft.inference.batching import Answer, Batcher, Run
from imaging_ft.inference.network import Batch
from imaging_ft.inference.runner import Runner

Open = Callable[[Path], Runner]
"""Opens a model file, self-test included."""


@dataclass(frozen=True)
class Served:
    """A model that answers."""

    name: str
    version: int
    """Counts up with each load under this name, from 1, also after it was unloaded."""
    runner: Runner
    batcher: Batcher


class Models:
    """The models of a service, by name."""

    def __init__(
        self,
        open_model: Open = Runner.open,
        *,
        max_batch: int | None = None,
        max_delay: float = 0.002,
        max_queue: int = 256,
    ) -> None:
        """Take what opens a file, and how images are put together; without `max_batch` as the device likes it best."""
        self._open = open_model
        self._max_batch, self._max_queue = max_batch, max_queue
        self._batcher = partial(Batcher, max_delay=max_delay, max_queue=max_queue)
        self._served: dict[str, Served] = {}
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._versions: dict[str, int] = {}
        self._leaving: list[Batcher] = []
        self._draining = False

    def load(self, path: Path, *, name: str | None = None) -> Served:
        """Open a model and serve it under a name, by default the file's stem; return it.

        A model that is served under that name goes on until the new one is ready, then what it has accepted is
        answered. Where the new one can't be opened, the old one stays. Raises BundleError, DeviceError, InputError.
        """
        name = path.stem if name is None else name
        if not name or "/" in name:
            raise InputError(f"{name!r} can't be a model's name: it stands in addresses; choose letters and digits")
        with self._loading:
            runner = self._open(path)
            with self._lock:
                if self._draining:
                    raise DrainingError("the service is stopping; it loads no model")
                version = self._versions.get(name, 0) + 1
                most = self._max_batch or min(runner.best_batch, self._max_queue)
                new = Served(name, version, runner, self._batcher(runner_all(runner), max_batch=most))
                old, self._served[name], self._versions[name] = self._served.get(name), new, version
                if old is not None:
                    self._retire(old)
            return new

    def unload(self, name: str) -> None:
        """Take a model away once all that it has accepted is answered; raises UnknownModelError."""
        with self._lock:
            old = self._served.pop(name, None)
            if old is None:
                raise self._unknown(name)
            self._retire(old)

    def get(self, name: str) -> Served:
        """Return a model; raises UnknownModelError with the names that there are."""
        found = self._served.get(name)
        if found is None:
            raise self._unknown(name)
        return found

    def names(self) -> list[str]:
        """Return the models' names, in the order in which they were loaded first."""
        return list(self._served)

    def submit(
        self, name: str, prepare: Callable[[Runner], Sequence[Batch]], *, deadline: float | None = None
    ) -> "tuple[Served, list[Future[Answer]]]":
        """Queue the levels that `prepare` makes for a model, and return the model that answers with its answers.

        Where that model is exchanged in between, they are prepared anew for the next one: a reload refuses nobody.
        Raises UnknownModelError, QueueFullError, and DrainingError where the whole service stops.
        """
        while True:
            if self._draining:
                raise DrainingError("the service is stopping; ask another one")
            served = self.get(name)
            try:
                return served, served.batcher.submit_all(prepare(served.runner), deadline=deadline)
            except DrainingError:
                if not self._draining and self._served.get(name) is served:
                    raise

    def drain(self, timeout: float | None = None) -> bool:
        """Take no more, and return whether all that was accepted is answered within so many seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        batchers = self._stop()
        for one in batchers:  # none takes more while another is waited for
            one.drain(0)
        return all(one.drain(None if end is None else max(0.0, end - time.monotonic())) for one in batchers)

    def close(self) -> None:
        """Take no more, and fail what still waits, also for models that were exchanged."""
        batchers = self._stop()
        with self._lock:
            self._served = {}
        for one in batchers:
            one.close()

    @property
    def draining(self) -> bool:
        """Whether no more is taken."""
        return self._draining

    def _stop(self) -> list[Batcher]:
        """Take no more; return all that may still have to answer."""
        with self._lock:
            self._draining = True
            return [*(served.batcher for served in self._served.values()), *self._leaving]

    def _retire(self, old: Served) -> None:
        """Let a model go in the background; the lock is held, so that it is never missed by a drain."""
        self._leaving.append(old.batcher)
        threading.Thread(target=self._leave, args=(old.batcher,), name=f"draining {old.name}", daemon=True).start()

    def _leave(self, batcher: Batcher) -> None:
        batcher.drain()
        batcher.close()
        with self._lock:
            self._leaving.remove(batcher)

    def _unknown(self, name: str) -> UnknownModelError:
        there = ", ".join(self._served) or "none"
        return UnknownModelError(f"no model named {name!r} is served; there are: {there}")


def runner_all(runner: Runner) -> Run:
    """Return what runs a batch through a model for every output that it has."""
    return lambda levels: runner.run(levels, runner.outputs)
