"""How calls over gRPC end that are under way: a stop, a drain, too many at once, a message that never comes."""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from imaging_ft.adapters.application import create_app
from imaging_ft.adapters.grpc_server import GrpcServer
from imaging_ft.adapters.server import Address
from imaging_ft.adapters.service import Service
from imaging_ft.adapters.settings import Limits
from imaging_ft.errors import InputError
from imaging_ft.inference.models import Models
from imaging_ft.inference.runner import Runner
from tests.inference.nets import LINEAR, make, noise

grpc: Any = pytest.importorskip("grpc", reason="grpcio isn't installed")
triton: Any = pytest.importorskip("tritonclient.grpc", reason="tritonclient[grpc] isn't installed")
asking: Any = pytest.importorskip("tritonclient.grpc.aio", reason="tritonclient[grpc] isn't installed")

IMAGES = np.stack([noise((40, 50, 1), seed=seed) for seed in range(5)])
INFER = "/inference.GRPCInferenceService/ModelInfer"
CHECK = "/grpc.health.v1.Health/Check"
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"


def tensor(values: np.ndarray) -> Any:
    given = triton.InferInput("image", values.shape, "UINT8")
    given.set_data_from_numpy(values)
    return given


class Held:
    """A service in this process whose network waits for `go`."""

    def __init__(self, path: Path, **limits: Any) -> None:
        self.go = threading.Event()
        self.running = threading.Event()
        models = Models(self._open)
        models.load(path)
        self.service = Service(models, Limits(**limits))

    def _open(self, path: Path) -> Runner:
        runner = Runner.open(path)
        run = runner.run  # after the self-test of its opening

        def held(*given: Any) -> Any:
            self.running.set()
            assert self.go.wait(30)
            return run(*given)

        runner.run = held  # type: ignore[method-assign] - the real one, but not before the test says so
        return runner

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[tuple[GrpcServer, Any]]:
        found = await GrpcServer.start(self.service, Address(grpc_port=0))
        async with asking.InferenceServerClient(f"127.0.0.1:{found.port}") as client:
            yield found, client
        self.go.set()
        await found.stop(0)
        self.service.close()


def in_flight(service: Service) -> float:
    (family,) = service.metrics.in_flight.collect()
    return family.samples[0].value


def in_time(test: Coroutine[Any, Any, None]) -> None:
    """Run a test that would wait for ever where what it is about is missing."""

    async def run() -> None:
        async with asyncio.timeout(60):
            await test

    asyncio.run(run())


def code_of(error: object) -> str:
    return str(getattr(error, "status", lambda: error)()).rpartition(".")[2]


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(LINEAR["pool, flatten, gemm"], tmp_path_factory.mktemp("held") / "net.onnx").path


def test_a_stop_answers_what_was_accepted_and_ends_streams_and_watches(net: Path) -> None:
    held = Held(net)

    async def run() -> None:
        async with held.serving() as (found, client), grpc.aio.insecure_channel(f"127.0.0.1:{found.port}") as channel:
            watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
            assert await watch.read() == SERVING
            stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")()
            await stream.wait_for_connection()
            accepted = asyncio.create_task(client.infer("net", [tensor(IMAGES)]))
            await asyncio.to_thread(held.running.wait, 20)
            stopped = asyncio.create_task(found.stop(20))
            assert await watch.read() == NOT_SERVING
            assert await watch.read() is grpc.aio.EOF
            assert await stream.code() is grpc.StatusCode.UNAVAILABLE
            late = await asyncio.gather(client.infer("net", [tensor(IMAGES)]), return_exceptions=True)
            assert code_of(late[0]) == "UNAVAILABLE"
            assert not accepted.done()
            held.go.set()
            answer = await accepted
            assert np.array_equal(answer.as_numpy("probabilities"), Runner.open(net).predict(list(IMAGES)))
            await stopped

    in_time(run())


def test_a_draining_service_is_not_ready_and_takes_nothing(net: Path) -> None:
    held = Held(net)
    held.go.set()

    async def run() -> None:
        async with held.serving() as (found, client), grpc.aio.insecure_channel(f"127.0.0.1:{found.port}") as channel:
            assert await client.is_server_ready()
            assert await channel.unary_unary(CHECK)(b"\x0a\x03net") == SERVING
            held.service.models.drain(10)
            assert not await client.is_server_ready()
            assert await client.is_server_live()
            assert await channel.unary_unary(CHECK)(b"") == NOT_SERVING
            with pytest.raises(triton.InferenceServerException, match="stopping") as caught:
                await client.infer("net", [tensor(IMAGES)])
            assert code_of(caught.value) == "UNAVAILABLE"

    in_time(run())


def test_more_than_is_allowed_at_once_is_refused_and_what_was_accepted_is_answered(net: Path) -> None:
    held = Held(net, requests=2)

    async def run() -> None:
        async with held.serving() as (_, client):
            accepted = [asyncio.create_task(client.infer("net", [tensor(IMAGES)])) for _ in range(2)]
            while in_flight(held.service) < 2:
                await asyncio.sleep(0)
            with pytest.raises(
                triton.InferenceServerException, match="2 requests are being answered already"
            ) as caught:
                await client.infer("net", [tensor(IMAGES)])
            assert code_of(caught.value) == "RESOURCE_EXHAUSTED"
            assert await client.is_server_ready()
            app: Any = create_app(held.service)
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as beside:
                assert (await beside.get("/v1/models")).status_code == 429  # one count for both
            held.go.set()
            answers = await asyncio.gather(*accepted)
            assert all(answer.as_numpy("probabilities").shape == (5, 3) for answer in answers)
            await client.infer("net", [tensor(IMAGES)])

    in_time(run())


def test_a_message_that_never_comes_is_given_up(net: Path) -> None:
    held = Held(net, body_seconds=0.05)
    held.go.set()

    async def run() -> None:
        async with held.serving() as (found, client), grpc.aio.insecure_channel(f"127.0.0.1:{found.port}") as channel:
            call = channel.stream_unary(INFER)()
            await call.wait_for_connection()
            assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert "didn't arrive within 0.05 s" in await call.details()
            await client.infer("net", [tensor(IMAGES)])

    in_time(run())


def test_a_port_that_is_taken_is_refused(net: Path) -> None:
    held = Held(net)

    async def run() -> None:
        async with held.serving() as (found, _):
            with pytest.raises(InputError, match="choose another --grpc-port"):
                await GrpcServer.start(held.service, Address(grpc_port=found.port))

    in_time(run())
