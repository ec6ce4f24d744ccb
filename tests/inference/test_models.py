"""Models side by side: exchanged while requests go on, refused where they can't be opened, gone once answered."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from imaging_ft.errors import BundleError, DrainingError, InputError, UnknownModelError
from imaging_ft.inference.batching import Answer
from imaging_ft.inference.models import Models
from imaging_ft.inference.network import PIECE, Batch, Outputs
from imaging_ft.inference.providers import Device
from imaging_ft.inference.runner import Runner
from tests.inference.nets import LINEAR, make, noise

IMAGES = [noise((30 + 3 * index, 40, 1), seed=index) for index in range(4)]


class Held(Runner):
    """A runner whose batches, once its self-test is passed, wait for a gate."""

    gate = threading.Event()

    def run(self, levels: Batch, outputs: Sequence[str] = ("logits", "probabilities")) -> Outputs:
        if self.output_shapes:
            assert self.gate.wait(20)
        return super().run(levels, outputs)


@pytest.fixture
def gate() -> "Iterator[threading.Event]":
    Held.gate.clear()
    yield Held.gate
    Held.gate.set()


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    kinds = {"plain": "pool, flatten, gemm", "normed": "a norm before the head"}
    return {name: make(LINEAR[kind], folder / f"{name}.onnx").path for name, kind in kinds.items()}


def ask(models: Models, name: str) -> "tuple[int, list[Future[Answer]]]":
    served, futures = models.submit(name, lambda runner: [runner.levels(image) for image in IMAGES])
    return served.version, futures


def said(futures: "list[Future[Answer]]") -> np.ndarray:
    return np.stack([future.result(20).outputs["probabilities"] for future in futures])


def test_each_model_answers_under_its_name(paths: dict[str, Path]) -> None:
    models = Models()
    for path in paths.values():
        models.load(path)
    assert models.names() == ["plain", "normed"]
    for name in paths:
        version, futures = ask(models, name)
        assert version == 1
        assert np.array_equal(said(futures), models.get(name).runner.predict(IMAGES))
    with pytest.raises(UnknownModelError, match="no model named 'other' is served; there are: plain, normed"):
        models.get("other")
    models.close()


def test_a_reload_refuses_nobody_and_each_answer_is_of_the_version_that_it_names(paths: dict[str, Path]) -> None:
    models = Models(max_queue=4096)
    models.load(paths["plain"], name="scan")
    expected = {0: models.get("scan").runner.predict(IMAGES)}
    wrong: list[str] = []
    versions: set[int] = set()
    stop = threading.Event()

    def client() -> None:
        while not stop.is_set():
            try:
                version, futures = ask(models, "scan")
                versions.add(version)
                if not np.array_equal(said(futures), expected[(version + 1) % 2]):
                    wrong.append(f"version {version} answered as another")
            except Exception as error:  # noqa: BLE001
                wrong.append(repr(error))

    other = Models()
    expected[1] = other.load(paths["normed"]).runner.predict(IMAGES)
    other.close()
    assert not np.array_equal(expected[0], expected[1])
    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(8):
        assert models.load(paths["normed" if turn % 2 == 0 else "plain"], name="scan").version == turn + 2
    stop.set()
    for thread in threads:
        thread.join(20)
    assert wrong == []
    assert len(versions) > 2
    assert models.drain(20)
    models.close()


def test_a_file_that_cannot_be_opened_leaves_the_old_one(paths: dict[str, Path], tmp_path: Path) -> None:
    models = Models()
    models.load(paths["plain"], name="scan")
    (tmp_path / "broken.onnx").write_bytes(paths["plain"].read_bytes()[:500])
    with pytest.raises(BundleError):
        models.load(tmp_path / "broken.onnx", name="scan")
    assert models.get("scan").version == 1
    assert said(ask(models, "scan")[1]).shape == (4, 3)
    models.close()


def test_an_unloaded_model_is_gone_and_its_accepted_requests_are_answered(paths: dict[str, Path]) -> None:
    models = Models()
    models.load(paths["plain"])
    _, futures = ask(models, "plain")
    models.unload("plain")
    assert said(futures).shape == (4, 3)
    with pytest.raises(UnknownModelError, match="there are: none"):
        models.unload("plain")
    models.close()


def test_a_version_never_names_two_files(paths: dict[str, Path]) -> None:
    models = Models()
    assert models.load(paths["plain"], name="scan").version == 1
    models.unload("scan")
    assert models.load(paths["normed"], name="scan").version == 2
    assert models.load(paths["normed"], name="other").version == 1
    models.close()


def test_while_one_model_drains_none_takes_more(paths: dict[str, Path], gate: threading.Event) -> None:
    models = Models(Held.open)
    for path in paths.values():
        models.load(path)
    _, futures = ask(models, "plain")
    draining = threading.Thread(target=models.drain, args=(20,))
    draining.start()
    while not models.draining:
        pass
    with pytest.raises(DrainingError, match="the service is stopping; ask another one"):
        ask(models, "normed")
    gate.set()
    draining.join(20)
    assert said(futures).shape == (4, 3)
    models.close()


def test_a_request_on_its_way_when_draining_begins_is_told(paths: dict[str, Path], gate: threading.Event) -> None:
    models = Models(Held.open)
    for path in paths.values():
        models.load(path)
    ask(models, "plain")

    def levels(runner: Runner) -> list[Batch]:
        assert not models.drain(0)
        return [runner.levels(image) for image in IMAGES]

    with pytest.raises(DrainingError, match="the service is stopping; ask another one"):
        models.submit("normed", levels)
    gate.set()
    assert models.drain(20)
    models.close()


def test_all_models_share_the_time_that_draining_may_take(paths: dict[str, Path]) -> None:
    gates = {name: threading.Event() for name in "abcd"}
    models = Models(Held.open)
    for name, gate in gates.items():
        runner = models.load(paths["plain"], name=name).runner
        assert isinstance(runner, Held)
        runner.gate = gate
        ask(models, name)

    def answer_one_after_the_other() -> None:
        while not models.draining:
            pass
        for gate in gates.values():
            assert not threading.Event().wait(0.15)  # each within the time, but not all of them
            gate.set()

    answering = threading.Thread(target=answer_one_after_the_other)
    answering.start()
    assert not models.drain(0.25)
    answering.join(20)
    assert models.drain(20)
    models.close()


def test_closing_fails_what_waits_also_for_a_model_that_is_going(paths: dict[str, Path], gate: threading.Event) -> None:
    models = Models(Held.open, max_batch=4)
    models.load(paths["plain"])
    _, runs = ask(models, "plain")
    while models.get("plain").batcher.waiting:
        pass
    _, waits = ask(models, "plain")
    models.unload("plain")
    assert not models.drain(0)
    closing = threading.Thread(target=models.close)
    closing.start()
    for future in waits:
        with pytest.raises(DrainingError):
            future.result(20)
    gate.set()
    closing.join(20)
    assert said(runs).shape == (4, 3)


def test_a_draining_service_takes_and_loads_no_more(paths: dict[str, Path]) -> None:
    models = Models()
    models.load(paths["plain"])
    _, futures = ask(models, "plain")
    assert models.drain(20)
    assert all(future.done() for future in futures)
    with pytest.raises(DrainingError):
        ask(models, "plain")
    with pytest.raises(DrainingError, match="it loads no model"):
        models.load(paths["normed"])
    models.close()


@pytest.mark.parametrize("name", ["", "a/b"])
def test_a_name_that_no_address_can_hold_is_refused(name: str, paths: dict[str, Path]) -> None:
    models = Models()
    with pytest.raises(InputError, match="can't be a model's name"):
        models.load(paths["plain"], name=name)


def test_without_a_size_batches_are_as_the_device_likes_them_best(paths: dict[str, Path]) -> None:
    def size(**limits: int) -> int:
        models = Models(lambda path: Runner.open(path, device=Device.CPU, threads=3), **limits)
        return models.load(paths["plain"]).batcher.max_batch

    assert size() == 2 * 3 * PIECE
    assert size(max_queue=5) == 5
    assert size(max_batch=2) == 2
