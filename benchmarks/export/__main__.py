"""The exported network beside torch, OpenVINO and plain onnxruntime: `python -m benchmarks.export --out DIR`.

Three backbones with random weights (speed doesn't depend on them), at 224 × 224: our file's network in fp32, fp16 and
int8; torch eager and compiled; OpenVINO (`pip install openvino`; left out where it isn't there); and plain onnxruntime
on what torch.onnx.export gives of the bare network. Then preparing images in the graph beside doing it outside by
Pillow, whose filter the graph's is, and by OpenCV. All take turns in one run, on as many threads as `--threads`; what
counts are the ratios.
"""
# ruff: noqa: T201 - a command prints

import argparse
import importlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
import torch
from PIL import Image

from imaging_ft.data import Sample
from imaging_ft.export.onnx import assemble
from imaging_ft.export.target import load_target
from imaging_ft.export.validation import Validation
from imaging_ft.inference.parts import split
from imaging_ft.models.factory import NONE, Classifier, create
from imaging_ft.preprocess import InputSpec
from imaging_ft.training.run import ModelInfo
from imaging_ft.types import Precision, Task

BACKBONES = ("timm/tf_efficientnet_lite0", "timm/resnet18", "timm/mobilenetv3_large_100")
SIDE = 224
LABELS = ("a", "b", "c", "d")
SIZES = (256, 512, 1024)
Run = Callable[[np.ndarray], Any]
_SETTLE = 0.15
"""Seconds in which the threads of the way before stop spinning; they would take a core from the next one."""


def main() -> None:
    """Measure, print Markdown, and write `export.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/export"))
    parser.add_argument("--seconds", type=float, default=1.0, help="for each way and batch size")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--backbones", nargs="*", default=BACKBONES)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(given.threads)
    found: dict[str, Any] = {
        "threads": given.threads,
        "vnni": "vnni" in Path("/proc/cpuinfo").read_text(encoding="ascii"),
    }
    for backbone in given.backbones:
        with TemporaryDirectory() as folder:
            found[backbone] = network(backbone, Path(folder), given)
        print(table(backbone, found[backbone]), flush=True)
    found["preprocessing"] = preprocessing(given)
    print(preprocessing_table(found["preprocessing"]))
    (given.out / "export.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def network(backbone: str, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Return for each way its timings at batch 1 and 16, the size of its file and the time to load it."""
    torch.manual_seed(0)
    model = create(backbone, classes=len(LABELS), weights=NONE, size=SIDE).eval()
    ways: dict[str, tuple[Run, dict[str, float]]] = {}
    for precision in Precision:
        path = folder / f"{precision}.onnx"
        path.write_bytes(exported(model, backbone, precision))
        ways[f"imaging_ft {precision}"] = loaded(path, "levels", given.threads)
    bare = folder / "bare.onnx"
    example = torch.zeros(2, 3, SIDE, SIDE)
    plain = Bare(model).eval()
    torch.onnx.export(
        plain,
        (example,),
        bare,
        dynamo=True,
        opset_version=18,
        external_data=False,
        input_names=["x"],
        verbose=False,
        dynamic_shapes=({0: torch.export.Dim("n", min=1)},),
    )
    ways["onnxruntime, bare network"] = loaded(bare, "x", given.threads, floats=True)
    with torch.inference_mode():
        ways["torch eager"] = (lambda levels: plain(torch.from_numpy(levels).float()), {})
        compiled = torch.compile(plain, dynamic=False)
        ways["torch.compile"] = (lambda levels: compiled(torch.from_numpy(levels).float()), {})
        for precision in ("f32", "bf16"):  # by itself it takes bf16 where the CPU has it
            if (openvino := _openvino(bare, given.threads, precision)) is not None:
                ways[f"OpenVINO, {precision}"] = openvino
        return {
            name: {**facts, **timed} for (name, (_, facts)), timed in zip(ways.items(), times(ways, given), strict=True)
        }


class Bare(torch.nn.Module):
    """A classifier from normalised values on: no preprocessing, no softmax."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.backbone, self.head = model.backbone, model.head

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        return self.head(self.backbone(values))


def exported(model: Classifier, backbone: str, precision: Precision) -> bytes:
    """Return our file's network in a precision; its accuracy is of no account here."""
    spec = InputSpec(channels=3, height=SIDE, width=SIDE)
    info = ModelInfo.checked(
        {
            "backbone": backbone,
            "task": Task.MULTICLASS,
            "labels": LABELS,
            "input": spec,
            "temperature": 1.0,
            "thresholds": dict.fromkeys(LABELS, 0.5),
            "metrics": {},
            "provenance": {},
        },
        where="benchmark",
    )
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (240, 250, 3), np.uint8) for _ in range(8)]
    samples = [Sample(f"{index}.png", Path(f"{index}.png"), "a") for index in range(8)]
    validation = Validation(samples, images, np.eye(4, dtype=np.bool_)[np.arange(8) % 4], "camera")
    _, graph = assemble(model, info, validation, load_target("server-cpu"), precision=precision, max_drop=1)
    return split(graph, where=backbone).cls.SerializeToString()


