"""The one path that every protocol takes: decode, prepare, queue, decide, count, record."""

import asyncio
import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from imaging_ft.adapters.audit import AuditLog
from imaging_ft.adapters.heat import heat_png
from imaging_ft.adapters.metrics import Metrics
from imaging_ft.adapters.pending import Pending
from imaging_ft.adapters.settings import Limits
from imaging_ft.bundle import SALIENCY, SEPARATOR
from imaging_ft.errors import ExpiredError, InputError, UnknownModelError
from imaging_ft.image import decode_image
from imaging_ft.inference.activation import Activation, over_image
from imaging_ft.inference.batching import Answer
from imaging_ft.inference.models import Models, Served
from imaging_ft.inference.network import Batch
from imaging_ft.inference.predictions import Prediction, decided
from imaging_ft.inference.runner import Runner
from imaging_ft.types import FloatImage, Json, Pixels

T = TypeVar("T")
LOAD_OFF = "loading and unloading is off; start the service with --allow-load"
_LATE = "no answer before the deadline; ask for less at once, or allow more time"


@dataclass(frozen=True)
class Predicted:
    """What a service says of one image."""

    served: Served
    prediction: Prediction
    answer: Answer
    heatmap: str | None
    """A PNG in a data URL, where it was asked for and there is a class to show it for."""

    def as_json(self) -> Json:
        """Return the prediction for a client."""
        bundle, found = self.served.runner.bundle, self.prediction
        values = dict(zip(bundle.names, found.probabilities or (), strict=True))
        return {
            "status": found.status,
            "label": found.label,
            "labels": labels_of(found),
            "probability": found.probability,
            "probabilities": values,
            "thresholds": bundle.thresholds,
            "reason": found.reason,
            **({"heatmap": self.heatmap} if self.heatmap is not None else {}),
        }


