"""A real service in a process of its own, with limits that no option of the command sets."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.adapters.serving import Server, png
from tests.inference.nets import LINEAR, make

_PROGRAM = """
import json, sys
from pathlib import Path
from imaging_ft.adapters.server import Address, serve
from imaging_ft.adapters.service import Service
from imaging_ft.adapters.settings import Limits
from imaging_ft.inference.models import Models

models = Models()
models.load(Path(sys.argv[1]))
service = Service(models, Limits(**json.loads(sys.argv[2])))
serve(service, Address(port=0), ready=lambda port, _: print(port, flush=True))
"""


@contextmanager
def limited(folder: Path, **limits: Any) -> Iterator[Server]:
    """Give a service with these limits; it has to end well where it was not ended before."""
    model = make(LINEAR["pool, flatten, gemm"], folder / "net.onnx").path
    command = [sys.executable, "-c", _PROGRAM, str(model), json.dumps(limits)]
    with (folder / "serve.log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            assert port, (folder / "serve.log").read_text()
            yield Server(f"127.0.0.1:{port}", "", process, model)
        finally:
            process.terminate()
            try:
                process.communicate(timeout=60)
            finally:
                process.kill()  # one that doesn't end fails the test, but doesn't outlive it


class Line:
    """A connection of one's own, byte by byte."""

    def __init__(self, served: Server) -> None:
        host, port = served.address.split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=60)

    def send(self, data: bytes) -> "Line":
        self.socket.sendall(data)
        return self

    def answer(self) -> tuple[int, Any]:
        """Return one answer's status and its JSON; 0 where the connection ended without one."""
        text = b""
        while b"\r\n\r\n" not in text:
            more = self.socket.recv(1)
            if not more:
                return 0, text
            text += more
        head = text.decode().lower()
        left = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        body = b""
        while len(body) < left:
            body += self.socket.recv(left - len(body))
        return int(head.split()[1]), json.loads(body)

    def ended(self) -> bool:
        """Return whether the other side sends no more, once it doesn't."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        self.socket.close()


def upload(length: int, *more: str, path: str = "/v1/predict") -> bytes:
    """Return the head of an upload."""
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Content-Type: image/png", f"Content-Length: {length}", *more]
    return "\r\n".join([*lines, "", ""]).encode()


def begun(served: Server) -> tuple[Line, bytes]:
    """Return a connection whose upload was accepted and hasn't come whole, with what is left of it."""
    data = png()
    line = Line(served).send(upload(len(data), "Expect: 100-continue"))
    assert line.socket.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
    return line.send(data[:50]), data[50:]
