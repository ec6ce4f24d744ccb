"""The service between clients and models: a stop, a bad file beside good ones, memory, failures, its document."""

import asyncio
import http.client
import io
import json
import logging
import signal
import threading
import time
import tracemalloc
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from imaging_ft.adapters.answers import told
from imaging_ft.adapters.application import create_app
from imaging_ft.adapters.auth import Keys
from imaging_ft.adapters.logs import logged_as_json
from imaging_ft.adapters.service import Service
from imaging_ft.adapters.settings import Limits
from imaging_ft.errors import ExpiredError, InputError
from imaging_ft.inference.models import Models
from imaging_ft.inference.runner import Runner
from tests.adapters.limited import begun, limited
from tests.adapters.serving import KEY, png
from tests.inference.nets import LINEAR, make

SECRET = "PatientName^Doe"


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(LINEAR["pool, flatten, gemm"], tmp_path_factory.mktemp("service") / "net.onnx").path


def serving(net: Path, **limits: Any) -> Service:
    models = Models()
    models.load(net)
    return Service(models, Limits(**limits))


@pytest.fixture
def service(net: Path) -> Iterator[Service]:
    found = serving(net)
    yield found
    found.close()


def asking(service: Service, keys: Keys | None = None) -> httpx.AsyncClient:
    app: Any = create_app(service, keys=keys)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://here")


def in_time(test: Coroutine[Any, Any, None]) -> None:
    """Run a test that would wait for ever where what it is about is missing."""

    async def run() -> None:
        async with asyncio.timeout(60):
            await test

    asyncio.run(run())


def test_sigterm_answers_what_is_under_way_and_tells_others_to_go_elsewhere(tmp_path: Path) -> None:
    with limited(tmp_path) as served:
        line, rest = begun(served)
        served.process.send_signal(signal.SIGTERM)
        while served.ask("/v2/health/ready")[0] == 200:  # until the signal has arrived
            pass
        for path, data in (("/v1/predict", png()), ("/v2/models/net", None), ("/v2/health/ready", None)):
            code, values, headers = served.ask(path, data)
            assert (code, headers["retry-after"]) == (503, "1"), path
            assert "stopping" in values["error"]
        assert served.ask("/v2/health/live")[0] == 200
        assert served.ask("/metrics")[0] == 200
        code, values = line.send(rest).answer()
        assert code == 200
        assert values["predictions"][0]["status"] in {"ok", "rejected"}
        assert served.process.wait(30) == 0


def test_a_second_signal_waits_for_nobody(tmp_path: Path) -> None:
    with limited(tmp_path, drain_seconds=3600, body_seconds=3600) as served:
        line, _ = begun(served)
        served.process.send_signal(signal.SIGTERM)
        while served.ask("/v2/health/ready")[0] == 200:
            pass
        served.process.send_signal(signal.SIGTERM)
        served.process.wait(30)
        assert line.answer() == (503, {"error": "the service ended before this was answered; ask another one"})
    text = (tmp_path / "serve.log").read_text()
    assert "ending before all was answered" in text
    assert all(json.loads(line) for line in text.splitlines())


def test_one_bad_file_in_a_form_fails_none_of_those_beside_it(service: Service) -> None:
    good, bad = png(1), png(2)[:60]

    async def run() -> None:
        async with asking(service) as client:
            alone = (await client.post("/v1/predict", files=[("image", ("a.png", good))])).json()
            files = [("image", (name, data)) for name, data in (("a.png", good), ("b.png", bad), ("c.png", good))]
            answer = await client.post("/v1/predict", files=files)
            assert answer.status_code == 200
            first, second, third = answer.json()["predictions"]
            assert first == third == alone["predictions"][0]
            assert (second["status"], second["label"], second["probabilities"]) == ("error", None, {})
            assert "truncated" in second["reason"]
            assert set(second) == set(first)
            none = await client.post("/v1/predict", files=[("image", ("b.png", bad))] * 2)
            assert [one["status"] for one in none.json()["predictions"]] == ["error", "error"]
            text = (await client.get("/metrics")).text
            assert 'imaging_ft_images_total{model="net",status="error"} 3.0' in text

    in_time(run())


def test_uploads_that_wait_hold_no_decoded_image(net: Path) -> None:
    go = threading.Event()

    def opened(path: Path) -> Runner:
        runner = Runner.open(path)
        run = runner.run  # after the self-test of its opening

        def held(*given: Any) -> Any:
            assert go.wait(30)
            return run(*given)

        runner.run = held  # type: ignore[method-assign] - the real one, but not before the test says so
        return runner

    models = Models(opened)
    models.load(net)
    service = Service(models, Limits(decoders=1))
    side, count = 1500, 8
    done, data = cv2.imencode(".png", np.zeros((side, side), np.uint8))
    assert done

    async def run() -> None:
        tracemalloc.start()
        asked = [
            asyncio.create_task(service.predict_file("net", data.tobytes(), request_id="", heatmap=True))
            for _ in range(count)
        ]
        batcher = models.get("net").batcher
        while batcher.waiting + 1 < count:
            await asyncio.sleep(0)
        await service.in_pool(lambda: None)  # the last one's thread has let go
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        go.set()
        found = await asyncio.gather(*asked)
        assert all(one.heatmap for one in found)
        assert held < 2 * side * side

    try:
        in_time(run())
    finally:
        tracemalloc.stop()
        go.set()
        service.close()


