"""The network on its device: batches of a few sizes, rows that don't depend on their neighbours, options per device."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from imaging_ft.inference import network as networks
from imaging_ft.inference.network import OnGpu, bucket, padded
from imaging_ft.inference.parts import split
from imaging_ft.inference.providers import Device, Opened, Tuning, engine_cache, gpu_providers
from imaging_ft.inference.runner import Runner
from imaging_ft.types import Precision
from tests.inference.nets import LINEAR, Made, make, noise

TUNING = Tuning((1, 64, 64), (1, 2, 4), Precision.FP16, cache=Path("m.onnx.trt"), for_tensorrt=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(LINEAR["pool, flatten, gemm"], tmp_path_factory.mktemp("net") / "m.onnx")


@pytest.fixture(scope="module")
def runner(made: Made) -> Runner:
    return Runner.open(made.path, device=Device.CPU)


def images(count: int) -> list[Any]:
    return [noise((20 + 7 * index, 90 - 5 * index, 1), seed=index) for index in range(count)]


def test_images_of_any_sizes_run_together_and_give_what_the_whole_file_gives_them_alone(
    made: Made, runner: Runner
) -> None:
    session: Any = ort.InferenceSession(made.path, providers=["CPUExecutionProvider"])
    alone = [session.run(["probabilities"], {"image": image[np.newaxis]})[0][0] for image in images(9)]
    assert np.array_equal(runner.predict(images(9)), np.stack(alone))
    found = runner.run(np.stack([runner.levels(image) for image in images(9)]))
    assert np.array_equal(found["probabilities"], np.stack(alone))
    assert set(found) == {"logits", "probabilities"}


def test_more_images_than_a_batch_holds_keep_their_order(runner: Runner) -> None:
    many = images(9) * 9
    assert np.array_equal(runner.predict(many), np.tile(runner.predict(images(9)), (9, 1)))
    assert runner.predict([]).shape == (0, 3)


def test_a_batch_goes_into_the_smallest_size_that_holds_it() -> None:
    assert [bucket(count, [1, 2, 4, 8]) for count in range(1, 9)] == [1, 2, 4, 4, 8, 8, 8, 8]


def test_padding_repeats_the_first_image_and_leaves_a_full_batch_alone() -> None:
    levels = np.arange(6, dtype=np.uint8).reshape(3, 2, 1, 1)
    assert padded(levels, 5)[:, 0, 0, 0].tolist() == [0, 2, 4, 0, 0]
    assert padded(levels, 3) is levels


class OnCpuMemory:
    """Stands in for a binding's memory where there is no GPU: what is bound, on the CPU."""

    def __init__(
        self, session: Any, shape: tuple[int, ...], dtype: Any, names: list[str], *, graph: int | None
    ) -> None:
        if graph is not None and session.refuses_graphs:
            raise RuntimeError("this network can't be captured")
        self.session, self.shape, self.names, self.graph = session, shape, names, graph
        session.bound.append((shape[0], graph))

    def run(self, levels: Any) -> dict[str, Any]:
        assert levels.shape == self.shape
        self.session.ran.append(len(levels))
        return dict(zip(self.names, self.session.real.run(self.names, {"levels": levels}), strict=True))


class Session:
    """A real session on the CPU that keeps a list of what was bound and run."""

    def __init__(self, made: Made, *, refuses_graphs: bool) -> None:
        import onnx

        parts = split(onnx.load(made.path), where="m.onnx")
        self.real: Any = ort.InferenceSession(parts.cls.SerializeToString(), providers=["CPUExecutionProvider"])
        self.refuses_graphs = refuses_graphs
        self.bound: list[tuple[int, int | None]] = []
        self.ran: list[int] = []

    def get_outputs(self) -> Any:
        return self.real.get_outputs()


@pytest.mark.parametrize("refuses", [False, True])
def test_a_gpu_is_given_few_sizes_each_bound_once(
    refuses: bool, made: Made, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "_Bound", OnCpuMemory)
    session = Session(made, refuses_graphs=refuses)
    net = OnGpu(Opened(session, Device.CUDA, graphs=True), (1, 64, 64), (4, 1, 2), graphs=True)
    levels = np.stack([runner.levels(image) for image in images(7)])
    for count in (3, 1, 7, 4):
        found = net.run(levels[:count], ["probabilities", "logits"])
        wanted = runner.run(levels[:count])
        assert list(found) == ["probabilities", "logits"]
        assert all(np.array_equal(found[name], wanted[name]) for name in found)
    assert session.ran == [4, 1, 4, 4, 4]
    assert session.bound == [(4, None if refuses else 0), (1, None if refuses else 1)]


def test_cuda_takes_just_the_memory_it_needs_and_a_graph_only_where_asked() -> None:
    ((name, options),) = gpu_providers(Device.CUDA, TUNING, graph=False)
    assert name == "CUDAExecutionProvider"
    assert options == {"arena_extend_strategy": "kSameAsRequested", "cudnn_conv_algo_search": "EXHAUSTIVE"}
    assert gpu_providers(Device.CUDA, TUNING, graph=True)[0][1]["enable_cuda_graph"] == "1"


def test_tensorrt_keeps_its_engines_and_knows_the_batches_beforehand() -> None:
    (name, options), (second, _) = gpu_providers(Device.TENSORRT, TUNING, graph=False)
    assert (name, second) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
    assert options["trt_engine_cache_path"] == options["trt_timing_cache_path"] == "m.onnx.trt"
    assert (options["trt_fp16_enable"], options["trt_int8_enable"]) == ("1", "0")
    assert options["trt_profile_min_shapes"] == "levels:1x1x64x64"
    assert options["trt_profile_opt_shapes"] == options["trt_profile_max_shapes"] == "levels:4x1x64x64"


def test_engines_are_a_files_own_and_lie_where_they_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = engine_cache(tmp_path / "m.onnx", "a" * 64)
    assert beside == tmp_path / "m.onnx.trt" / ("a" * 16)
    assert beside != engine_cache(tmp_path / "m.onnx", "b" * 64)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    there = engine_cache(Path("/proc/none/m.onnx"), "a" * 64)
    assert there == tmp_path / "home" / ".cache" / "imaging_ft" / "trt" / ("a" * 16)


def test_what_is_no_image_is_refused_before_it_meets_others(runner: Runner) -> None:
    from imaging_ft.errors import InputError

    wrong: list[Any] = [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4, 1), np.float32)]
    for image in wrong:
        with pytest.raises(InputError, match="is wanted"):
            runner.levels(image)
    with pytest.raises(InputError, match="has no pixels"):
        runner.levels(np.zeros((0, 4, 1), np.uint8))
