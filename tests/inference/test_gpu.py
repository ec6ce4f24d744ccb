"""What only a GPU can show; skipped, with the reason, where there is none. docs/gpu.md says where it was run.

It needs the run tower alone, and no data: the net is made here. With `-rP` it tells what it measured.
"""

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from imaging_ft.errors import DeviceError
from imaging_ft.inference import providers
from imaging_ft.inference.batching import Batcher
from imaging_ft.inference.gpu import OnGpu
from imaging_ft.inference.models import Models, runner_all
from imaging_ft.inference.network import network_of
from imaging_ft.inference.parts import split
from imaging_ft.inference.providers import Device, Tuning, open_session
from imaging_ft.inference.runner import Runner
from imaging_ft.inference.verify import verify
from imaging_ft.types import Precision
from tests.inference.conv_net import BATCHES, SIZE, make_conv_net, pictures

pytestmark = pytest.mark.gpu
SHAPE = (3, SIZE, SIZE)
NEAR = 0.02
"""Of a probability: TensorFloat-32 keeps ten bits."""


@pytest.fixture(scope="module", autouse=True)
def _needs_gpu() -> None:
    try:
        subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("nvidia-smi finds no GPU")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_conv_net(tmp_path_factory.mktemp("net") / "conv.onnx").path


@pytest.fixture(scope="module")
def cuda(model: Path) -> Runner:
    began = time.perf_counter()
    runner = Runner.open(model, device=Device.CUDA)
    tell(f"open and ready on CUDA: {time.perf_counter() - began:.2f} s")
    return runner


@pytest.fixture(scope="module")
def cpu(model: Path) -> Runner:
    return Runner.open(model, device=Device.CPU)


@pytest.fixture(scope="module")
def levels(cpu: Runner) -> np.ndarray:
    return np.stack([cpu.levels(image) for image in pictures(70)])


def on_cuda(model: Path, *, graphs: bool) -> OnGpu:
    """Return the network alone on CUDA, with graphs or without."""
    network = split(onnx.load(model), where="conv.onnx").cls.SerializeToString()
    tuning = Tuning(SHAPE, BATCHES, Precision.FP32, cache=None, for_tensorrt=False)
    opened = open_session(network, Device.CUDA, where="conv.onnx", tuning=tuning, graphs=graphs)
    assert opened.session.get_providers()[0] == "CUDAExecutionProvider"
    assert opened.graphs is graphs
    found = network_of(opened, SHAPE, BATCHES, graphs=graphs)
    assert isinstance(found, OnGpu)
    return found


def tell(what: str) -> None:
    sys.stdout.write(f"{what}\n")


def seconds(work: Callable[[], Any], times: int) -> float:
    """Return the median seconds of a piece of work, once warm."""
    for _ in range(3):
        work()
    taken: list[float] = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))


def apart(found: Runner | OnGpu, wanted: np.ndarray, levels: np.ndarray) -> float:
    """Return the largest difference of a probability."""
    return float(np.abs(found.run(levels, ["probabilities"])["probabilities"] - wanted).max())


@pytest.mark.parametrize("device", [Device.CUDA, Device.TENSORRT])
def test_a_gpu_predicts_what_the_cpu_predicts(device: Device, model: Path, cpu: Runner, levels: np.ndarray) -> None:
    began = time.perf_counter()
    try:
        runner = Runner.open(model, device=device)
    except DeviceError as error:
        if device is Device.TENSORRT:
            pytest.skip(f"TensorRT can't start: {error}")
        raise
    tell(f"open on {device}: {time.perf_counter() - began:.2f} s")
    assert runner.device is device
    wanted, found = (one.run(levels, ["probabilities"])["probabilities"] for one in (cpu, runner))
    logits = [one.run(levels, ["logits"])["logits"] for one in (cpu, runner)]
    tell(f"a logit is off by at most {np.abs(logits[0] - logits[1]).max():.2e}")
    assert np.abs(found - wanted).max() < NEAR
    best = np.sort(wanted, axis=1)
    sure = best[:, -1] - best[:, -2] > 2 * NEAR
    assert sure.mean() > 0.5
    assert len(set(wanted.argmax(axis=1))) > 1
    assert (found.argmax(axis=1) == wanted.argmax(axis=1))[sure].all()


