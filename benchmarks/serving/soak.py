"""A service under mutated files and a long run: `python -m benchmarks.serving.soak MODEL.onnx`.

10,000 mutated image files from a seeded fuzzer, with a good picture between every few: no crash, no 5xx, no neighbour
harmed. Then 50,000 requests: memory must not grow by 100 MB. `--leak` plants one, of 8 KiB an image, which the
measurement has to find. tests/adapters/test_soak.py runs it small.
"""
# ruff: noqa: T201 - a command prints

import argparse
import http.client
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

LEAK = """
import sys
from imaging_ft.adapters import service
kept = []
real = service.decode_image
def decode_image(data, **options):
    kept.append(bytearray(8192))
    return real(data, **options)
service.decode_image = decode_image
from imaging_ft.__main__ import main
main()
"""
CLIENTS = 8


def main() -> None:
    """Run both, print what was found, and end with 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--growth", type=float, default=100, help="MB by which memory may grow")
    parser.add_argument("--leak", action="store_true")
    given = parser.parse_args()
    wrong: list[str] = []
    with serving(given.model, leak=given.leak) as (port, process):
        codes = fuzz(port, given.files, given.seed)
        print(f"{given.files} mutated files: {dict(sorted(codes.items()))}")
        wrong += [f"{count} answers {code}" for code, count in codes.items() if code >= 500]
        if process.poll() is not None:
            wrong.append("the service ended")
        good = png(Image.effect_noise((64, 64), 40))
        many(port, good, given.requests // 10)  # what is allocated once
        before = memory(process.pid)
        began = time.perf_counter()
        many(port, good, given.requests)
        grown = memory(process.pid) - before
        rate = given.requests / (time.perf_counter() - began)
        print(f"{given.requests} requests ({rate:.0f}/s): memory {before / 1e6:.0f} MB, grown by {grown / 1e6:.1f} MB")
        if grown > 1e6 * given.growth:
            wrong.append(f"memory grew by {grown / 1e6:.0f} MB")
    print("; ".join(wrong) or "nothing wrong")
    sys.exit(bool(wrong))


def fuzz(port: int, count: int, seed: int) -> Counter[int]:
    """Send mutated files, a good one after every twentieth, and return how often each status came."""
    rng = random.Random(seed)
    noise = Image.effect_noise((48, 40), 60)
    seeds = [png(noise), saved(noise, "JPEG"), saved(noise, "TIFF"), saved(noise, "BMP"), saved(noise, "WEBP"), dicom()]
    codes: Counter[int] = Counter()
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for number in range(count):
        code = post(client, mutated(rng.choice(seeds), rng))
        codes[code] += 1
        if number % 20 == 0 and (found := post(client, seeds[0])) != 200:
            raise SystemExit(f"after {number} mutated files a good one was answered {found}")
    return codes


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Return a file with some bytes changed, cut, doubled, or put in."""
    found = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        place = rng.randrange(max(1, len(found)))
        match rng.randrange(6):
            case 0:
                found[place : place + 1] = bytes([rng.randrange(256)])
            case 1:
                del found[place : place + rng.randint(1, 64)]
            case 2:
                found[place:place] = found[place : place + rng.randint(1, 64)]
            case 3:
                found[place:place] = rng.randbytes(rng.randint(1, 16))
            case 4:
                found[place : place + 4] = rng.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0"])
            case _:
                del found[place:]
    return bytes(found)


def many(port: int, data: bytes, count: int) -> None:
    """Send a good picture so many times, by some clients at once; every answer has to be one."""
    failed: list[int] = []

    def client(share: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        failed.extend(code for code in (post(connection, data) for _ in range(share)) if code != 200)

    threads = [threading.Thread(target=client, args=(count // CLIENTS,)) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise SystemExit(f"{len(failed)} good pictures were answered {Counter(failed)}")


def post(client: http.client.HTTPConnection, data: bytes) -> int:
    """Return the status that a file gets."""
    client.request("POST", "/v1/predict", data, {"Content-Type": "application/octet-stream"})
    answer = client.getresponse()
    answer.read()
    return answer.status


def png(image: Image.Image) -> bytes:
    """Return an image as a PNG."""
    return saved(image, "PNG")


def saved(image: Image.Image, kind: str) -> bytes:
    """Return an image in a format."""
    out = BytesIO()
    image.save(out, kind)
    return out.getvalue()


def dicom() -> bytes:
    """Return a small DICOM file."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    found = Dataset()
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID = "1.2.3.4"
    found.SOPClassUID = SecondaryCaptureImageStorage
    found.Rows, found.Columns, found.SamplesPerPixel = 40, 48, 1
    found.BitsAllocated, found.BitsStored, found.HighBit, found.PixelRepresentation = 16, 12, 11, 0
    found.PhotometricInterpretation = "MONOCHROME2"
    found.PixelData = np.random.default_rng(0).integers(0, 4096, (40, 48), np.uint16).tobytes()
    out = BytesIO()
    found.save_as(out, enforce_file_format=True)
    return out.getvalue()


@contextmanager
def serving(model: Path, *, leak: bool) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """Give the port of a service, and its process."""
    start = ["-c", LEAK] if leak else ["-m", "imaging_ft"]
    with TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as file:
            process = subprocess.Popen([sys.executable, *start, "serve", str(model), "--port", "0"], stderr=file)
        try:
            while b"serving " not in log.read_bytes():
                if process.poll() is not None:
                    raise SystemExit(log.read_text(encoding="utf-8"))
                time.sleep(0.05)
            line = next(line for line in log.read_text(encoding="utf-8").splitlines() if line.startswith("serving "))
            yield int(line.rsplit(":", 1)[1]), process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def memory(process: int) -> int:
    """Return a process's resident memory in bytes."""
    return int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