def test_what_is_too_late_for_a_thread_never_starts(net: Path) -> None:
    service = serving(net, decoders=1)
    go = threading.Event()

    async def run() -> None:
        busy = asyncio.create_task(service.in_pool(lambda: go.wait(30)))
        await asyncio.sleep(0)  # it has the one thread
        with pytest.raises(ExpiredError, match="deadline"):
            await service.predict_file("net", b"no image", request_id="", deadline=time.monotonic() + 0.05)
        go.set()
        assert await busy
        await service.in_pool(lambda: None)
        assert 'status="error"' not in service.metrics.text().decode()  # as it would be, had it been decoded

    try:
        in_time(run())
    finally:
        go.set()
        service.close()


class Broken(Service):
    """A service with a fault that nobody foresaw."""

    def card(self, name: str) -> Any:
        raise ZeroDivisionError(SECRET)


def test_a_failure_that_nobody_foresaw_is_one_line_and_shows_nothing_of_the_request(net: Path) -> None:
    models = Models()
    models.load(net)
    service, log = Broken(models, Limits()), io.StringIO()

    async def run() -> None:
        async with asking(service) as client:
            answer = await client.get("/v1/models", headers={"X-Request-Id": "broken-1"})
            assert answer.status_code == 500
            assert answer.json() == {"error": "something went wrong here; the log has it under this request's id"}
            assert answer.headers["x-request-id"] == "broken-1"
            assert (await client.get("/v2/health/live")).status_code == 200

    with logged_as_json(log):
        in_time(run())
        logging.getLogger("some.library").warning("one line\n%s", SECRET)
    service.close()
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    (error,) = [line for line in lines if line["level"] == "error"]
    assert (error["request"], error["error"]) == ("broken-1", "ZeroDivisionError")
    assert any(place.startswith("test_service.py:") for place in error["at"])
    assert {"logger": "some.library", "message": "one line"}.items() <= lines[-1].items()
    assert SECRET not in log.getvalue()


def test_a_client_is_not_told_where_files_lie(service: Service, net: Path) -> None:
    assert (
        told(InputError(f"{net}: gives logits that are no numbers"), service) == "net: gives logits that are no numbers"
    )


def test_a_page_of_another_site_can_ask_nothing_of_a_service_without_keys(service: Service) -> None:
    async def run() -> None:
        async with asking(service) as client:
            for site, code in (("cross-site", 403), ("same-origin", 200), ("none", 200)):
                answer = await client.post("/v1/predict", content=png(), headers={"Sec-Fetch-Site": site})
                assert answer.status_code == code, site

    in_time(run())


def test_a_large_tensor_is_read_by_another_thread_than_the_one_that_answers_probes(net: Path) -> None:
    service = serving(net, decoders=1)
    go = threading.Event()
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 300, 300, 1], "data": [*[1] * 89_999, "one"]}

    async def run() -> None:
        busy = asyncio.create_task(service.in_pool(lambda: go.wait(30)))
        async with asking(service) as client:
            large = asyncio.create_task(client.post("/v2/models/net/infer", content=json.dumps({"inputs": [tensor]})))
            for _ in range(20):
                await asyncio.sleep(0)
                assert (await client.get("/v2/health/live")).status_code == 200
            assert not large.done()
            go.set()
            assert (await large).status_code == 400
        assert await busy

    try:
        in_time(run())
    finally:
        go.set()
        service.close()


def test_the_document_says_how_keys_are_sent_where_they_are_wanted(service: Service) -> None:
    async def run() -> None:
        async with asking(service, Keys([KEY])) as client:
            document = (await client.get("/openapi.json", headers={"X-API-Key": KEY})).json()
            assert set(document["components"]["securitySchemes"]) == {"bearer", "key"}
            assert document["paths"]["/v1/predict"]["post"]["security"] == [{"bearer": []}, {"key": []}]
            assert "security" not in document["paths"]["/v2/health/live"]["get"]
        async with asking(service) as client:
            open_to_all = (await client.get("/openapi.json")).json()
            assert "security" not in json.dumps(open_to_all)
            predict = open_to_all["paths"]["/v1/predict"]["post"]
            assert set(predict["responses"]) == {
                *("200", "400", "401", "403", "404", "408", "413", "415", "422", "429", "503", "504")
            }

    in_time(run())


def test_a_closed_connection_in_the_middle_of_an_upload_harms_nobody(tmp_path: Path) -> None:
    with limited(tmp_path, requests=2) as served:
        for _ in range(5):
            line, _ = begun(served)
            line.close()
        host, port = served.address.split(":")
        client = http.client.HTTPConnection(host, int(port), timeout=60)
        codes: set[int] = set()
        while 200 not in codes:  # the places of those who left are free again, as soon as that is seen
            client.request("POST", "/v1/predict", png())
            answer = client.getresponse()
            answer.read()
            codes.add(answer.status)
        assert codes <= {200, 429}
