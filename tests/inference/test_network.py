"""The network on its device: batches of a few sizes, rows that don't depend on their neighbours, one thread for a GPU.

What only a GPU runs is run here on the CPU, in the CPU's memory: onnxruntime binds and runs there in the same way.
"""

import threading
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from imaging_ft.errors import DeviceError
from imaging_ft.inference.gpu import Given, OnGpu, bucket
from imaging_ft.inference.network import PIECE, OnCpu, open_network
from imaging_ft.inference.parts import split
from imaging_ft.inference.providers import Device, Opened
from imaging_ft.inference.runner import Runner
from tests.inference.nets import LINEAR, Made, make, noise

SHAPE = (1, 64, 64)
BOTH = ["probabilities", "logits"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(LINEAR["pool, flatten, gemm"], tmp_path_factory.mktemp("net") / "m.onnx")


@pytest.fixture(scope="module")
def runner(made: Made) -> Runner:
    return Runner.open(made.path, device=Device.CPU)


@pytest.fixture(scope="module")
def network(made: Made) -> bytes:
    return split(onnx.load(made.path), where="m.onnx").cls.SerializeToString()


@pytest.fixture(scope="module")
def levels(runner: Runner) -> np.ndarray:
    return np.stack([runner.levels(image) for image in images(9)])


def images(count: int) -> list[Any]:
    return [noise((20 + 7 * index, 90 - 5 * index, 1), seed=index) for index in range(count)]


class Session:
    """A session on the CPU that keeps a list of what ran on it, and by whom; it may refuse graphs, or large batches."""

    def __init__(self, network: bytes, *, refuses_graphs: bool = False, holds: int = 1000) -> None:
        self.real: Any = ort.InferenceSession(network, providers=["CPUExecutionProvider"])
        self.refuses_graphs, self.holds = refuses_graphs, holds
        self.ran: list[str] = []
        self.threads: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def io_binding(self) -> Any:
        return self.real.io_binding()

    def run(self, names: Any, feed: Any, options: Any = None) -> Any:
        if len(next(iter(feed.values()))) > self.holds:
            raise RuntimeError("Failed to allocate memory for requested buffer")
        self.threads.add(threading.current_thread().name)
        return self.real.run(names, feed, options)

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        graph = options.get_run_config_entry("gpu_graph_id")
        if graph != "-1" and self.refuses_graphs:
            raise RuntimeError("operation would make the legacy stream depend on a capturing blocking stream")
        self.ran.append(graph)
        self.threads.add(threading.current_thread().name)
        self.real.run_with_iobinding(binding, options)


def on_gpu(session: Any, sizes: tuple[int, ...] = (4, 1, 2), *, graphs: bool = True) -> OnGpu:
    net = OnGpu(session, Given("levels", SHAPE, np.dtype(np.uint8)), sizes, graphs=graphs, memory="cpu")
    net.start()
    return net


def test_images_of_any_sizes_run_together_and_give_what_the_whole_file_gives_them_alone(
    made: Made, runner: Runner
) -> None:
    session: Any = ort.InferenceSession(made.path, providers=["CPUExecutionProvider"])
    alone = [session.run(["probabilities"], {"image": image[np.newaxis]})[0][0] for image in images(9)]
    assert np.array_equal(runner.predict(images(9)), np.stack(alone))
    found = runner.run(np.stack([runner.levels(image) for image in images(9)]))
    assert np.array_equal(found["probabilities"], np.stack(alone))
    assert set(found) == {"logits", "probabilities"}


def test_more_images_than_a_batch_holds_keep_their_order(runner: Runner, levels: np.ndarray) -> None:
    wanted = runner.predict(images(9))
    assert np.array_equal(runner.predict(images(9) * 9), np.tile(wanted, (9, 1)))
    assert np.array_equal(runner.run(np.tile(levels, (9, 1, 1, 1)))["probabilities"], np.tile(wanted, (9, 1)))
    assert runner.predict([]).shape == (0, 3)


def test_a_batch_goes_into_the_smallest_size_that_holds_it() -> None:
    assert [bucket(count, [1, 2, 4, 8]) for count in range(1, 9)] == [1, 2, 4, 4, 8, 8, 8, 8]


@pytest.mark.parametrize("graphs", [False, True])
def test_a_gpu_is_given_few_sizes_and_each_row_is_its_own(
    graphs: bool, network: bytes, runner: Runner, levels: np.ndarray
) -> None:
    session = Session(network)
    net = on_gpu(session, graphs=graphs)
    # Each size before any request; a graph twice, for it has to give what the kernels gave.
    assert session.ran == (["1", "1", "2", "2", "3", "3"] if graphs else ["-1"] * 3)
    session.ran.clear()
    kept: list[Any] = []
    for count in (3, 1, 7, 4, 9):
        found = net.run(levels[:count], BOTH)
        assert list(found) == BOTH
        kept.append((found, runner.run(levels[:count])))
    for found, wanted in kept:  # afterwards: an answer is no view of memory that the next batch takes
        for name in BOTH:
            assert np.abs(found[name] - wanted[name]).max() < 1e-5
            assert found[name].shape == wanted[name].shape
    assert session.ran == (["3", "1", "3", "3", "3", "3", "3", "1"] if graphs else ["-1"] * 8)


def test_a_graph_that_gives_other_values_is_refused(network: bytes) -> None:
    """On an H100, graphs over kernels chosen by trial gave logits six apart, without an error."""

    class Stale(Session):
        """A graph that replays into memory that isn't its own any more."""

        def run_with_iobinding(self, binding: Any, options: Any) -> None:
            super().run_with_iobinding(binding, options)
            if options.get_run_config_entry("gpu_graph_id") == "2":
                found = binding.get_outputs()[0]
                found.update_inplace(found.numpy() + 6)

    with pytest.raises(RuntimeError, match="a CUDA graph of 2 images gives other logits"):
        on_gpu(Stale(network))
    on_gpu(Stale(network), graphs=False)


def test_many_threads_get_their_own_rows_and_one_thread_uses_the_gpu(
    network: bytes, runner: Runner, levels: np.ndarray
) -> None:
    session = Session(network)
    net = on_gpu(session)
    wanted = runner.run(levels)["logits"]
    apart: list[float] = []

    def ask(place: int) -> None:
        for turn in range(50):
            at, count = (place + turn) % 5, 1 + (place * turn) % 4
            found = net.run(levels[at : at + count], ["logits"])["logits"]
            apart.append(float(np.abs(found - wanted[at : at + count]).max()))

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(apart) == 8 * 50
    assert max(apart) < 1e-5
    assert len(session.threads) == 1
    assert threading.current_thread().name not in session.threads


def test_sizes_that_do_not_fit_are_left_out_and_larger_batches_cut(
    network: bytes, runner: Runner, levels: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    session = Session(network, holds=2)
    net = on_gpu(session)
    assert "batches of 4 and more don't run on the GPU" in caplog.text
    assert np.abs(net.run(levels, ["logits"])["logits"] - runner.run(levels)["logits"]).max() < 1e-5


@pytest.mark.parametrize(("refuses", "wanted"), [(False, [True]), (True, [True, False])])
def test_a_network_that_cannot_be_captured_is_opened_anew_without_graphs(
    refuses: bool, wanted: list[bool], network: bytes, runner: Runner, levels: np.ndarray
) -> None:
    asked: list[bool] = []

    def start(*, graphs: bool) -> Opened:
        asked.append(graphs)
        session = Session(network, refuses_graphs=refuses)
        return Opened(session, Device.CUDA, graphs=graphs, memory="cpu")

    opened, net = open_network(start, SHAPE, (1, 2, 4))
    assert asked == wanted
    assert opened.graphs is (not refuses)
    assert np.abs(net.run(levels, ["logits"])["logits"] - runner.run(levels)["logits"]).max() < 1e-5


def test_a_gpu_that_starts_but_runs_nothing_is_an_error(network: bytes) -> None:
    def start(*, graphs: bool) -> Opened:
        return Opened(Session(network, holds=0), Device.CUDA, graphs=graphs, memory="cpu")

    with pytest.raises(DeviceError, match=r"--device cuda: started, but can't run this model: .*; use --device cpu"):
        open_network(start, SHAPE, (1, 2))


class Noting(Session):
    """A session that notes how many images ran together."""

    def __init__(self, network: bytes) -> None:
        super().__init__(network)
        self.counts: list[int] = []

    def run(self, names: Any, feed: Any, options: Any = None) -> Any:
        self.counts.append(len(next(iter(feed.values()))))
        return super().run(names, feed, options)


@pytest.mark.parametrize(
    ("count", "most", "wide", "pieces"),
    [
        (1, 32, [1], []),  # all cores for a lone image
        (2, 32, [2], []),
        (3, 32, [], [1, 1, 1]),
        (8, 32, [], [2, 3, 3]),
        (9, 32, [], [3, 3, 3]),
        (9, 1, [], [1] * 9),  # a file for one image at a time
    ],
)
def test_on_a_cpu_a_batch_is_run_in_pieces_side_by_side(
    count: int, most: int, wide: list[int], pieces: list[int], network: bytes, runner: Runner, levels: np.ndarray
) -> None:
    together, alone = Noting(network), Noting(network)
    cpu = OnCpu(together, "levels", most=most, alone=alone, lanes=3)
    found = cpu.run(levels[:count], BOTH)
    assert (together.counts, sorted(alone.counts)) == (wide, pieces)
    assert all(name.startswith("lane") for name in alone.threads)
    for name in BOTH:
        assert np.abs(found[name] - runner.run(levels[:count])[name]).max() < 1e-6


def test_pieces_stay_small_and_a_runner_of_one_core_runs_them_one_after_the_other(
    network: bytes, levels: np.ndarray
) -> None:
    many = np.concatenate([levels] * 3)
    alone = Noting(network)
    found = OnCpu(Noting(network), "levels", most=32, alone=alone, lanes=2).run(many, BOTH)
    assert max(alone.counts) == PIECE
    assert sum(alone.counts) == len(many)
    single = Noting(network)
    again = OnCpu(single, "levels", most=32).run(many, BOTH)
    assert single.counts == [4, 4, 4, 4, 4, 4, 3]
    assert single.threads == {threading.current_thread().name}
    assert all(np.array_equal(found[name], again[name]) for name in BOTH)


def test_a_runner_holds_a_session_for_each_way(made: Made) -> None:
    runner = Runner.open(made.path, device=Device.CPU, threads=2)
    network: Any = runner._network
    threads = [session.get_session_options().intra_op_num_threads for session in (network._session, network._alone)]
    assert threads == [2, 1]
    only = Runner.open(made.path, device=Device.CPU, threads=1)._network
    assert only._session is only._alone  # type: ignore[attr-defined]
