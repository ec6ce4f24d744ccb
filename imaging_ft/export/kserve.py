"""A KServe manifest that runs a Triton model repository on a cluster.

Fields and limits are those of KServe's own sources: pkg/apis/serving/v1beta1 (the validation of names and storage) and
config/runtimes/kserve-tritonserver.yaml, as of mid 2026.
"""

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from imaging_ft.bundle import Bundle
from imaging_ft.config import reason
from imaging_ft.errors import InputError

RUNTIME = "kserve-tritonserver"
TRITON = "25.12-py3"
"""The tag of Triton's image, with onnxruntime 1.23. KServe's own default, 23.05, can't read a file of IR version 10."""
PORT = 8080
"""Where that runtime serves HTTP."""
SCHEMES = ("s3://", "gs://", "pvc://", "hdfs://", "webhdfs://", "https://", "http://", "oci://", "hf://")

_LONGEST = 53
"""A service's name may have 63 characters, and KServe adds `-predictor`."""
_CPU = "CPUExecutionProvider"
_START = 30
_START_ON_GPU = {"CUDAExecutionProvider": 120, "TensorrtExecutionProvider": 900}
"""Seconds that a server may take to load and warm up; TensorRT builds its engines then."""


def write_kserve(bundle: Bundle, path: Path, *, name: str, storage: str, gpu: bool) -> Path:
    """Write the InferenceService of a Triton model `name` as YAML, and return its path.

    `storage` is where the cluster finds the model repository, such as `s3://bucket/models`. Raises InputError where no
    service can have that name, where KServe can't read from that storage, where the bundle's target and `gpu` don't go
    together, and where the disk refuses.
    """
    _check(bundle, storage, gpu=gpu)
    resources: dict[str, Any] = {
        "requests": {"cpu": "2", "memory": "4Gi"},
        "limits": {"cpu": "4", "memory": "8Gi" if gpu else "4Gi"},
    }
    if gpu:
        for amounts in resources.values():
            amounts["nvidia.com/gpu"] = "1"
    start = max(_START_ON_GPU.get(provider, _START) for provider in bundle.graph.providers) if gpu else _START
    model = {
        "modelFormat": {"name": "triton", "version": "2"},
        "runtime": RUNTIME,
        "runtimeVersion": TRITON,
        "protocolVersion": "v2",
        "storageUri": storage,
        "resources": resources,
        "readinessProbe": _probe(f"/v2/models/{quote(name)}/ready", periodSeconds=5, failureThreshold=3),
        "livenessProbe": _probe("/v2/health/live", initialDelaySeconds=start, periodSeconds=10, failureThreshold=6),
    }
    manifest = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": service_name(name)},
        "spec": {"predictor": {"minReplicas": 1, "model": model}},
    }
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise InputError(f"{path}: can't be written: {reason(error)}") from error
    finally:
        part.unlink(missing_ok=True)
    return path


def manifest_path(repository: Path, name: str) -> Path:
    """Return where a model's manifest goes: beside the repository, since all that is in there is uploaded."""
    return repository.resolve().parent / f"{name}.kserve.yaml"


def service_name(name: str) -> str:
    """Return a model's name as a service's: small letters, digits and hyphens, a letter first (RFC 1123 and 1035).

    Raises InputError where it has other letters than a to z, begins with none, or is longer than KServe can take.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not name.isascii() or not plain[:1].isalpha() or len(plain) > _LONGEST:
        raise InputError(
            f"{name!r} can't be a service's name in Kubernetes: it takes up to {_LONGEST} of a-z, 0-9 and '-', a letter"
            " first; choose another name"
        )
    return plain


def _probe(path: str, **timing: int) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": PORT}, "timeoutSeconds": 5, **timing}


def _check(bundle: Bundle, storage: str, *, gpu: bool) -> None:
    if not storage.startswith(SCHEMES) or storage in SCHEMES:
        raise InputError(
            f"{storage!r}: KServe can't read a repository from there; give an address that begins with"
            f" {', '.join(SCHEMES)}"
        )
    target, providers = bundle.graph.target, bundle.graph.providers
    on_gpu = not _START_ON_GPU.keys().isdisjoint(providers)
    if gpu and not on_gpu:
        raise InputError(
            f"a file for target {target} runs on a CPU; ask for no GPU, or export with --target server-gpu"
        )
    if not gpu and on_gpu and _CPU not in providers:
        raise InputError(f"a file for target {target} runs on a GPU alone; ask for one, or export for another target")
