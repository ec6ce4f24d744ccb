"""What one client may take of the service: bytes, time, connections; and that it is told, not cut off."""

import gzip
import http.client
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.adapters.limited import Line, begun, limited, upload
from tests.adapters.serving import Server, png
from tests.inference.nets import noise

GET = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
HEAD = 4096
BODY = 1 << 16


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("limits")
    with limited(folder, body_seconds=0.3, head_bytes=HEAD, body_bytes=BODY, requests=4) as found:
        yield found


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that answers one request at a time, and whose patience isn't what ends anything."""
    with limited(tmp_path_factory.mktemp("patient"), body_seconds=3600, body_bytes=BODY, requests=1) as found:
        yield found


def test_a_body_that_comes_too_slowly_gets_408(served: Server) -> None:
    line = Line(served).send(upload(100) + b"abc")
    code, values = line.answer()
    assert code == 408
    assert values == {"error": "the body didn't arrive within 0.3 s; send it again"}
    assert line.ended()
    assert served.ask("/v1/predict", png())[0] == 200


@pytest.mark.parametrize("sent", [b"GET /v2 HT", b"GET /v2 HTTP/1.1\r\nHost: x\r\nX-A"])
def test_a_head_that_comes_too_slowly_gets_408(sent: bytes, served: Server) -> None:
    line = Line(served).send(sent)
    assert line.answer()[0] == 408
    assert line.ended()
    again = Line(served).send(GET)
    assert again.answer()[0] == 200
    assert again.send(sent).answer()[0] == 408


def test_a_connection_that_says_nothing_is_closed(served: Server) -> None:
    assert Line(served).ended()


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nX-A: "])
def test_a_head_that_never_ends_gets_431(start: bytes, served: Server) -> None:
    line = Line(served).send(start + b"x" * (HEAD + 1 - len(start)))
    code, values = line.answer()
    assert (code, values) == (431, {"error": f"the request's head is over {HEAD} bytes"})
    assert line.ended()


@pytest.mark.parametrize("sent", [b"NONSENSE\r\n\r\n", upload(1).replace(b": 1", b": \xb2")])
def test_what_is_no_http_gets_400_in_json(sent: bytes, served: Server) -> None:
    code, values = Line(served).send(sent).answer()
    assert (code, list(values)) == (400, ["error"])


@pytest.mark.parametrize("how", [{}, {"Connection": "close"}])
def test_a_client_that_sends_far_too_much_still_hears_that_it_is_too_much(how: dict[str, str], served: Server) -> None:
    host, port = served.address.split(":")
    client = http.client.HTTPConnection(host, int(port), timeout=60)
    used: set[Any] = set()
    for _ in range(2):
        client.request("POST", "/v1/predict", bytes(20 << 20), {"Content-Type": "image/png"} | how)
        used.add(client.sock)
        answer = client.getresponse()
        assert answer.status == 413
        assert b"the body is over" in answer.read()
    assert len(used) == (2 if how else 1)  # it stays open for the next request, where the client wants that


def test_a_body_without_a_length_is_stopped_where_it_is_too_large(served: Server) -> None:
    host, port = served.address.split(":")
    client = http.client.HTTPConnection(host, int(port), timeout=60)
    client.request("POST", "/v1/predict", iter([bytes(1 << 15)] * 8), {"Content-Type": "image/png"})
    assert client.getresponse().status == 413


def test_a_client_that_waits_to_be_asked_for_its_body_never_sends_it(patient: Server) -> None:
    line = Line(patient).send(upload(20 << 20, "Expect: 100-continue"))
    assert line.answer()[0] == 413
    assert line.ended()


def test_a_body_that_goes_on_for_ever_after_its_answer_is_cut_off(served: Server) -> None:
    line = Line(served).send(upload(1 << 40))

    def send_for_ever() -> None:
        while True:
            line.send(bytes(1 << 16))

    with pytest.raises(ConnectionError):
        send_for_ever()


@pytest.mark.parametrize(
    ("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", lambda data: data)]
)
def test_a_body_may_be_as_large_as_the_limit_and_no_larger(coding: str, pack: Any, served: Server) -> None:
    for size, code in ((BODY, 422), (BODY + 1, 413)):
        assert served.ask("/v1/predict", pack(bytes(size)), {"Content-Encoding": coding})[0] == code


def test_two_requests_in_one_go_are_both_answered_in_order(served: Server) -> None:
    data = png()
    line = Line(served).send(upload(len(data)) + data + GET + upload(0))
    assert [line.answer()[0] for _ in range(3)] == [200, 200, 400]


def test_requests_at_once_are_bounded_but_not_what_watches_them(patient: Server) -> None:
    line, rest = begun(patient)
    code, values, headers = patient.ask("/v1/predict", png())
    assert (code, headers["retry-after"]) == (429, "1")
    assert values["error"].startswith("1 requests are being answered already")
    assert patient.ask("/v2/health/ready")[0] == 200
    code, text, _ = patient.ask("/metrics")
    assert code == 200
    assert 'imaging_ft_requests_total{code="429",protocol="http"} 1.0' in text
    assert line.send(rest).answer()[0] == 200
    assert patient.ask("/v1/predict", png())[0] == 200


def test_connections_are_bounded_and_those_that_are_open_go_on(tmp_path: Path) -> None:
    with limited(tmp_path, requests=1) as served:
        there = [Line(served) for _ in range(4)]
        assert all(line.send(GET).answer()[0] == 200 for line in there)
        code, values = Line(served).answer()
        assert (code, values) == (429, {"error": "too many connections are open already; try again"})
        assert all(line.send(GET).answer()[0] == 200 for line in there)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_tritons_client_may_pack_what_it_sends(algorithm: str, served: Server) -> None:
    triton = pytest.importorskip("tritonclient.http", reason="tritonclient[http] isn't installed")
    image = triton.InferInput("image", [2, 40, 50, 1], "UINT8")
    image.set_data_from_numpy(np.stack([noise((40, 50, 1), seed=seed) for seed in range(2)]))
    with triton.InferenceServerClient(served.address) as client:
        plain = client.infer("net", [image]).as_numpy("logits")
        packed = client.infer("net", [image], request_compression_algorithm=algorithm).as_numpy("logits")
    assert np.array_equal(plain, packed)
