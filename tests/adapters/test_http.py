"""The HTTP service, as its clients meet it: the protocol by Triton's own client, uploads, limits, keys, and its end."""

import gzip
import json
import signal
import socket
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imaging_ft.inference.runner import Runner
from tests.adapters.serving import KEY, Server, lines, pixels, png, server
from tests.inference.nets import noise

triton = pytest.importorskip("tritonclient.http", reason="tritonclient[http] isn't installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Server]:
    with server(folder, "--max-body", "1", "--max-pixels", "1", "--audit", str(folder / "audit.jsonl")) as found:
        yield found


@pytest.fixture(scope="module")
def runner(served: Server) -> Runner:
    return Runner.open(served.model)


def infer(served: Server, given: Any, **options: Any) -> Any:
    with triton.InferenceServerClient(served.address) as client:
        image = triton.InferInput("image", given.shape, "UINT8")
        image.set_data_from_numpy(given, binary_data=options.pop("binary", True))
        return client.infer("net", [image], **options)


@pytest.mark.parametrize("binary", [True, False])
def test_tritons_client_gets_what_the_runner_gives_bit_for_bit(binary: bool, served: Server, runner: Runner) -> None:
    given = np.stack([noise((40, 50, 1), seed=seed) for seed in range(5)])
    wanted = triton.InferRequestedOutput("probabilities", binary_data=binary)
    found = infer(served, given, binary=binary, outputs=[wanted], request_id="scan 7")
    assert np.array_equal(found.as_numpy("probabilities"), runner.predict(list(given)))
    assert found.get_response()["id"] == "scan 7"
    best = infer(served, given, outputs=[triton.InferRequestedOutput("probabilities", class_count=2)])
    label = best.as_numpy("probabilities")[0][0].decode().split(":")
    assert label[1] == str(runner.predict(list(given))[0].argmax())


def test_tritons_client_finds_the_server_and_its_models(served: Server, runner: Runner) -> None:
    with triton.InferenceServerClient(served.address) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("net")
        assert not client.is_model_ready("other")
        assert client.get_server_metadata()["name"] == "imaging_ft"
        about = client.get_model_metadata("net")
        assert about["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 1]}]
        assert [output["name"] for output in about["outputs"]] == list(runner.outputs)
        assert client.get_model_repository_index() == [{"name": "net", "version": "1", "state": "READY", "reason": ""}]
        with pytest.raises(Exception, match="--allow-load"):
            client.load_model("net")


def test_an_upload_is_decided_as_predict_decides_it(served: Server, runner: Runner) -> None:
    data = png(3)
    code, found, headers = served.ask(
        "/v1/predict?heatmap=1", data, {"Content-Type": "image/png", "X-Request-Id": "a-1"}
    )
    assert code == 200
    assert headers["x-request-id"] == found["request_id"] == "a-1"
    (one,) = found["predictions"]
    (wanted,) = runner.predict([pixels(data)])
    assert list(one["probabilities"].values()) == pytest.approx(wanted.tolist())
    assert one["label"] == runner.bundle.names[int(wanted.argmax())]
    assert one["heatmap"].startswith("data:image/png;base64,")
    assert found["model_sha256"] == runner.sha256


def test_an_upload_without_a_query_gets_the_same_answer(served: Server) -> None:
    short, full = (served.ask(f"/v1/predict{query}", png(3), {"X-Request-Id": "a"}) for query in ("", "?model=net"))
    for _, found, _ in (short, full):
        assert set(found.pop("seconds")) == {"queue", "compute"}
    assert short[:2] == full[:2]
    changing = {"date", "content-length"}
    kept, wanted = ({k: v for k, v in headers.items() if k not in changing} for _, _, headers in (short, full))
    assert kept == wanted


def test_curl_sends_several_files_in_a_form(served: Server, tmp_path: Path) -> None:
    for seed in range(2):
        (tmp_path / f"{seed}.png").write_bytes(png(seed))
    files = [f"-Fimage=@{tmp_path / '0.png'}", f"-Fimage=@{tmp_path / '1.png'}"]
    done = subprocess.run(["curl", "-sS", *files, served.url("/v1/predict?model=net")], capture_output=True, check=True)
    assert len(json.loads(done.stdout)["predictions"]) == 2


def huge_png() -> bytes:
    """The header of a PNG that says 100,000 × 100,000."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


@pytest.mark.parametrize("query", ["", "?heatmap=0"])
@pytest.mark.parametrize(
    ("data", "headers", "code", "message"),
    [
        (b"", {}, 400, "the body is empty"),
        (png()[:60], {}, 422, "truncated"),
        (b"hello", {"Content-Type": "image/png"}, 422, "not a PNG, JPEG, TIFF"),
        (huge_png(), {}, 422, "over 1 megapixels: the header says 100000 x 100000"),
        (b"x" * (1 << 20) + b"x", {}, 413, "the body is over 1 MiB"),
        (gzip.compress(bytes(50 << 20)), {"Content-Encoding": "gzip"}, 413, "the body is over 1 MiB"),
        (gzip.compress(png())[:-9], {"Content-Encoding": "gzip"}, 400, "cut short"),
        (b"no gzip", {"Content-Encoding": "gzip"}, 400, "the body is no gzip"),
        (png(), {"Content-Encoding": "br"}, 415, "content-encoding 'br' is not read"),
        (png(), {"Content-Type": "text/html"}, 415, "content-type 'text/html' is not read"),
        (b"--x", {"Content-Type": "multipart/form-data; boundary=y"}, 400, "the form"),
        (b"--x", {"Content-Type": "multipart/form-data"}, 400, "the form"),
        (png(), {"X-Timeout-Seconds": "soon"}, 400, "is no number of seconds"),
        (png(), {"X-Timeout-Seconds": "1e-9"}, 504, "deadline"),
    ],
)
def test_a_bad_upload_gets_its_status_and_one_line_and_harms_no_other(
    data: bytes, headers: dict[str, str], code: int, message: str, query: str, served: Server
) -> None:
    typed = {"Content-Type": "application/octet-stream"} | headers
    found, values, _ = served.ask(f"/v1/predict{query}", data, typed)
    assert (found, list(values)) == (code, ["error"])
    assert message in values["error"]
    assert "\n" not in values["error"]
    assert served.ask("/v1/predict", png(), {"Content-Type": "image/png"})[0] == 200


def body(**changes: Any) -> bytes:
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 2, 2, 1], "data": [1, 2, 3, 4]} | changes
    return json.dumps({"inputs": [tensor]}).encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "the body is no JSON"),
        (b"[1]", "the body's JSON is no object"),
        (b"{}", "give the one tensor 'image'"),
        (body(name="pixels"), "the input is 'image' of UINT8"),
        (body(datatype="FP32"), "the input is 'image' of UINT8"),
        (body(shape=[1, 2, 2, 3]), "[-1, -1, -1, 1] is wanted"),
        (body(shape=[1, 0, 4, 1]), "is wanted"),
        (body(shape=[1, 2, 2, "1"]), "write whole numbers"),
        (body(shape=[1, 1 << 40, 1 << 40, 1]), "values for a tensor"),
        (body(shape=[65, 2, 2, 1]), "65 images at once, but at most 64"),
        (body(data=[1, 2, 3]), "3 values for a tensor"),
        (body(data=[1, 2, 3, 256]), "whole numbers from 0 to 255"),
        (body(data=[1, 2, 3, 0.5]), "whole numbers from 0 to 255"),
        (body(data=[1, 2, 3, float("nan")]), "whole numbers from 0 to 255"),
        (body(data=[[1, 2], [3]]), "data"),
        (body(data="abcd"), "not all of them numbers"),
        (body(parameters={"binary_data_size": 4}), "0 bytes follow the JSON"),
    ],
)
def test_a_wrong_tensor_is_told_in_one_line(data: bytes, message: str, served: Server) -> None:
    code, values, _ = served.ask("/v2/models/net/infer", data)
    assert code == 400, values
    assert message in values["error"]
    assert served.ask("/v2/models/net/infer", body())[0] == 200


@pytest.mark.parametrize(
    ("path", "method", "code"),
    [
        ("/v2/models/other", "GET", 404),
        ("/v2/models/net/versions/9", "GET", 404),
        ("/v1/predict?model=other", "POST", 404),
        ("/nowhere", "GET", 404),
        ("/v1/predict", "GET", 405),
        ("/v1/predict?heatmap=perhaps", "POST", 400),
        ("/v2/repository/models/net/unload", "POST", 403),
    ],
)
def test_a_wrong_address_is_told_in_one_line(path: str, method: str, code: int, served: Server) -> None:
    found, values, _ = served.ask(path, b"" if method == "POST" else None, method=method)
    assert (found, list(values)) == (code, ["error"])


def test_half_closed_and_slow_connections_harm_nobody(folder: Path) -> None:
    from imaging_ft.adapters import settings

    assert settings.Limits().body_seconds == 30
    with server(folder) as served:
        host, port = served.address.split(":")
        waiting = []
        for sent in (
            b"",
            b"POST /v1/predict HTTP/1.1\r\n",
            b"POST /v1/predict HTTP/1.1\r\nContent-Length: 99\r\n\r\nabc",
        ):
            client = socket.create_connection((host, int(port)))
            client.sendall(sent)
            waiting.append(client)
        half = socket.create_connection((host, int(port)))
        half.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nabc")
        half.shutdown(socket.SHUT_WR)
        assert served.ask("/v1/predict", png())[0] == 200
        for client in [*waiting, half]:
            client.close()
        assert served.ask("/v2/health/ready")[0] == 200


def test_the_metrics_tell_queue_and_compute_apart(served: Server) -> None:
    served.ask("/v1/predict", png())
    code, text, _ = served.ask("/metrics")
    assert code == 200
    for name in ("requests_total", "queue_seconds_bucket", "compute_seconds_bucket", "batch_images_sum", "said_total"):
        assert f"imaging_ft_{name}" in text
    assert 'imaging_ft_model_info{device="cpu",model="net"' in text


def test_logs_hold_a_line_a_request_and_nothing_of_the_image(served: Server, folder: Path) -> None:
    served.ask("/v1/predict", png(), {"X-Request-Id": "seen-in-the-log", "Content-Type": "image/png"})
    served.ask("/v1/predict", b"PatientName^Doe", {"X-Request-Id": "bad\r\nid"[:3]})
    found = [json.loads(line) for line in lines(folder) if line.startswith("{")]
    (one,) = [line for line in found if line.get("request") == "seen-in-the-log"]
    assert (one["method"], one["path"], one["code"]) == ("POST", "/v1/predict", 200)
    assert "Doe" not in "".join(lines(folder))


def test_each_answer_was_written_down_first(served: Server, folder: Path) -> None:
    served.ask("/v1/predict", png(), {"X-Request-Id": "audited-1"})
    text = (folder / "audit.jsonl").read_text()
    (record,) = [json.loads(line) for line in text.splitlines() if "audited-1" in line]
    assert record["status"] in {"ok", "rejected"}
    assert record["model_sha256"] == Runner.open(served.model).sha256
    done = subprocess.run(
        [sys.executable, "-m", "imaging_ft", "serve", "--check-audit", str(folder / "audit.jsonl")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "last chain" in done.stdout


def test_without_a_key_only_probes_and_the_page_are_answered(tmp_path: Path) -> None:
    with server(tmp_path, env={"IMAGING_FT_API_KEYS": f"{KEY},another key for tests"}) as served:
        for path in ("/v2/health/live", "/v2/health/ready", "/", "/assets/page.js"):
            assert served.ask(path)[0] == 200
        for path in ("/v1/models", "/v2", "/metrics", "/v2/models/net", "/openapi.json"):
            code, values, headers = served.ask(path)
            assert (code, headers["www-authenticate"]) == (401, "Bearer"), path
            assert "X-API-Key" in values["error"]
        assert served.ask("/assets/../v1/models")[0] == 404
        assert served.ask("/v1/models", headers={"Authorization": "Bearer wrong"})[0] == 401
        assert served.ask("/v1/models", headers={"Authorization": f"Bearer {KEY}"})[0] == 200
        assert served.ask("/v1/models", headers={"X-API-Key": "another key for tests"})[0] == 200


def test_more_than_can_wait_is_refused_with_a_time_to_try_again(tmp_path: Path) -> None:
    with server(tmp_path, "--max-queue", "1", "--max-batch", "1", "--max-requests", "3") as served:
        codes: list[tuple[int, Any]] = []

        def ask() -> None:
            for _ in range(20):
                code, _, headers = served.ask("/v1/predict", png(1, (400, 400)))
                codes.append((code, headers.get("retry-after")))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {code for code, _ in codes} == {200, 429}
        assert all(int(after) >= 1 for code, after in codes if code == 429)
        assert served.ask("/v1/predict", png())[0] == 200


def test_sigterm_answers_what_was_accepted_and_ends_well(tmp_path: Path) -> None:
    with server(tmp_path) as served:
        codes: list[int] = []
        begun = threading.Event()

        def ask() -> None:
            while True:
                try:
                    code, _, _ = served.ask("/v1/predict", png(1, (600, 600)))
                except OSError:
                    return  # refused before it was accepted
                codes.append(code)
                begun.set()
                if code != 200:
                    return

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        assert begun.wait(30)
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(30) == 0
        for thread in threads:
            thread.join(30)
        assert set(codes) <= {200, 503}
        begins = [json.loads(line) for line in lines(tmp_path) if '"path": "/v1/predict"' in line]
        assert len([one for one in begins if one["code"] == 200]) == codes.count(200)


def test_a_model_is_loaded_anew_where_that_is_allowed(tmp_path: Path) -> None:
    with server(tmp_path, "--allow-load") as served, triton.InferenceServerClient(served.address) as client:
        client.load_model("net")
        assert client.get_model_metadata("net")["versions"] == ["2"]
        client.unload_model("net")
        assert not client.is_model_ready("net")
        client.load_model("net")
        assert client.is_model_ready("net")
        with pytest.raises(Exception, match="was never loaded here"):
            client.load_model("other")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "without API keys anyone there could ask"),
        (["--tls-cert", "a.pem"], "belong together"),
        (["none.onnx"], "none.onnx: no such model file"),
        (["--api-keys", "none.txt"], "the API keys can't be read"),
        (["--report", "none.json"], "none.json: can't be read"),
    ],
)
def test_a_wrong_command_ends_with_one_line(options: list[str], message: str, served: Server) -> None:
    command = [sys.executable, "-m", "imaging_ft", "serve", str(served.model), "--port", "0", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_taken_port_is_one_line(served: Server) -> None:
    port = served.address.split(":")[1]
    command = [sys.executable, "-m", "imaging_ft", "serve", str(served.model), "--port", port]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "can't listen there" in done.stderr
