"""What a service counts, in Prometheus' text format."""

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from imaging_ft.inference.batching import Answer
from imaging_ft.inference.models import Models

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_BATCHES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one service; a registry of its own, so that two in one process don't mix."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self._registry}
        self.requests = Counter("imaging_ft_requests_total", "Requests by outcome.", ["protocol", "code"], **own)
        self.in_flight = Gauge("imaging_ft_requests_in_flight", "Requests that are being answered.", **own)
        self.images = Counter("imaging_ft_images_total", "Images by what became of them.", ["model", "status"], **own)
        self.said = Counter("imaging_ft_said_total", "Images by the class that was said.", ["model", "label"], **own)
        self.queue = Histogram(
            "imaging_ft_queue_seconds", "From submission to batch.", ["model"], buckets=_SECONDS, **own
        )
        self.compute = Histogram("imaging_ft_compute_seconds", "That a batch ran.", ["model"], buckets=_SECONDS, **own)
        self.batch = Histogram(
            "imaging_ft_batch_images", "In the batch of an image.", ["model"], buckets=_BATCHES, **own
        )
        self.batches = Counter("imaging_ft_batches_total", "Batches that ran.", ["model"], **own)
        self.waiting = Gauge("imaging_ft_images_waiting", "Images that wait for a batch.", ["model"], **own)
        self.info = Gauge("imaging_ft_model_info", "1 for each model.", ["model", "version", "sha256", "device"], **own)

    def answered(self, model: str, answer: Answer) -> None:
        """Count what an image's batch took."""
        self.queue.labels(model).observe(answer.queued)
        self.compute.labels(model).observe(answer.computed)
        self.batch.labels(model).observe(answer.batch)
        self.batches.labels(model).inc(1 / answer.batch)  # each of its images counts a share

    def decided(self, model: str, status: str, labels: list[str]) -> None:
        """Count what was said of an image."""
        self.images.labels(model, status).inc()
        for label in labels:
            self.said.labels(model, label).inc()

    def text(self) -> bytes:
        """Return all of them as Prometheus reads them."""
        self.info.clear()
        self.waiting.clear()
        for name in self._models.names():
            served = self._models.get(name)
            self.waiting.labels(name).set(served.batcher.waiting)
            runner = served.runner
            self.info.labels(name, str(served.version), runner.sha256, runner.device.value).set(1)
        return generate_latest(self._registry)
