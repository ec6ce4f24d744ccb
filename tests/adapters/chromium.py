"""Chromium over its DevTools pipe: a page is used as a person would use it, and looked at."""

import base64
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

CHROMIUM = next((found for name in ("chromium", "chromium-browser") if (found := shutil.which(name))), None)
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # no other host is there, as behind a firewall
)


class Page:
    """A tab."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = write, read
        self._ids = count(1)
        self._left = b""
        self._session: str | None = None
        self.requests: list[str] = []
        """Addresses that the page asked for."""
        self.errors: list[str] = []
        """What its console complained of."""

    def start(self, width: int, height: int, *, dark: bool) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            self.call(f"{domain}.enable")
        self.size(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def size(self, width: int, height: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def open(self, address: str) -> None:
        self.call("Page.navigate", url=address)
        self.until("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """Return a JavaScript expression's value."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, script: str) -> None:
        """Wait until an expression is true."""
        turns = "let left = 6000; const turn = () => new Promise((go) => setTimeout(go, 5));"
        never = f"if (!left--) throw new Error({json.dumps(f'never true: {script}')});"
        self.run(f"(async () => {{ {turns} while (!({script})) {{ {never} await turn(); }} }})()")

    def choose(self, selector: str, *files: Path) -> None:
        """Choose files as the dialog of an input would."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def press(self, key: str, code: int) -> None:
        """Press a key on the keyboard."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def picture(self, path: Path) -> None:
        """Write a screenshot of the whole page."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def call(self, method: str, **parameters: Any) -> Any:
        """Return what a DevTools method gives."""
        number = next(self._ids)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def _next(self) -> Any:
        while b"\0" not in self._left:
            part = os.read(self._read, 1 << 16)
            assert part, "Chromium has gone"
            self._left += part
        message, _, self._left = self._left.partition(b"\0")
        return json.loads(message)

    def _note(self, event: Any) -> None:
        values = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(values["request"]["url"])
        elif event.get("method") == "Log.entryAdded":
            self.errors.append(values["entry"]["text"])
        elif event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(values["exceptionDetails"]))


@contextmanager
def browser(*, width: int = 1280, height: int = 900, dark: bool = False) -> Iterator[Page]:
    """Give a tab of a browser with a fresh profile."""
    assert CHROMIUM is not None
    there, write = os.pipe()
    read, back = os.pipe()
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [CHROMIUM, *OPTIONS, f"--user-data-dir={profile}", "--remote-debugging-pipe"]

        def connect() -> None:
            """Put the pipes where Chromium looks for them: 3 and 4."""
            own = os.dup(there), os.dup(back)
            os.dup2(own[0], 3)
            os.dup2(own[1], 4)

        process = subprocess.Popen(
            command,
            pass_fds=(3, 4),
            preexec_fn=connect,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(there)
        os.close(back)
        try:
            page = Page(write, read)
            page.start(width, height, dark=dark)
            yield page
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            os.close(write)
            os.close(read)
