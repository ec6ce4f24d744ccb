"""Predict images with an exported model: onnxruntime, NumPy and Pillow, nothing of imaging_ft.

    pip install onnxruntime numpy pillow
    python predict.py model.onnx IMAGE...

Prints for each image its path, label, probability and time (from decoded pixels to probabilities), between tabs.
Exit codes: 0 done; 1 the model does not give its golden logits; 2 a file is missing or of another kind.
"""

# ruff: noqa: T201 - a host prints
import base64
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # or it would report to its makers

import numpy as np
import onnxruntime as ort
from PIL import Image, ImageOps

SCHEMAS = ("imaging_ft.bundle/1", "imaging_ft.bundle/2")


class HostError(Exception):
    """What is wrong, in one line, and the exit code that says so."""

    def __init__(self, text: str, *, code: int = 2) -> None:
        super().__init__(text)
        self.code = code


class Model:
    """An exported file, after its self-test."""

    def __init__(self, path: str) -> None:
        if not Path(path).is_file():
            raise HostError("no such model file")
        try:
            self.session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises its own kinds, without a common base
            raise HostError(f"onnxruntime can't load it: {first_line(error)}") from error
        stored = self.session.get_modelmeta().custom_metadata_map
        prefix = "imaging_ft."
        bundle = {key.removeprefix(prefix): json.loads(text) for key, text in stored.items() if key.startswith(prefix)}
        schema = bundle.get("schema")
        if schema not in SCHEMAS:
            raise HostError(f"bundle schema {schema!r}, but this host reads {' and '.join(SCHEMAS)}")
        if bundle.get("graph", {}).get("preprocessing") == "outside":
            raise HostError("its images are to be prepared by the host; export it with --target server-cpu")
        self.task: str = bundle["task"]
        self.labels: list[str] = [label["name"] for label in bundle["labels"]]
        self.thresholds = [bundle["thresholds"][name] for name in self.labels]
        self.channels: int = bundle["input"]["channels"]
        self.dtype = np.dtype(bundle["input"]["dtype"])
        self.check_golden(bundle["golden"])

    def check_golden(self, golden: dict[str, Any]) -> None:
        """Run the sample that the file carries; its logits have to come out, within its tolerance."""
        flat = np.frombuffer(base64.b64decode(golden["data"]), np.dtype(golden["dtype"]).newbyteorder("<"))
        logits = self.run("logits", flat.reshape(golden["shape"]).astype(golden["dtype"]))
        apart = float(np.abs(logits - np.array(golden["logits"])).max())
        if not apart <= golden["tolerance"]:  # not a number is off as well
            allowed = golden["tolerance"]
            raise HostError(f"self-test failed: a logit is off by {apart:.3g} (allowed: {allowed:g})", code=1)

    def predict(self, pixels: np.ndarray) -> tuple[str, float]:
        """Return label and probability of an image [height, width, channels] in the model's channels and dtype."""
        found = self.run("probabilities", pixels[np.newaxis])[0].astype(np.float64)
        if not np.isfinite(found).all():
            raise HostError("the model gives probabilities that are no numbers")
        if self.task != "multilabel":
            return self.labels[found.argmax()], float(found.max())
        present = found >= self.thresholds
        names = [name for name, is_there in zip(self.labels, present, strict=True) if is_there]
        return "|".join(names), float(found[present].max() if names else found.max())

    def run(self, output: str, batch: np.ndarray) -> Any:
        try:
            return self.session.run([output], {"image": batch})[0]
        except Exception as error:  # as above
            raise HostError(f"onnxruntime failed on a batch {batch.shape}: {first_line(error)}") from error


def read_image(path: str, *, channels: int, dtype: np.dtype) -> np.ndarray:
    """Return a PNG or JPEG as pixels [height, width, channels], upright, in the model's channels and dtype."""
    if not Path(path).is_file():
        raise HostError("no such image file")
    try:
        with Image.open(path) as image:
            stored = str(image.tile)
            image.load()
            pixels = decoded(ImageOps.exif_transpose(image), stored)
    except Exception as error:  # Pillow raises ValueError, SyntaxError, OSError and more on damaged files
        raise HostError(f"can't be read as an image: {first_line(error)}") from error
    wide = pixels.dtype == np.uint16
    if dtype == np.uint16 and not wide:
        pixels = pixels.astype(np.uint16) * np.uint16(257)
    if dtype == np.uint8 and wide:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if channels == 1 and pixels.shape[2] == 3:
        # In integers, so that every host rounds a half alike.
        luma = pixels.astype(np.uint32) @ np.array([299, 587, 114], np.uint32)
        return ((luma + 500) // 1000)[:, :, np.newaxis].astype(dtype)
    return np.repeat(pixels, channels // pixels.shape[2], axis=2)


def decoded(image: Image.Image, stored: str) -> np.ndarray:
    """Return an opened image's pixels: gray uint16 [height, width, 1], or RGB uint8 [height, width, 3]."""
    if image.has_transparency_data and np.asarray(image.convert("RGBA"))[:, :, 3].min() < 255:
        raise ValueError("it has transparent pixels; save it without")
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)[:, :, np.newaxis]
    if ";16" in stored or image.mode in {"I", "F"}:
        raise ValueError("Pillow would cut its values to 8 bits; save it as 16-bit gray, or decode with OpenCV")
    return np.asarray(image.convert("RGB"))


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def main(arguments: list[str]) -> int:
    if len(arguments) < 2:
        print("usage: python predict.py model.onnx IMAGE...", file=sys.stderr)
        return 2
    try:
        model = Model(arguments[0])
    except HostError as error:
        print(f"{arguments[0]}: {error}", file=sys.stderr)
        return error.code
    worst = 0
    for path in arguments[1:]:
        try:
            pixels = read_image(path, channels=model.channels, dtype=model.dtype)
            start = time.perf_counter()
            label, probability = model.predict(pixels)
            print(f"{path}\t{label}\t{probability:.6f}\t{1000 * (time.perf_counter() - start):.1f} ms")
        except HostError as error:  # one bad image does not stop the others
            print(f"{path}: {error}", file=sys.stderr)
            worst = error.code
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