class Service:
    """Models behind a queue, with what is decided, counted and recorded around them."""

    def __init__(
        self, models: Models, limits: Limits, *, audit: AuditLog | None = None, reports: dict[str, Json] | None = None
    ) -> None:
        self.models = models
        self.limits = limits
        self.metrics = Metrics(models)
        self.audit = audit
        self.reports = reports or {}
        """What a model's report says of its worst conditions, by the model's SHA-256."""
        self.paths: dict[str, Path] = {name: models.get(name).runner.path for name in models.names()}
        """Where each model was loaded from, also once it is unloaded."""
        self.stopping = False
        """Set once it answers only what it has accepted."""
        self.inside = 0
        """Requests that were accepted and are not answered yet, over HTTP and gRPC; probes aside."""
        self._pool = ThreadPoolExecutor(limits.decoders, thread_name_prefix="decode")
        self._maps: dict[str, Activation] = {}
        self._mapping = threading.Lock()

    async def predict_file(
        self, name: str, data: bytes, *, request_id: str, heatmap: bool = False, deadline: float | None = None
    ) -> Predicted:
        """Return what a model says of an image file's bytes.

        `deadline` is a time of `time.monotonic`. Raises ImageError, UnknownModelError, QueueFullError, ExpiredError,
        DrainingError, and InputError where this image can't be run.
        """
        deadline = self._deadline(deadline)
        given: list[Batch] = []
        digests: list[str] = []

        def levels(runner: Runner) -> list[Batch]:
            digests[:] = self._digests([data])
            given[:] = [runner.levels(self._decoded(data))]
            return given

        served, (answer,) = await self._answers(name, levels, deadline, images=1)
        prediction = self._decided(served, given[0], answer)
        found = None
        if heatmap:
            found = await self._in_time(lambda: self._heatmap(served, data, prediction, answer), deadline)
        await self._record(served, [prediction], digests, request_id, deadline)
        return Predicted(served, prediction, answer, found)

    async def infer(
        self, name: str, images: Sequence[Any], *, request_id: str, deadline: float | None = None
    ) -> tuple[Served, list[Answer]]:
        """Return a model's answers for images as arrays, in their order; raises as `predict_file` does.

        They are stored images [height, width, channels], or where the host prepares them, levels [channels, height,
        width].
        """
        deadline = self._deadline(deadline)
        given: list[Batch] = []
        digests: list[str] = []

        def levels(runner: Runner) -> list[Batch]:
            digests[:] = self._digests(np.ascontiguousarray(image).data for image in images)
            given[:] = [runner.levels(image) if inside(runner) else runner.checked(image) for image in images]
            return given

        served, answers = await self._answers(name, levels, deadline, images=len(images))
        predictions = [self._decided(served, one, answer) for one, answer in zip(given, answers, strict=True)]
        await self._record(served, predictions, digests, request_id, deadline)
        return served, answers

    async def in_pool(self, work: Callable[[], T]) -> T:
        """Return what a function gives that is run by one of the threads that decode."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def card(self, name: str) -> Json:
        """Return what a model says of itself, for a client that shows it; raises UnknownModelError."""
        served = self.models.get(name)
        runner = served.runner
        bundle = runner.bundle
        values = bundle.model_dump(mode="json", by_alias=True, exclude={"golden", "provenance", "seen"})
        data = bundle.provenance.get("dataset")
        return {
            "name": name,
            "version": str(served.version),
            "sha256": runner.sha256,
            "device": runner.device.value,
            "outputs": list(runner.outputs),
            **values,
            "dataset": data.get("name") if isinstance(data, dict) else None,
            "report": self.reports.get(runner.sha256),
        }

    @property
    def ending(self) -> bool:
        """Whether it takes no more."""
        return self.stopping or self.models.draining

    def versioned(self, name: str, version: str | None) -> Served:
        """Return a model in a version, where one is named; raises UnknownModelError."""
        served = self.models.get(name)
        if version and version != str(served.version):
            raise UnknownModelError(f"{name!r} is served in version {served.version} alone, not {version!r}")
        return served

    def index(self) -> list[Json]:
        """Return each model that was loaded, with its version and whether it answers."""
        there = self.models.names()
        return [
            {"name": name, "version": str(self.models.get(name).version), "state": "READY", "reason": ""}
            if name in there
            else {"name": name, "version": "", "state": "UNAVAILABLE", "reason": "unloaded"}
            for name in self.paths
        ]

    def load(self, name: str) -> Served:
        """Load a model anew from where it was loaded before; raises InputError where no such was."""
        if name not in self.paths:
            raise InputError(f"{name!r} was never loaded here; start the service with its file")
        return self.models.load(self.paths[name], name=name)

    def close(self) -> None:
        """Fail what still waits, and end the threads."""
        self.models.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self.audit is not None:
            self.audit.close()

    def _deadline(self, asked: float | None) -> float:
        own = time.monotonic() + self.limits.answer_seconds
        return own if asked is None else min(own, asked)

    async def _in_time(self, work: Callable[[], T], deadline: float) -> T:
        """Return what a function gives, run as `in_pool` does; raises ExpiredError where that takes too long.

        What waits for a thread then never starts.
        """
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                return await self.in_pool(work)
        except TimeoutError as error:
            raise ExpiredError(_LATE) from error

    async def _answers(
        self, name: str, levels: Callable[[Runner], Sequence[Batch]], deadline: float, *, images: int
    ) -> tuple[Served, list[Answer]]:
        """Return the model that answers and its answers, for what a thread that decodes makes by `levels`."""
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                pending = Pending(lambda: self.models.submit(name, levels, deadline=deadline), self._pool)
                served, answers = await pending.wait()
        except TimeoutError as error:
            raise ExpiredError(_LATE) from error
        except UnknownModelError:
            raise
        except InputError:
            self.metrics.images.labels(name, "error").inc(images)
            raise
        for answer in answers:
            self.metrics.answered(name, answer)
        return served, answers

    def _decided(self, served: Served, levels: Batch, answer: Answer) -> Prediction:
        found = decided(served.runner.bundle, "", levels, answer.outputs)
        self.metrics.decided(served.name, found.status, labels_of(found))
        return found

    def _digests(self, inputs: Iterable[Any]) -> list[str]:
        """Return each input's SHA-256, where it is to be recorded."""
        return [] if self.audit is None else [hashlib.sha256(one).hexdigest() for one in inputs]

    async def _record(
        self,
        served: Served,
        predictions: Sequence[Prediction],
        digests: Sequence[str],
        request_id: str,
        deadline: float,
    ) -> None:
        """Write predictions down before they are answered, all of a request at once; what can't be isn't said."""
        if self.audit is None:
            return
        names = served.runner.bundle.names
        written = [
            asyncio.wrap_future(
                self.audit.append(
                    {
                        "request": request_id,
                        "model": served.name,
                        "model_sha256": served.runner.sha256,
                        "input_sha256": digest,
                        "status": found.status,
                        "label": found.label,
                        "probabilities": dict(zip(names, found.probabilities or (), strict=True)),
                        "reason": found.reason,
                    }
                )
            )
            for found, digest in zip(predictions, digests, strict=True)
        ]
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await asyncio.gather(*written)
        except TimeoutError as error:  # a disk that stalls; the record is still written
            raise ExpiredError(_LATE) from error

    def _decoded(self, data: bytes) -> Pixels:
        """Return an upload's image: held only by a thread that decodes, or those that wait would fill the memory."""
        return decode_image(data, name="the upload", most_pixels=self.limits.pixels)

    def _heatmap(self, served: Served, data: bytes, found: Prediction, answer: Answer) -> str | None:
        values = found.probabilities
        if found.status != "ok" or not values:
            return None
        image = self._decoded(data)
        label = int(np.argmax(values))
        if SALIENCY in answer.outputs:
            cells: Any = answer.outputs[SALIENCY]
            bundle = served.runner.bundle
            positive: FloatImage = np.maximum(over_image(cells, image.shape[0], image.shape[1], bundle.input), 0)
            return heat_png(positive / max(float(positive.max()), 1e-12))
        runner = served.runner
        return heat_png(self._map_of(runner).map(image, label))

    def _map_of(self, runner: Runner) -> Activation:
        """Return what draws a model's maps, opened once; that of a model which has gone is let go."""
        with self._mapping:
            found = self._maps.get(runner.sha256)
            if found is None:
                found = Activation.open(runner.path, runner.bundle, threads=1, sha256=runner.sha256)
                served = {self.models.get(name).runner.sha256 for name in self.models.names()}
                self._maps = {sha256: kept for sha256, kept in self._maps.items() if sha256 in served}
                self._maps[runner.sha256] = found
            return found


def inside(runner: Runner) -> bool:
    """Return whether a model takes stored images, and not levels that its host prepares."""
    return runner.bundle.graph.preprocessing == "inside"


def labels_of(found: Prediction) -> list[str]:
    """Return the classes that are said to be there."""
    return found.label.split(SEPARATOR) if found.label else []
