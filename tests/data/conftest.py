"""Small real data sets in a temporary folder, and a real HTTP server that can misbehave."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

Rows = Sequence[Sequence[str]]


def write_image(path: Path, seed: int) -> Path:
    """Write an 8 x 8 gray image whose bytes depend on the seed alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    path.write_bytes(cv2.imencode(path.suffix.lower() or ".png", pixels)[1].tobytes())
    return path


class Maker:
    """Writes folders and manifests of small images; every image has its own bytes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._seed = 0

    def image(self, name: str) -> Path:
        self._seed += 1
        return write_image(self.root / name, self._seed)

    def folder(self, counts: dict[str, int]) -> Path:
        """Write `count` images into each folder, such as `train/cat`."""
        for place, count in counts.items():
            for index in range(count):
                self.image(f"{place}/{index:02}.png")
        return self.root

    def manifest(self, rows: Rows, *, header: str = "image,label", name: str = "manifest.csv") -> Path:
        """Write a CSV manifest, and each image that it names and that isn't there yet."""
        for row in rows:
            if row[0] and not (self.root / row[0]).exists():
                self.image(row[0])
        path = self.root / name
        path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n", encoding="utf-8")
        return path

    def good(self, *, per_class: int = 6) -> list[list[str]]:
        """Return the rows of a data set with nothing wrong: two classes."""
        return [[f"{label}{index}.png", label] for label in ("cat", "dog") for index in range(per_class)]


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    return Maker(tmp_path / "set")


@pytest.fixture
def listing() -> Callable[[Path], dict[str, tuple[int, int]]]:
    """A function that returns every path below a folder with its size and modification time."""

    def list_all(folder: Path) -> dict[str, tuple[int, int]]:
        return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in [folder, *folder.rglob("*")]}

    return list_all


@dataclass
class Served:
    """What a path of the test server gives, and how badly."""

    content: bytes = b""
    etag: str = '"1"'
    ranges: bool = True
    """Whether Range requests are honoured."""
    cut_after: list[int] = field(default_factory=list[int])
    """For each coming request, how many bytes are sent before the connection is cut."""
    length: int | None = None
    """What Content-Length says, where it lies."""
    statuses: list[int] = field(default_factory=list[int])
    """Error codes for the coming requests."""
    moved_to: str = ""
    hold_after: int | None = None
    """After this many bytes the server waits until `released` is set."""
    released: threading.Event = field(default_factory=threading.Event)


class Server:
    """A real HTTP server on 127.0.0.1; `asked` keeps each request's path and Range header."""

    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        self.asked: list[tuple[str, str | None]] = []
        files, asked = self.files, self.asked

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                served = files.get(path)
                asked.append((path, self.headers.get("Range")))
                self.close_connection = True
                if served is None or served.statuses:
                    self.answer(served.statuses.pop(0) if served else 404, {"Content-Length": "0"})
                elif served.moved_to:
                    self.answer(302, {"Location": served.moved_to, "Content-Length": "0"})
                else:
                    self.send(served)

            def do_CONNECT(self) -> None:
                asked.append((self.path, None))
                self.close_connection = True
                self.answer(403, {"Content-Length": "0"})

            def send(self, served: Served) -> None:
                start = 0
                wanted = self.headers.get("Range", "")
                same = self.headers.get("If-Range") in {None, served.etag}
                if served.ranges and wanted and same:
                    start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                    if start >= len(served.content):
                        self.answer(416, {"Content-Range": f"bytes */{len(served.content)}", "Content-Length": "0"})
                        return
                body = served.content[start:]
                headers = {"Content-Length": str(served.length if served.length is not None else len(body))}
                headers |= {"ETag": served.etag} if served.etag else {}
                end = len(served.content)
                headers |= {"Content-Range": f"bytes {start}-{end - 1}/{end}"} if start else {}
                self.answer(206 if start else 200, headers)
                cut = served.cut_after.pop(0) if served.cut_after else len(body)
                if served.hold_after is not None:
                    self.wfile.write(body[: served.hold_after])
                    served.released.wait(30)
                    body, cut = body[served.hold_after :], cut - served.hold_after
                self.wfile.write(body[:cut])

            def answer(self, code: int, headers: dict[str, str]) -> None:
                self.send_response(code)
                for name, value in {**headers, "Connection": "close"}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base class names it so
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that was killed has gone: that's what some tests are about

        self._http = Quiet(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def serve(self, name: str, content: bytes, **behaviour: Any) -> Served:
        """Serve bytes under a name, and return what can be changed about it."""
        self.files[f"/{name}"] = Served(content, **behaviour)
        return self.files[f"/{name}"]

    def url(self, name: str) -> str:
        return f"http://{self.address}/{name}"

    def stop(self) -> None:
        for served in self.files.values():
            served.released.set()
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.stop()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place for data sets, instead of the user's own."""
    monkeypatch.setenv("IMAGING_FT_DATA", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "own"))
    return tmp_path / "home"