def test_auto_takes_the_gpu_and_no_node_runs_on_the_cpu(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="imaging_ft"):
        assert Runner.open(model, device=Device.AUTO).device is Device.CUDA
    tell(caplog.text)
    assert "run on the CPU" not in caplog.text
    assert "without CUDA graphs" not in caplog.text


def test_the_golden_sample_and_every_other_check_hold(model: Path) -> None:
    found = verify(model, device=Device.CUDA)
    assert found.device is Device.CUDA
    assert found.failed == ()


def test_a_row_is_the_same_in_every_size_of_batch(cuda: Runner, levels: np.ndarray) -> None:
    alone = np.concatenate([cuda.run(levels[at : at + 1])["probabilities"] for at in range(len(levels))])
    for count in (2, 3, 5, 8, 17, 32, len(levels)):
        assert apart(cuda, alone[:count], levels[:count]) < NEAR


def test_graphs_are_captured_and_change_nothing(model: Path, levels: np.ndarray) -> None:
    with_graphs, without = on_cuda(model, graphs=True), on_cuda(model, graphs=False)
    for count in (1, 3, 8, 32, 1, 8):
        wanted = without.run(levels[:count], ["probabilities"])["probabilities"]
        assert apart(with_graphs, wanted, levels[:count]) < NEAR
    first, second = (with_graphs.run(levels[at : at + 1], ["logits"])["logits"] for at in (0, 1))
    assert not np.array_equal(first, second)
    for count in (1, 8, 32):
        some = levels[:count]
        taken = [seconds(partial(net.run, some, ["logits"]), 50) for net in (with_graphs, without)]
        tell(f"batches of {count}: {taken[0] * 1e3:.2f} ms with graphs, {taken[1] * 1e3:.2f} ms without")


def test_many_threads_get_their_own_answers(cuda: Runner, levels: np.ndarray) -> None:
    wanted = cuda.run(levels)["probabilities"]
    batcher = Batcher(runner_all(cuda), max_batch=32, max_queue=1024)
    wrong: list[float] = []

    def client(place: int) -> None:
        for turn in range(40):
            at = (place * 7 + turn) % len(levels)
            far = [np.abs(batcher.submit(levels[at]).result(60).outputs["probabilities"] - wanted[at]).max()]
            far.append(apart(cuda, wanted[at : at + 3], levels[at : at + 3]))  # beside the batcher's thread
            wrong.extend(one for one in far if one > NEAR)

    run_all([lambda place=place: client(place) for place in range(12)])
    batcher.close()
    assert wrong == []


def test_a_model_is_exchanged_while_requests_go_on(model: Path, levels: np.ndarray) -> None:
    """A graph is captured for the new one while the old one runs: neither may break the other."""
    models = Models(lambda path: Runner.open(path, device=Device.CUDA))
    first = models.load(model, name="net")
    wanted = first.runner.run(levels)["probabilities"]
    wrong: list[float] = []
    over = threading.Event()

    def client(place: int) -> None:
        turn = 0
        while not over.is_set():
            turn += 1
            at = (place * 5 + turn) % len(levels)
            _, (future,) = models.submit("net", lambda _, at=at: [levels[at]])
            far = float(np.abs(future.result(60).outputs["probabilities"] - wanted[at]).max())
            if far > NEAR:
                wrong.append(far)

    def exchange() -> None:
        try:
            for _ in range(3):
                models.load(model, name="net")
        finally:
            over.set()

    run_all([*(lambda place=place: client(place) for place in range(6)), exchange])
    assert wrong == []
    served = models.get("net")
    assert served.version == 4
    assert isinstance(served.runner._network, OnGpu)
    assert served.runner._network.graphs
    models.close()


