"""A run records which images its model has seen: its own, and those of the runs it went on from."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from imaging_ft.bundle import Seen, digest, seen
from imaging_ft.data import Prepared, prepare
from imaging_ft.errors import ConfigError
from imaging_ft.training.provenance import origin_of
from imaging_ft.training.seen import seen_before, seen_by
from imaging_ft.training.settings import TrainSettings
from imaging_ft.types import Split
from tests.conftest import Trained, write_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(str(write_dataset(tmp_path_factory.mktemp("new"), seed=5)))


def digests_of(data: Prepared, *splits: Split) -> set[bytes]:
    return {digest(data.hashes[sample.id]) for split in splits for sample in data.of(split)}


def settings(**values: Any) -> TrainSettings:
    return TrainSettings.checked(values, where="test")


def test_a_run_names_what_it_was_trained_and_validated_on_and_not_its_test_images(trained: Trained) -> None:
    recorded = json.loads((trained.run / "model.json").read_text(encoding="utf-8"))["seen"]
    found = Seen.checked(recorded, where="model.json")
    data = prepare(str(trained.dataset))
    assert found.known() == digests_of(data, Split.TRAIN, Split.VAL)
    assert not found.known().intersection(digests_of(data, Split.TEST))
    assert (found.images, found.complete) == (len(found.known()), True)


@pytest.mark.parametrize("by", ["from_run", "weights", "folder"])
def test_what_an_earlier_run_has_seen_is_seen_still(by: str, trained: Trained, data: Prepared) -> None:
    start = {"from_run": str(trained.run)}
    if by != "from_run":
        start = {"weights": str(trained.run / "model.safetensors" if by == "weights" else trained.run)}
    origin = origin_of(settings(**start))
    assert origin is not None
    found = seen_by(data, None, origin.seen)
    earlier = digests_of(prepare(str(trained.dataset)), Split.TRAIN, Split.VAL)
    assert found.known() == earlier | digests_of(data, Split.TRAIN, Split.VAL)
    assert found.complete


@pytest.mark.parametrize("recorded", [{}, {"seen": None}, {"seen": {"images": 2, "digests": "AAAA"}}])
def test_after_a_run_that_does_not_say_it_is_not_complete(recorded: Any, data: Prepared, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(json.dumps(recorded))
    found = seen_by(data, None, seen_before(tmp_path))
    assert not found.complete
    assert found.known() == digests_of(data, Split.TRAIN, Split.VAL)


def test_weights_that_are_no_runs_have_seen_nothing_that_is_known(tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    weights.touch()
    origin = origin_of(settings(weights=str(weights)))
    assert origin is not None
    assert (origin.seen, origin.practised) == (Seen(images=0, complete=False), ())


def test_too_many_images_are_counted_and_not_listed(data: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    count = len(digests_of(data, Split.TRAIN, Split.VAL))
    monkeypatch.setattr(seen, "MOST", count)
    assert seen_by(data, None, None).complete
    monkeypatch.setattr(seen, "MOST", count - 1)
    assert seen_by(data, None, None) == Seen(images=count, complete=False)


def test_a_hundred_thousand_images_take_less_than_a_megabyte() -> None:
    found = Seen.of(hashlib.sha256(str(number).encode()).hexdigest() for number in range(100_000))
    assert found.images == 100_000
    assert len(found.model_dump_json()) < 1_000_000


def test_damaged_digests_are_refused_without_printing_them() -> None:
    values = {"images": 3, "digests": "A" * 100_000}
    with pytest.raises(ConfigError, match="digests of seen images are not 6 bytes for each of 3") as caught:
        Seen.checked(values, where="model.json")
    assert len(str(caught.value)) < 1000


def test_what_is_not_listed_is_counted_and_never_called_complete(data: Prepared) -> None:
    found = seen_by(data, None, Seen(images=300_000, complete=False))
    assert (found.images, found.complete) == (300_000, False)
    assert found.known() == digests_of(data, Split.TRAIN, Split.VAL)
    assert found.brief() == Seen(images=300_000, complete=False)
    with pytest.raises(ConfigError, match="not 6 bytes for each of 5"):
        Seen.checked({"images": 5, "complete": True}, where="model.json")
