"""A real service in a process of its own, with a tiny model whose truth is known."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.inference.nets import LINEAR, make, noise

KEY = "a key that only a test would use"


@dataclass
class Server:
    """A service that runs."""

    address: str
    """`127.0.0.1:port`."""
    grpc: str
    process: "subprocess.Popen[str]"
    model: Path

    def url(self, path: str) -> str:
        return f"http://{self.address}{path}"

    def ask(
        self, path: str, data: bytes | None = None, headers: dict[str, str] | None = None, *, method: str | None = None
    ) -> "tuple[int, Any, dict[str, str]]":
        """Return the status, the JSON (or the text) and the headers of an answer."""
        kind = {"Content-Type": "application/octet-stream"} if data is not None else {}
        request = urllib.request.Request(self.url(path), data, kind | (headers or {}), method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, _values(answer.read()), dict(answer.headers)
        except urllib.error.HTTPError as error:
            return error.code, _values(error.read()), dict(error.headers)

    def memory(self) -> int:
        """Return the process's resident memory, in bytes."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) * 1024


def _values(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")


def png(seed: int = 0, size: tuple[int, int] = (40, 50)) -> bytes:
    done, data = cv2.imencode(".png", noise((*size, 1), seed=seed))
    assert done
    return data.tobytes()


def pixels(data: bytes) -> Any:
    found: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    return found[..., None]


@contextmanager
def server(
    folder: Path, *options: str, models: Sequence[Path] = (), env: dict[str, str] | None = None
) -> Iterator[Server]:
    """Give a service on free ports, with a made-up model where none is named; it has to end well."""
    model = models[0] if models else make(LINEAR["pool, flatten, gemm"], folder / "net.onnx").path
    command = [sys.executable, "-m", "imaging_ft", "serve", *map(str, models or [model]), "--port", "0"]
    log = (folder / "serve.log").open("w+")
    process = subprocess.Popen(
        [*command, "--grpc-port", "0", *options], stderr=log, text=True, env={**os.environ, **(env or {})}
    )
    try:
        http, grpc = _ports(process, folder / "serve.log")
        yield Server(f"127.0.0.1:{http}", f"127.0.0.1:{grpc}", process, model)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        log.close()


def lines(folder: Path) -> list[str]:
    """Return what the service wrote on stderr."""
    return (folder / "serve.log").read_text().splitlines()


def _ports(process: "subprocess.Popen[str]", log: Path) -> tuple[int, int]:
    while True:
        for line in log.read_text().splitlines():
            if line.startswith("serving "):
                http, grpc = line.rsplit(", gRPC on port ", 1)
                return int(http.rsplit(":", 1)[1]), int(grpc)
        assert process.poll() is None, log.read_text()
        time.sleep(0.02)
