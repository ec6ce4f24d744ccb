"""The service over gRPC, as Triton's own client meets it: numbers, refusals, keys and limits."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import imaging_ft.adapters
from imaging_ft.adapters.audit import check_audit
from imaging_ft.adapters.grpc_messages import DESCRIPTORS, messages
from imaging_ft.inference.runner import Runner
from tests.adapters.serving import KEY, Server, lines, server
from tests.inference.nets import noise

grpc = pytest.importorskip("grpc", reason="grpcio isn't installed")
triton: Any = pytest.importorskip("tritonclient.grpc", reason="tritonclient[grpc] isn't installed")

IMAGES = np.stack([noise((40, 50, 1), seed=seed) for seed in range(5)])
INFER = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("grpc")


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Server]:
    """Give a service that has to be up, and to have failed nowhere, after every test that asks it."""
    with server(folder, "--max-body", "1", "--audit", str(folder / "audit.jsonl")) as found:
        yield found
        assert found.process.poll() is None
        assert triton.InferenceServerClient(found.grpc).is_server_ready()
    assert found.process.returncode == 0
    assert not [line for line in lines(folder) if "traceback" in line.lower()]


@pytest.fixture
def client(served: Server) -> Iterator[Any]:
    with triton.InferenceServerClient(served.grpc) as found:
        yield found


@pytest.fixture(scope="module")
def runner(served: Server) -> Runner:
    return Runner.open(served.model)


def tensor(values: np.ndarray, *, name: str = "image", datatype: str = "UINT8") -> Any:
    given = triton.InferInput(name, values.shape, datatype)
    given.set_data_from_numpy(values)
    return given


def by_hand(**changes: Any) -> Any:
    """Return a request as another client may write it, with values one by one."""
    request = triton.service_pb2.ModelInferRequest(model_name="net")
    given = request.inputs.add(name="image", datatype="UINT8", shape=changes.get("shape", [1, 4, 4, 1]))
    given.contents.uint_contents.extend(changes.get("values", range(16)))
    if "raw" in changes:
        request.raw_input_contents.append(changes["raw"])
    return request


def refusal(ask: Callable[[], object]) -> tuple[str, str]:
    """Return the status and the message that a call ends with."""
    with pytest.raises((triton.InferenceServerException, grpc.RpcError)) as caught:
        ask()
    error: Any = caught.value
    if isinstance(error, grpc.RpcError):
        return error.code().name, error.details()
    return error.status().rpartition(".")[2], error.message()


def test_tritons_client_gets_what_the_runner_gives_bit_for_bit(client: Any, runner: Runner) -> None:
    found = client.infer("net", [tensor(IMAGES)], request_id="scan 7")
    levels = np.stack([runner.levels(image) for image in IMAGES])
    for name, values in runner.run(levels, runner.outputs).items():
        assert np.array_equal(found.as_numpy(name), values)
    assert np.array_equal(found.as_numpy("probabilities"), runner.predict(list(IMAGES)))
    response = found.get_response()
    assert (response.id, response.model_name, response.model_version) == ("scan 7", "net", "1")


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_compressed_request_gets_the_same(coding: str, client: Any, runner: Runner) -> None:
    found = client.infer("net", [tensor(IMAGES)], compression_algorithm=coding)
    assert np.array_equal(found.as_numpy("probabilities"), runner.predict(list(IMAGES)))


def test_values_one_by_one_give_the_same_as_bytes(client: Any, runner: Runner) -> None:
    response = client._client_stub.ModelInfer(by_hand(values=range(0, 256, 16)))
    image = np.arange(0, 256, 16, dtype=np.uint8).reshape(4, 4, 1)
    assert [output.name for output in response.outputs] == list(runner.outputs)
    said = np.frombuffer(response.raw_output_contents[1], "<f4").reshape(response.outputs[1].shape)
    assert np.array_equal(said, runner.predict([image]))


def test_only_the_outputs_that_are_asked_for_come_and_as_classes_where_asked(client: Any, runner: Runner) -> None:
    wanted = triton.InferRequestedOutput("probabilities")
    found = client.infer("net", [tensor(IMAGES)], outputs=[wanted])
    assert found.as_numpy("logits") is None
    best = client.infer("net", [tensor(IMAGES)], outputs=[triton.InferRequestedOutput("probabilities", class_count=2)])
    labels = best.as_numpy("probabilities")
    assert labels.shape == (5, 2)
    value, place, label = labels[0][0].decode().split(":")
    expected = runner.predict(list(IMAGES))[0]
    assert (int(place), label) == (expected.argmax(), runner.bundle.names[expected.argmax()])
    assert float(value) == pytest.approx(float(expected.max()), abs=1e-6)


def test_a_stream_is_answered_in_order_and_goes_on_after_what_is_refused(client: Any, runner: Runner) -> None:
    got: list[tuple[Any, Any]] = []
    client.start_stream(lambda result, error: got.append((result, error)))
    for place, name in enumerate(["net", "other", "net"]):
        client.async_stream_infer(name, [tensor(IMAGES[place : place + 1])], request_id=str(place))
    client.stop_stream()
    assert [result and result.get_response().id for result, _ in got] == ["0", None, "2"]
    assert "no model named 'other'" in str(got[1][1])
    assert np.array_equal(got[2][0].as_numpy("probabilities"), runner.predict([IMAGES[2]]))


def test_tritons_client_finds_the_server_and_its_models(client: Any, runner: Runner) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("net")
    assert not client.is_model_ready("other")
    assert not client.is_model_ready("net", "2")
    assert client.get_server_metadata().name == "imaging_ft"
    about = client.get_model_metadata("net", "1")
    assert [(one.name, one.datatype, list(one.shape)) for one in about.inputs] == [("image", "UINT8", [-1, -1, -1, 1])]
    assert [(one.name, list(one.shape)) for one in about.outputs] == [("logits", [-1, 3]), ("probabilities", [-1, 3])]
    config = client.get_model_config("net").config
    assert (config.max_batch_size, list(config.input[0].dims), config.input[0].data_type) == (64, [-1, -1, 1], 2)
    metadata = runner.bundle.to_metadata()
    assert config.parameters["imaging_ft.labels"].string_value == metadata["imaging_ft.labels"]
    assert not {"imaging_ft.provenance", "imaging_ft.seen"}.intersection(config.parameters)
    (listed,) = client.get_model_repository_index().models
    assert (listed.name, listed.version, listed.state) == ("net", "1", "READY")


def test_the_statistics_count_images(client: Any) -> None:
    before = client.get_inference_statistics("net").model_stats[0]
    client.infer("net", [tensor(IMAGES)])
    after = client.get_inference_statistics().model_stats[0]
    assert after.inference_count - before.inference_count == len(IMAGES)
    assert 1 <= after.execution_count - before.execution_count <= len(IMAGES)
    assert after.inference_stats.compute_infer.ns > before.inference_stats.compute_infer.ns


REFUSED: dict[str, tuple[Callable[[Any], object], str, str]] = {
    "another model": (
        lambda client: client.infer("other", [tensor(IMAGES)]),
        "NOT_FOUND",
        "no model named 'other' is served; there are: net",
    ),
    "another version": (
        lambda client: client.infer("net", [tensor(IMAGES)], "9"),
        "NOT_FOUND",
        "is served in version 1 alone",
    ),
    "another model's metadata": (lambda client: client.get_model_metadata("other"), "NOT_FOUND", "no model named"),
    "one image without a batch": (
        lambda client: client.infer("net", [tensor(IMAGES[0])]),
        "INVALID_ARGUMENT",
        "shape [40, 50, 1], but [-1, -1, -1, 1] is wanted",
    ),
    "no pixels": (
        lambda client: client.infer("net", [tensor(IMAGES[:, :0])]),
        "INVALID_ARGUMENT",
        "shape [5, 0, 50, 1]",
    ),
    "more pixels than a number can count": (
        lambda client: client._client_stub.ModelInfer(by_hand(shape=[1, 1 << 32, 1 << 32, 1], values=())),
        "INVALID_ARGUMENT",
        "0 values",
    ),
    "another datatype": (
        lambda client: client.infer("net", [tensor(IMAGES.astype(np.float32), datatype="FP32")]),
        "INVALID_ARGUMENT",
        "is 'image' of UINT8, but 'image' of FP32 was sent",
    ),
    "another name": (
        lambda client: client.infer("net", [tensor(IMAGES, name="scan")]),
        "INVALID_ARGUMENT",
        "but 'scan' of UINT8 was sent",
    ),
    "two inputs": (
        lambda client: client.infer("net", [tensor(IMAGES)] * 2),
        "INVALID_ARGUMENT",
        "give the one tensor 'image'",
    ),
    "another output": (
        lambda client: client.infer("net", [tensor(IMAGES)], outputs=[triton.InferRequestedOutput("age")]),
        "INVALID_ARGUMENT",
        "no output 'age'; there are: logits, probabilities",
    ),
    "too many images": (
        lambda client: client.infer("net", [tensor(noise((65, 4, 4, 1)))]),
        "INVALID_ARGUMENT",
        "65 images at once, but at most 64",
    ),
    "too few values": (
        lambda client: client._client_stub.ModelInfer(by_hand(values=range(15))),
        "INVALID_ARGUMENT",
        "15 values",
    ),
    "values that are no levels": (
        lambda client: client._client_stub.ModelInfer(by_hand(values=[300] * 16)),
        "INVALID_ARGUMENT",
        "from 0 to 255",
    ),
    "values twice": (
        lambda client: client._client_stub.ModelInfer(by_hand(raw=bytes(16))),
        "INVALID_ARGUMENT",
        "send one of them",
    ),
    "shared memory": (lambda client: client.register_system_shared_memory("a", "b", 4), "UNIMPLEMENTED", ""),
    "loading": (lambda client: client.load_model("net"), "PERMISSION_DENIED", "start the service with --allow-load"),
    "unloading": (lambda client: client.unload_model("net"), "PERMISSION_DENIED", "with --allow-load"),
    "a deadline in the request": (
        lambda client: client.infer("net", [tensor(IMAGES)], timeout=1),
        "DEADLINE_EXCEEDED",
        "no answer before the deadline",
    ),
    "a deadline of the call": (
        lambda client: client.infer("net", [tensor(IMAGES)], client_timeout=1e-6),
        "DEADLINE_EXCEEDED",
        "",
    ),
    "a message over the limit": (
        lambda client: client.infer("net", [tensor(noise((1, 1025, 1025, 1)))]),
        "RESOURCE_EXHAUSTED",
        "larger than max",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_said_and_the_next_is_answered(name: str, client: Any, runner: Runner) -> None:
    ask, code, why = REFUSED[name]
    status, message = refusal(lambda: ask(client))
    assert status == code
    assert why in message
    assert "\n" not in message
    found = client.infer("net", [tensor(IMAGES)])
    assert np.array_equal(found.as_numpy("probabilities"), runner.predict(list(IMAGES)))


def test_a_message_is_measured_once_it_is_unpacked(served: Server) -> None:
    bomb = tensor(np.zeros((1, 9000, 9000, 1), np.uint8))
    with triton.InferenceServerClient(served.grpc) as client:
        client.infer("net", [tensor(IMAGES)])
        before = served.memory()
        status, message = refusal(lambda: client.infer("net", [bomb], compression_algorithm="gzip"))
        assert (status, "larger than max" in message) == ("RESOURCE_EXHAUSTED", True)
        assert served.memory() - before < 40 << 20


@pytest.mark.parametrize("data", [b"\xff" * 40, b"\x0a\x05ab", b"\x2a\xff\xff\xff\x7f"])
def test_bytes_that_are_no_message_are_refused(data: bytes, served: Server) -> None:
    with grpc.insecure_channel(served.grpc) as channel:
        status, message = refusal(lambda: channel.unary_unary(INFER)(data))
        assert (status, "no ModelInferRequest" in message) == ("INVALID_ARGUMENT", True)
        assert "ended before" in refusal(lambda: channel.stream_unary(INFER)(iter(())))[1]


def test_an_answer_is_in_the_audit_log_under_the_id_that_it_names(client: Any, folder: Path, served: Server) -> None:
    client.infer("net", [tensor(IMAGES[:2])], headers={"x-request-id": "ward-3.17"})
    text = (folder / "audit.jsonl").read_text()
    assert text.count('"request":"ward-3.17"') == 2
    assert not check_audit(folder / "audit.jsonl").problems
    assert any('"ward-3.17"' in line and INFER in line for line in lines(folder))


def test_a_service_with_keys_and_tls_answers_who_has_one_and_loads_where_allowed(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl isn't installed")
    cert, key, keys = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "keys"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key, "-out", cert]
    subprocess.run([*map(str, new), *subject], check=True, capture_output=True)
    keys.write_text(f"{KEY}\n")
    options = ["--tls-cert", str(cert), "--tls-key", str(key), "--api-keys", str(keys), "--allow-load"]
    with server(tmp_path, *options) as found:
        address = found.grpc.replace("127.0.0.1", "localhost")
        with triton.InferenceServerClient(address, ssl=True, root_certificates=str(cert)) as client:
            assert client.is_server_live()
            assert client.is_server_ready()
            for headers in ({}, {"authorization": "Bearer no"}, {"x-api-key": KEY[:-1]}):
                status, message = refusal(
                    lambda headers=headers: client.infer("net", [tensor(IMAGES)], headers=headers)
                )
                assert (status, "authorization: Bearer" in message) == ("UNAUTHENTICATED", True)
                assert refusal(lambda headers=headers: client.load_model("net", headers))[0] == "UNAUTHENTICATED"
            known = {"x-api-key": KEY}
            client.infer("net", [tensor(IMAGES)], headers={"authorization": f"Bearer {KEY}"})
            client.load_model("net", known)
            assert client.infer("net", [tensor(IMAGES)], headers=known).get_response().model_version == "2"
            client.unload_model("net", known)
            assert not client.is_model_ready("net", headers=known)
            (listed,) = client.get_model_repository_index(known).models
            assert (listed.state, listed.reason) == ("UNAVAILABLE", "unloaded")
            assert refusal(lambda: client.load_model("other", known))[0] == "INVALID_ARGUMENT"
            client.load_model("net", known)
            client.infer("net", [tensor(IMAGES)], headers=known)


def test_every_message_is_tritons_field_by_field() -> None:
    from tritonclient.grpc import model_config_pb2, service_pb2

    def fields(made: Any) -> dict[str, tuple[Any, ...]]:
        return {
            field.name: (field.number, field.type, field.is_repeated, field.message_type and field.message_type.name)
            for field in made.DESCRIPTOR.fields
        }

    for name, made in messages().items():
        if made.DESCRIPTOR.file.package != "inference":
            continue
        theirs: Any = service_pb2
        for part in made.DESCRIPTOR.full_name.split(".")[1:]:
            theirs = getattr(theirs, part, None) or getattr(model_config_pb2, part)
        assert fields(made).items() <= fields(theirs).items(), name


def test_the_descriptors_are_what_protoc_makes_of_the_proto_files(tmp_path: Path) -> None:
    protoc: Any = pytest.importorskip("grpc_tools.protoc", reason="grpcio-tools isn't installed")
    folder = Path(imaging_ft.adapters.__file__ or "").parent
    out = tmp_path / DESCRIPTORS
    arguments = ["protoc", f"-I{folder}", f"--descriptor_set_out={out}", "oip.proto", "health.proto"]
    assert protoc.main(arguments) == 0
    assert out.read_bytes() == (folder / DESCRIPTORS).read_bytes()
