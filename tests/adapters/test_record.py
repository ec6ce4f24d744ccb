"""What a service writes down before it answers: all of a request at once, and no longer than the client waits."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imaging_ft.adapters import audit
from imaging_ft.adapters.audit import AuditLog, check_audit
from imaging_ft.adapters.service import Service
from imaging_ft.adapters.settings import Limits
from imaging_ft.errors import ExpiredError
from imaging_ft.inference.models import Models
from tests.adapters.serving import pixels, png
from tests.inference.nets import LINEAR, make


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    models = Models()
    models.load(make(LINEAR["pool, flatten, gemm"], tmp_path / "net.onnx").path)
    made = Service(models, Limits(), audit=AuditLog.open(tmp_path / "audit.jsonl"))
    yield made
    made.close()


def test_the_images_of_a_request_share_a_write(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, count = audit._sync, [0]

    def counted(file: object) -> None:
        count[0] += 1
        time.sleep(0.05)  # a disk on which one write an image would show
        real(file)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(audit, "_sync", counted)
    images = [pixels(png(seed)) for seed in range(12)]
    asyncio.run(service.infer("net", images, request_id="twelve"))
    lines = (tmp_path / "audit.jsonl").read_text().splitlines()
    assert [json.loads(line).get("request") for line in lines[1:]] == ["twelve"] * 12
    assert len({json.loads(line)["input_sha256"] for line in lines[1:]}) == 12
    assert count[0] <= 2


def test_a_disk_that_stalls_ends_at_the_deadline_and_the_record_is_still_written(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, go = audit._sync, threading.Event()

    def stalled(file: object) -> None:
        assert go.wait(30)
        real(file)  # pyright: ignore[reportArgumentType]

    asyncio.run(service.predict_file("net", png(), request_id="first"))
    monkeypatch.setattr(audit, "_sync", stalled)
    with pytest.raises(ExpiredError, match="no answer before the deadline"):
        asyncio.run(service.predict_file("net", png(), request_id="late", deadline=time.monotonic() + 0.3))
    go.set()
    found = asyncio.run(service.predict_file("net", png(), request_id="after"))
    assert found.prediction.status in {"ok", "rejected"}
    lines = (tmp_path / "audit.jsonl").read_text().splitlines()
    assert [json.loads(line).get("request") for line in lines[1:]] == ["first", "late", "after"]
    assert check_audit(tmp_path / "audit.jsonl").problems == ()
