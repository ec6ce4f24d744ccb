"""The runner and the service beside plain onnxruntime and LitServe: `python -m benchmarks.serving MODEL.onnx`.

All ways take turns in one run, a few seconds each and in another order every round, so that what else the machine does
falls on all of them; what counts are the ratios within a round, of which the median is told.
Needs wrk for the load, and LitServe for the peer (`pip install litserve python-multipart`; `--peer-python` names an
interpreter that has them); without them these parts are left out, and said so. Pictures are JPEGs of noise over blobs,
or `--pictures`.
"""
# ruff: noqa: T201 - a command prints

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from imaging_ft.image import decode_image
from imaging_ft.inference.batching import Batcher
from imaging_ft.inference.bench import bench
from imaging_ft.inference.models import runner_all
from imaging_ft.inference.runner import Runner

IN_PROCESS, OURS, PEER = "in process", "imaging_ft", "litserve"
CLIENTS = 32
FEW, OVERLOAD = 4, 256
BATCH = 32
SETTLE = 1.0
"""Seconds in which a server gets done what the last clients asked and no longer wait for."""
IMPORT = "import time; t = time.perf_counter(); import imaging_ft.inference.runner; print(time.perf_counter() - t)"
LUA = """
local bodies = {{}}
for name in io.popen('ls {folder}/*.jpg'):lines() do
  local file = io.open(name, 'rb')
  bodies[#bodies + 1] = '--edge\\r\\nContent-Disposition: form-data; name="image"; filename="a.jpg"\\r\\n'
    .. 'Content-Type: image/jpeg\\r\\n\\r\\n' .. file:read('*a') .. '\\r\\n--edge--\\r\\n'
  file:close()
end
local turn = 0
request = function()
  turn = turn % #bodies + 1
  return wrk.format('POST', nil, {{['Content-Type'] = 'multipart/form-data; boundary=edge'}}, bodies[turn])
end
"""


def main() -> None:
    """Measure, print, and write `serving.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--out", type=Path, default=Path("serving"))
    parser.add_argument("--pictures", type=Path, help="a folder of JPEGs of one size (LitServe stacks them)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each way in each round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peer-python", default=sys.executable)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"cores": os.cpu_count(), "model": given.model.name}
    found["start"] = starts(given.model, given.rounds)
    found["bench"] = bench(given.model, batches=(1, 8, 32), clients=(1, 32), seconds=5 * given.seconds).as_json()
    with TemporaryDirectory() as there:
        folder = Path(there)
        pictures = given.pictures or made(folder)
        script = folder / "load.lua"
        script.write_text(LUA.format(folder=pictures), encoding="utf-8")
        found["service"] = service(given, pictures, script)
    (given.out / "serving.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(table(found))


def made(folder: Path, count: int = 16, size: tuple[int, int] = (320, 320)) -> Path:
    """Write JPEGs into a folder, and return it."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: size[0], : size[1]]
    for index in range(count):
        image = rng.normal(60, 10, size)
        for _ in range(8):
            top, left, spread = rng.uniform(0, size[0]), rng.uniform(0, size[1]), rng.uniform(10, 60)
            image += 60 * np.exp(-((rows - top) ** 2 + (columns - left) ** 2) / (2 * spread**2))
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(folder / f"{index:02}.jpg", quality=90)
    return folder


def starts(model: Path, rounds: int) -> dict[str, float]:
    """Return the seconds from `imaging-ft serve` to ready, and of importing the run tower: medians."""
    ready: list[float] = []
    imports: list[float] = []
    for _ in range(rounds):
        began = time.perf_counter()
        with serving(model):
            ready.append(time.perf_counter() - began)
        done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
        imports.append(float(done.stdout))
    return {"ready_seconds": median(ready), "import_seconds": median(imports)}


def service(given: argparse.Namespace, pictures: Path, script: Path) -> dict[str, Any]:
    """Return images a second in process, over HTTP and of LitServe, and their latencies, by round and clients."""
    if shutil.which("wrk") is None:
        return {"left out": "wrk is not installed"}
    data = [path.read_bytes() for path in sorted(pictures.glob("*.jpg"))]
    runner = Runner.open(given.model, spinning=False)
    found: dict[str, Any] = {"rounds": []}
    rng = np.random.default_rng(0)
    with serving(given.model, "--max-queue", "1024", "--max-requests", "1024") as ours, peer(given) as theirs:
        if theirs is None:
            found["left out"] = f"LitServe can't be run by {given.peer_python}"
        for address in filter(None, (ours, theirs)):
            if not load(address, script, CLIENTS, 1.0)["images"]:  # warm
                raise SystemExit(f"{address}: answers no picture; see what it says to one")
        for _ in range(given.rounds):
            for count in (FEW, CLIENTS, OVERLOAD):
                one: dict[str, Any] = {"clients": count}
                for way in rng.permutation([IN_PROCESS, OURS, PEER]).tolist():
                    address = {OURS: ours, PEER: theirs}.get(way)
                    time.sleep(SETTLE)
                    if way == IN_PROCESS:
                        one[way] = {"images": saturated(runner, data, given.seconds)}
                    elif address is not None:
                        one[way] = load(address, script, count, given.seconds)
                found["rounds"].append(one)
    return found


