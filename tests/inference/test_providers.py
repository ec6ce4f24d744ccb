"""Providers and their options: what a session is asked for on each device, and how many cores it takes."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from imaging_ft.inference.parts import split
from imaging_ft.inference.providers import (
    Device,
    Opened,
    Tuning,
    engine_cache,
    gpu_providers,
    open_session,
    start,
    usable_cores,
)
from imaging_ft.types import Precision
from tests.inference.nets import LINEAR, make

TUNING = Tuning((1, 64, 64), (1, 2, 4), Precision.FP16, cache=Path("m.onnx.trt"), for_tensorrt=True)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    made = make(LINEAR["pool, flatten, gemm"], tmp_path_factory.mktemp("net") / "m.onnx")
    return split(onnx.load(made.path), where="m.onnx").cls.SerializeToString()


def session_of(network: bytes, **asked: Any) -> Any:
    return open_session(network, Device.CPU, where="m.onnx", **asked).session.get_session_options()


def test_cuda_takes_just_the_memory_it_needs_and_a_graph_only_where_asked() -> None:
    ((name, options),) = gpu_providers(Device.CUDA, TUNING, graph=False)
    assert name == "CUDAExecutionProvider"
    assert options == {"arena_extend_strategy": "kSameAsRequested", "cudnn_conv_algo_search": "HEURISTIC"}
    assert gpu_providers(Device.CUDA, TUNING, graph=True)[0][1]["enable_cuda_graph"] == "1"


def test_tensorrt_keeps_its_engines_and_knows_the_batches_beforehand() -> None:
    (name, options), (second, _) = gpu_providers(Device.TENSORRT, TUNING, graph=False)
    assert (name, second) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
    assert options["trt_engine_cache_path"] == options["trt_timing_cache_path"] == "m.onnx.trt"
    assert options["trt_engine_cache_enable"] == options["trt_timing_cache_enable"] == "1"
    assert (options["trt_fp16_enable"], options["trt_int8_enable"]) == ("1", "0")
    assert options["trt_profile_min_shapes"] == "levels:1x1x64x64"
    assert options["trt_profile_opt_shapes"] == options["trt_profile_max_shapes"] == "levels:4x1x64x64"
    unkept = gpu_providers(Device.TENSORRT, replace(TUNING, cache=None, name="image"), graph=False)[0][1]
    assert not [key for key in unkept if "cache" in key]
    assert unkept["trt_profile_min_shapes"] == "image:1x1x64x64"


def test_engines_are_a_files_own_and_lie_where_they_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = engine_cache(tmp_path / "m.onnx", "a" * 64)
    assert beside == tmp_path / "m.onnx.trt" / ("a" * 16)
    assert beside != engine_cache(tmp_path / "m.onnx", "b" * 64)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    there = engine_cache(Path("/proc/none/m.onnx"), "a" * 64)
    assert there == tmp_path / "home" / ".cache" / "imaging_ft" / "trt" / ("a" * 16)


@pytest.mark.parametrize("for_tensorrt", [False, True])
def test_auto_tries_tensorrt_only_for_files_that_were_made_for_it(
    for_tensorrt: bool, network: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Device] = []

    def record(model: bytes, device: Device, **rest: Any) -> Opened | str:
        tried.append(device)
        return "no GPU" if device is not Device.CPU else start(model, device, **rest)

    monkeypatch.setattr("imaging_ft.inference.providers.start", record)
    tuning = replace(TUNING, for_tensorrt=for_tensorrt)
    assert open_session(network, Device.AUTO, where="m.onnx", tuning=tuning).device is Device.CPU
    assert tried == [Device.TENSORRT, Device.CUDA, Device.CPU][not for_tensorrt :]


def test_threads_are_those_that_are_asked_for(network: bytes) -> None:
    assert session_of(network, threads=3).intra_op_num_threads == 3


@pytest.mark.parametrize(("asked", "wanted"), [({}, "1"), ({"spinning": False}, "0")])
def test_threads_sleep_where_others_need_the_cores(asked: Any, wanted: str, network: bytes) -> None:
    options = session_of(network, **asked)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == wanted


@pytest.mark.parametrize(
    ("quota", "wanted"),
    [("200000 100000", 2), ("150000 100000", 1), ("50000 100000", 1), ("max 100000", None), ("", None)],
)
def test_a_container_takes_its_share_of_the_cores(
    quota: str, wanted: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    (tmp_path / "cpu.max").write_text(quota)
    assert usable_cores(tmp_path / "cpu.max") == wanted


def test_a_process_bound_to_some_cores_takes_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7}, raising=False)
    assert usable_cores(tmp_path / "none") == 3