def run_all(works: list[Callable[[], None]]) -> None:
    """Run each on a thread of its own; raise what one raised."""
    failed: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again below
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def test_batches_lie_in_pinned_memory(model: Path, levels: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="imaging_ft"):
        net = on_cuda(model, graphs=False)
    assert "no pinned memory" not in caplog.text
    pinned, plain = net._host, np.empty_like(net._host)
    pinned[:] = plain[:] = levels[:32]
    value = net._bound[32]._input
    for name, memory in {"pinned": pinned, "ordinary": plain}.items():
        taken = seconds(lambda one=memory: value.update_inplace(one), 50)
        tell(f"{memory.nbytes / 1e6:.1f} MB to the GPU, {name}: {taken * 1e3:.2f} ms")


@pytest.mark.parametrize("search", ["EXHAUSTIVE", "HEURISTIC"])
def test_how_kernels_are_chosen(search: str, model: Path, levels: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = providers.gpu_providers

    def changed(*args: Any, **more: Any) -> Any:
        return [
            (name, options | ({"cudnn_conv_algo_search": search} if "cudnn_conv_algo_search" in options else {}))
            for name, options in usual(*args, **more)
        ]

    monkeypatch.setattr(providers, "gpu_providers", changed)
    began = time.perf_counter()
    net = on_cuda(model, graphs=True)
    opened = time.perf_counter() - began
    rate = 32 / seconds(lambda: net.run(levels[:32], ["logits"]), 30)
    tell(f"{search}: ready in {opened:.2f} s, {rate:.0f} images/s in batches of 32")


def test_a_gpu_is_faster_than_the_cpu_beside_it(cuda: Runner, cpu: Runner, levels: np.ndarray) -> None:
    rates: dict[str, float] = {}
    for runner in (cuda, cpu):
        rates[runner.device.value] = 32 / seconds(lambda one=runner: one.run(levels[:32]), 5)
        single = seconds(lambda one=runner: one.run(levels[:1]), 20)
        tell(f"{runner.device}: {rates[runner.device.value]:.0f} images/s, one alone {single * 1e3:.2f} ms")
    assert rates["cuda"] > rates["cpu"]


def test_training_runs_on_the_gpu(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    for name in ("torch", "timm", "albumentations", "lightning_fabric"):
        pytest.importorskip(name, reason="needs pip install 'imaging-ft[train]'")
    from imaging_ft.training.settings import TrainSettings
    from imaging_ft.training.train import train

    trained = request.getfixturevalue("trained")
    summary = train(str(trained.dataset), tmp_path / "run", TrainSettings(epochs=1, size=64, device="cuda"))
    assert summary["cost"]["device"] == "cuda"


def test_the_optimiser_goes_on_from_its_checkpoint_on_the_gpu() -> None:
    """One launch for many weights wants moments where and as the weights lie; a checkpoint's are contiguous."""
    for name in ("torch", "timm"):
        pytest.importorskip(name, reason="needs pip install 'imaging-ft[train]'")
    import torch

    from imaging_ft.models.factory import create
    from imaging_ft.training.optimiser import Optimiser
    from imaging_ft.training.settings import TrainSettings

    def step(model: Any, optimiser: Optimiser, number: int) -> None:
        optimiser.prepare(number)
        torch.manual_seed(number)
        optimiser.raw.zero_grad()
        model(torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8, device="cuda")).square().mean().backward()
        optimiser.raw.step()
        optimiser.pull_back()

    settings = TrainSettings(l2_sp=0.0).resolved()
    whole = create("timm/resnet18", classes=2, weights="none").cuda().to(memory_format=torch.channels_last).eval()
    first = Optimiser(whole, settings, steps=4)
    step(whole, first, 0)
    stored = {name: value.cpu().contiguous() for name, value in first.state().items()}
    again = create("timm/resnet18", classes=2, weights="none").cuda().to(memory_format=torch.channels_last).eval()
    again.load_state_dict(whole.state_dict())
    second = Optimiser(again, settings, steps=4)
    second.load(stored)
    for number in (1, 2):
        step(whole, first, number)
        step(again, second, number)
    for mine, other in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.allclose(mine, other, atol=1e-6)