def saturated(runner: Runner, data: Sequence[bytes], seconds: float) -> float:
    """Return images a second of decoding, preparing and batching in this process, as fast as it goes."""
    batcher = Batcher(runner_all(runner), max_batch=runner.best_batch, max_queue=1024)
    done = [0] * (os.cpu_count() or 1)
    end = time.perf_counter() + seconds

    def client(place: int) -> None:
        waiting: list[Any] = []
        turn = place
        while time.perf_counter() < end:
            levels = runner.levels(decode_image(data[turn % len(data)], name="picture"))
            waiting.append(batcher.submit(levels))
            turn += 1
            if len(waiting) == BATCH:
                waiting.pop(0).result()
                done[place] += 1
        done[place] += sum(1 for future in waiting if future.result())

    began = time.perf_counter()
    threads = [threading.Thread(target=client, args=(place,)) for place in range(len(done))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent = time.perf_counter() - began
    batcher.close()
    return sum(done) / spent


def load(address: str, script: Path, clients: int, seconds: float) -> dict[str, float]:
    """Return what wrk measures with so many connections: answers a second, p50, p99 in ms, and failures."""
    command = ["wrk", "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", "--timeout", "30s", "--latency"]
    done = subprocess.run([*command, "-s", str(script), address], capture_output=True, text=True, check=True)
    text = done.stdout
    wrong = sum(int(number) for number in re.findall(r"Non-2xx or 3xx responses: (\d+)", text))
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    total = int(re.search(r"(\d+) requests in", text)[1])  # pyright: ignore[reportOptionalSubscript]
    spent = float(re.search(r"requests in ([\d.]+)s", text)[1])  # pyright: ignore[reportOptionalSubscript]
    return {
        "images": (total - wrong) / spent,
        "p50_ms": _milliseconds(text, "50%"),
        "p99_ms": _milliseconds(text, "99%"),
        "refused": wrong,
        "errors": sum(map(int, errors.groups())) if errors else 0,
    }


def _milliseconds(text: str, share: str) -> float:
    number, unit = re.search(rf"{share}\s+([\d.]+)(us|ms|s)", text).groups()  # pyright: ignore[reportOptionalMemberAccess]
    return float(number) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit]


@contextmanager
def serving(model: Path, *options: str) -> Iterator[str]:
    """Give the address of `/v1/predict` once `imaging-ft serve` is ready."""
    port = _free()
    command = [sys.executable, "-m", "imaging_ft", "serve", str(model), "--port", str(port), *options]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            _wait(f"http://127.0.0.1:{port}/v2/health/ready", process)
            yield f"http://127.0.0.1:{port}/v1/predict"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


@contextmanager
def peer(given: argparse.Namespace) -> Iterator[str | None]:
    """Give the address of LitServe's `/predict`; None where it isn't installed."""
    if subprocess.run([given.peer_python, "-c", "import litserve"], capture_output=True, check=False).returncode:
        yield None
        return
    port = _free()
    script = Path(__file__).with_name("litserve_peer.py")
    command = [given.peer_python, str(script), str(given.model), str(port), str(BATCH)]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            _wait(f"http://127.0.0.1:{port}/health", process)
            yield f"http://127.0.0.1:{port}/predict"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(60)


def _wait(address: str, process: "subprocess.Popen[bytes]") -> None:
    while process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:  # noqa: S310
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.02)
    raise SystemExit(f"{address}: the server ended before it was ready")


def _free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


def table(found: dict[str, Any]) -> str:
    """Return the measurement as Markdown."""
    rows = ["| | images/s | p50 ms | p99 ms | against |", "|---|---|---|---|---|"]
    for one in found["bench"]["timings"]:
        against = "" if one["against_plain"] is None else f"{one['against_plain']:.2f} of plain"
        what = (
            f"{one['way']}, batch {one['batch']}" if one["way"] != "service" else f"batching, {one['clients']} threads"
        )
        rows.append(f"| {what} | {one['images']:.0f} | {1000 * one['p50']:.2f} | {1000 * one['p99']:.2f} | {against} |")
    rows += _over_http(found["service"].get("rounds", []))
    start = found["start"]
    rows.append("")
    rows.append(f"Ready after {start['ready_seconds']:.2f} s; import of the run tower {start['import_seconds']:.2f} s.")
    return "\n".join(rows)


def _over_http(rounds: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield a row for each way and number of clients: medians over the rounds, and of the ratios within them."""
    if rounds:
        own = median(one[IN_PROCESS]["images"] for one in rounds)
        yield f"| decoding, preparing and batching in process | {own:.0f} | | | |"
    for way, beside in ((OURS, PEER), (PEER, OURS)):
        for clients in (FEW, CLIENTS, OVERLOAD):
            own_rounds = [one for one in rounds if one["clients"] == clients and way in one]
            if not own_rounds:
                continue
            rate, p50, p99 = (median(one[way][key] for one in own_rounds) for key in ("images", "p50_ms", "p99_ms"))
            notes = [
                f"{median(one[way]['images'] / one[IN_PROCESS]['images'] for one in own_rounds):.2f} of in process"
            ]
            if beside in own_rounds[0]:
                rates, tails = (
                    median(one[way][key] / one[beside][key] for one in own_rounds) for key in ("images", "p99_ms")
                )
                notes.append(f"{rates:.2f} of {beside}'s, p99 {tails:.2f} of its")
            wrong = sum(one[way]["refused"] + one[way]["errors"] for one in own_rounds)
            notes += [f"{wrong} not answered"] if wrong else []
            yield f"| {way}, HTTP, {clients} clients | {rate:.0f} | {p50:.1f} | {p99:.1f} | {'; '.join(notes)} |"


if __name__ == "__main__":
    main()
