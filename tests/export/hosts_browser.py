"""Chromium, driven as a person would use the page: files go into its inputs, what it shows comes back."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

CHROMIUM = next((found for name in ("chromium", "chromium-browser") if (found := shutil.which(name))), None)
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # no other host is there, as behind a firewall
)
LIMIT = 90
PROBE = """<!doctype html><body style="margin:0">
<iframe id="page" src="/browser/index.html" style="width:WIDTHpx;height:HEIGHTpx;border:0"></iframe>
<img src="/hold" alt="">
<script type="module">
const names = NAMES;
const told = [];
const idle = async (main) => {
  while (main.getAttribute('aria-busy') !== 'false') await new Promise((go) => setTimeout(go, 2));
};
const give = async (page, name, place) => {
  const files = new DataTransfer();
  files.items.add(new File([await (await fetch(`/given/${place}`)).blob()], name));
  const input = page.getElementById(name.endsWith('.onnx') ? 'model' : 'picture');
  input.files = files.files;
  input.dispatchEvent(new Event('change'));
  await idle(page.querySelector('main'));
  const shown = (id) => !page.getElementById(id).closest('[hidden]');
  const text = (id) => shown(id) ? page.getElementById(id).textContent : null;
  const canvas = page.getElementById('canvas');
  return {
    error: text('error'),
    status: text('status'),
    label: text('label'),
    probability: shown('label') ? Number(page.getElementById('probability').dataset.value) : null,
    classes: Array.from(page.querySelectorAll('#classes tr'), (row) => row.innerText.split(/\\s+/)),
    heat: shown('heat'),
    width: page.documentElement.scrollWidth,
    size: [canvas.height, canvas.width],
    pixels: place === names.length - 1 && shown('canvas')
      ? Array.from(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data) : null,
  };
};
try {
  const frame = document.getElementById('page');
  while (!frame.contentDocument?.getElementById('facts')) await new Promise((go) => setTimeout(go, 2));
  await idle(frame.contentDocument.querySelector('main'));
  for (const [place, name] of names.entries()) told.push(await give(frame.contentDocument, name, place));
} finally {
  await fetch('/told', { method: 'POST', body: JSON.stringify(told) });
}
</script>"""


@dataclass
class Site:
    """What is served beside the static files, and what the probe tells of the page."""

    probe: bytes
    given: Sequence[Path]
    told: list[dict[str, Any]] | None = None
    done: Event = field(default_factory=Event)


class Handler(SimpleHTTPRequestHandler):
    """Static files. `/hold` is answered once `/told` was posted, so that the browser counts as loading until then."""

    def __init__(self, *args: Any, site: Site, **more: Any) -> None:
        self.site = site
        super().__init__(*args, **more)

    def do_GET(self) -> None:
        if self.path == "/probe":
            self._send(self.site.probe, "text/html")
        elif self.path.startswith("/given/"):
            self._send(self.site.given[int(self.path.removeprefix("/given/"))].read_bytes(), "application/octet-stream")
        elif self.path == "/hold":
            self.site.done.wait(LIMIT)
            self.send_error(404)
        else:
            super().do_GET()

    def do_POST(self) -> None:
        self.site.told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()
        self.site.done.set()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def show(
    folder: Path, given: Sequence[Path], *, width: int = 1280, screenshot: Path | None = None
) -> list[dict[str, Any]]:
    """Return what the page `folder/browser/index.html` shows after each of the files, given to it in this order."""
    names = json.dumps([path.name for path in given])
    probe = PROBE.replace("WIDTH", str(width)).replace("HEIGHT", "1200").replace("NAMES", names)
    site = Site(probe.encode(), given)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, site=site, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        command = [str(CHROMIUM), *OPTIONS, f"--user-data-dir={folder / 'profile'}", f"--window-size={width},1200"]
        command += [f"--screenshot={screenshot}" if screenshot else "--dump-dom"]
        command += [f"http://127.0.0.1:{server.server_port}/probe"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=True)
        server.shutdown()
    assert site.told is not None, done.stderr
    assert len(site.told) == len(given), done.stderr
    return site.told