def loaded(path: Path, name: str, threads: int, *, floats: bool = False) -> tuple[Run, dict[str, float]]:
    """Return what runs a file by onnxruntime, its size in MB and the seconds to load it."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    began = time.perf_counter()
    session: Any = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    facts = {"load_seconds": time.perf_counter() - began, "megabytes": path.stat().st_size / 1e6}
    output = session.get_outputs()[0].name
    return lambda levels: session.run([output], {name: levels.astype(np.float32) if floats else levels}), facts


def _openvino(path: Path, threads: int, precision: str) -> tuple[Run, dict[str, float]] | None:
    try:
        openvino: Any = importlib.import_module("openvino")
    except ImportError:
        return None
    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    began = time.perf_counter()
    compiled = core.compile_model(path, "CPU", settings)
    facts = {"load_seconds": time.perf_counter() - began, "megabytes": path.stat().st_size / 1e6}
    request = compiled.create_infer_request()
    return lambda levels: request.infer({0: levels.astype(np.float32)}), facts


def times(ways: dict[str, tuple[Run, dict[str, float]]], given: argparse.Namespace) -> list[dict[str, float]]:
    """Return for each way p50, p99 of one image in ms, and images a second in batches of 16."""
    rng = np.random.default_rng(0)
    batches = {size: rng.integers(0, 256, (size, 3, SIDE, SIDE), np.uint8) for size in (1, 16)}
    taken: dict[tuple[str, int], list[float]] = {}
    for name, (run, _) in ways.items():
        for size, levels in batches.items():
            for _ in range(3):
                run(levels)
            taken[name, size] = []
    for _ in range(given.rounds):
        for name in rng.permutation(list(ways)).tolist():
            run, _ = ways[name]
            time.sleep(_SETTLE)
            for size, levels in batches.items():
                run(levels)
                end = time.perf_counter() + given.seconds / given.rounds
                while time.perf_counter() < end:
                    began = time.perf_counter()
                    run(levels)
                    taken[name, size].append(time.perf_counter() - began)
    return [
        {
            "p50_ms": 1000 * median(taken[name, 1]),
            "p99_ms": 1000 * float(np.quantile(taken[name, 1], 0.99)),
            "images": 16 / median(taken[name, 16]),
        }
        for name in ways
    ]


def preprocessing(given: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return ms for one image of some sizes, to 8-bit planes of the network's size; it normalises them itself."""
    from imaging_ft.preprocess.graph import preprocessing_graph

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    cv2.setNumThreads(1)
    graph = preprocessing_graph(InputSpec(channels=3, height=SIDE, width=SIDE), resize="antialias")
    session: Any = ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def planes(small: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(small.transpose(2, 0, 1))[None]

    def opencv(image: np.ndarray, how: int) -> np.ndarray:
        return planes(cv2.resize(image, (SIDE, SIDE), interpolation=how))

    def pillow(image: np.ndarray) -> np.ndarray:
        return planes(np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR)))

    ways: dict[str, Run] = {
        "in the graph": lambda image: session.run(None, {"image": image[None]}),
        "Pillow, BILINEAR (the same filter)": pillow,
        "OpenCV, INTER_AREA (another filter: up to 33 levels off)": lambda image: opencv(image, cv2.INTER_AREA),
        "OpenCV, INTER_LINEAR (aliases: up to 81 levels off)": lambda image: opencv(image, cv2.INTER_LINEAR),
    }
    found: dict[str, dict[str, float]] = {name: {} for name in ways}
    for side in SIZES:
        image = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(given.rounds):
            for name, run in ways.items():
                end = time.perf_counter() + given.seconds / given.rounds / 2
                while time.perf_counter() < end:
                    began = time.perf_counter()
                    run(image)
                    taken[name].append(time.perf_counter() - began)
        for name in ways:
            found[name][str(side)] = 1000 * median(taken[name])
    return found


def table(backbone: str, found: dict[str, dict[str, float]]) -> str:
    """Return one backbone's measurement as Markdown; ratios are against our fp32."""
    base = found["imaging_ft fp32"]
    rows = [
        f"\n**{backbone}**\n",
        "| | p50 ms | p99 ms | images/s | × fp32 | MB | load s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in found.items():
        size = f"{one['megabytes']:.1f} | {one['load_seconds']:.2f}" if "megabytes" in one else " | "
        rows.append(
            f"| {name} | {one['p50_ms']:.2f} | {one['p99_ms']:.2f} | {one['images']:.0f}"
            f" | {one['images'] / base['images']:.2f} | {size} |"
        )
    return "\n".join(rows)


def preprocessing_table(found: dict[str, dict[str, float]]) -> str:
    """Return the preprocessing's measurement as Markdown, in ms an image."""
    rows = [
        "\n| preparing an image, ms | " + " | ".join(f"{side}²" for side in SIZES) + " |",
        "|---|" + "---|" * len(SIZES),
    ]
    rows += [
        f"| {name} | " + " | ".join(f"{value:.2f}" for value in one.values()) + " |" for name, one in found.items()
    ]
    return "\n".join(rows)


if __name__ == "__main__":
    main()
