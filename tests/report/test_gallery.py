"""The worst failures: which are chosen of predictions with known truth, and what their pictures show."""

import base64
import io
from pathlib import Path
from typing import Any

import cv2
import hypothesis
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imaging_ft.augment.conditions import Setting, Suite
from imaging_ft.bundle import decide
from imaging_ft.data import Sample
from imaging_ft.errors import ImageError
from imaging_ft.inference import Device
from imaging_ft.inference.runner import Runner
from imaging_ft.report.gallery import MOST, MOST_ALIKE, MOST_BYTES, MOST_CLEAN, NONE, SIDE, pictures, worst_failures
from imaging_ft.report.metrics import Scored
from imaging_ft.report.result import Failure
from imaging_ft.report.store import About, Predictions
from imaging_ft.types import Task
from tests.inference.nets import BRIGHT, LINEAR, make, scene
from tests.report.rich import rich_report

LABELS = ["bright", "dark", "unsure"]
SETTINGS: tuple[dict[str, int | str], ...] = ({}, {"low_dose": 5}, {"roll": 3}, {"low_dose": 5, "roll": 3})
SUITE = Suite(name="test", conditions=("low_dose", "roll"), severities=(3, 5), grid=None)


def predictions(truth: np.ndarray, said: np.ndarray, *, task: Task = Task.MULTICLASS, **changes: Any) -> Predictions:
    """Return predictions of [n] images: truth [n, classes], probabilities [settings, n, classes]."""
    report = rich_report()
    settings, n = SETTINGS[: len(said)], len(truth)
    flat = said.reshape(-1, said.shape[2]).astype(np.float32)
    labels = LABELS[: said.shape[2]]
    values: dict[str, Any] = {
        "about": About(
            created=report.created,
            tool=report.tool,
            model=report.model.model_copy(update={"task": task.value, "labels": labels}),
            dataset=report.dataset,
            suite="test",
            severities=[3, 5],
            conditions=[],
            positive=[],
            warnings=[],
            recorded=[],
            measured=[],
        ),
        "settings": settings,
        "starts": tuple(n * index for index in range(len(settings) + 1)),
        "rows": Scored(
            np.tile(truth, (len(settings), 1)).astype(np.bool_),
            flat,
            decide(flat, task=task, thresholds=[0.5] * len(labels)),
            np.tile(np.arange(n), len(settings)),
        ),
        "images": np.tile(np.arange(n), len(settings)),
        "names": pl.Series([f"images/{index}.png" for index in range(n)]),
        "recorded": pl.DataFrame(),
        "measured": pl.DataFrame(),
    }
    return Predictions(**(values | changes))


def one_hot(classes: list[int]) -> np.ndarray:
    return np.eye(len(LABELS), dtype=np.bool_)[classes]


def drawn(seed: int, *, n: int, settings: int) -> tuple[np.ndarray, np.ndarray]:
    """Return truth and probabilities, with many equal ones among them."""
    rng = np.random.default_rng(seed)
    truth = one_hot(rng.integers(0, 3, n).tolist())
    said = rng.dirichlet([0.5, 0.5, 0.5], (settings, n))
    return truth, np.round(said, 1 if seed % 2 else 6)


def naively(found: Predictions) -> list[tuple[str, int]]:
    """Choose from all mistakes by the rules, one after the other."""
    rows = []
    for row in range(len(found.rows.truth)):
        truth, said = found.rows.truth[row].argmax(), found.rows.said[row].argmax()
        if truth != said:
            setting = int(np.searchsorted(found.starts, row, side="right")) - 1
            p = found.rows.probabilities[row]
            rows.append((-float(p[said]), float(p[truth]), setting, int(found.images[row]), int(truth)))
    chosen: list[tuple[int, int, int]] = []
    for _, _, setting, image, truth in sorted(rows):
        alike = sum(one[0] == setting and one[2] == truth for one in chosen)
        clean = sum(one[0] == 0 for one in chosen)
        taken = any(one[1] == image for one in chosen)
        if len(chosen) < MOST and not taken and alike < MOST_ALIKE and not (setting == 0 and clean >= MOST_CLEAN):
            chosen.append((setting, image, truth))
    return [(f"images/{image}.png", setting) for setting, image, _ in chosen]


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 4))
@hypothesis.settings(max_examples=50, deadline=None)
def test_the_chosen_are_those_that_the_rules_choose_of_all(seed: int, n: int, settings: int) -> None:
    found = predictions(*drawn(seed, n=n, settings=settings))
    chosen = worst_failures(found)
    assert [(one.image, SETTINGS.index(one.conditions)) for one in chosen] == naively(found)
    assert len({one.image for one in chosen}) == len(chosen) <= MOST
    assert [one.probability for one in chosen] == sorted((one.probability for one in chosen), reverse=True)
    for one in chosen:
        assert one.truth != one.said
        assert one.truth_probability <= one.probability


def test_a_failure_says_what_was_said_of_which_image() -> None:
    truth = one_hot([0, 1])
    said = np.array([[[0.9, 0.05, 0.05], [0.2, 0.7, 0.1]], [[0.125, 0.75, 0.125], [0.1, 0.8, 0.1]]])
    (failure,) = worst_failures(predictions(truth, said))
    assert failure == Failure(
        image="images/0.png",
        conditions={"low_dose": 5},
        truth="bright",
        said="dark",
        probability=0.75,
        truth_probability=0.125,
    )


def test_where_nothing_is_wrong_nothing_is_chosen() -> None:
    truth = one_hot([0, 1, 2])
    assert worst_failures(predictions(truth, truth[np.newaxis] * 0.8 + 0.05)) == []


def test_of_several_classes_the_surest_wrong_answer_counts() -> None:
    truth = np.array([[1, 0, 0], [0, 0, 0], [1, 1, 0], [1, 0, 0]], np.bool_)
    said = np.array([[[0.9, 0.75, 0.1], [0.6, 0.2, 0.1], [0.125, 0.6, 0.1], [0.9, 0.1, 0.2]]])
    found = worst_failures(predictions(truth, said, task=Task.MULTILABEL))
    assert [(one.image[-5], one.truth, one.said) for one in found] == [
        ("2", "bright|dark", "dark"),  # bright missed: sure by 1 - 0.125
        ("0", "bright", "bright|dark"),
        ("1", NONE, "bright"),
    ]
    assert [one.probability for one in found] == pytest.approx([0.875, 0.75, 0.6])
    assert [one.truth_probability for one in found] == pytest.approx([0.125, 0.25, 0.4])


def test_a_hundred_thousand_equal_mistakes_are_chosen_from_in_order() -> None:
    n = 100_000
    said = np.tile(np.array([0.0, 1.0, 0.0], np.float32), (2, n, 1))
    found = worst_failures(predictions(one_hot([0] * n), said))
    assert [one.image for one in found] == [f"images/{index}.png" for index in range(4)]


def samples(folder: Path, images: list[np.ndarray]) -> list[Sample]:
    for index, image in enumerate(images):
        assert cv2.imwrite(str(folder / f"{index}.png"), image[:, :, ::-1] if image.shape[2] == 3 else image)
    return [Sample(f"{index}.png", folder / f"{index}.png", "dark") for index in range(len(images))]


def failure(image: str, conditions: dict[str, int | str], *, truth: str = "dark", said: str = "bright") -> Failure:
    return Failure(
        image=image, conditions=conditions, truth=truth, said=said, probability=0.9, truth_probability=0.05
    )  # fmt: skip


def settings() -> list[Setting]:
    return SUITE.settings()


class Drawer:
    """A made-up net that draws failures."""

    def __init__(self, path: Path, **changes: Any) -> None:
        made = make(LINEAR["pool, flatten, gemm"], path / "m.onnx", **changes)
        self.runner = Runner.open(made.path, device=Device.CPU)
        self.activation = made.activation

    def draw(self, failures: list[Failure], images: list[Sample]) -> list[Any]:
        return pictures(
            failures,
            samples=images,
            settings=settings(),
            runner=self.runner,
            activation=self.activation,
            seed=0,
        )


def read(uri: str) -> np.ndarray:
    head, _, data = uri.partition(",")
    assert head == "data:image/webp;base64"
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.format == "WEBP"
    assert max(image.size) <= SIDE
    return np.asarray(image.convert("RGB"), np.float64)


def colour(image: np.ndarray) -> np.ndarray:
    """Return how far each place is from gray."""
    return image.max(axis=2) - image.min(axis=2)


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_the_pictures_show_the_image_its_condition_and_where_the_evidence_was(tmp_path: Path, resize: str) -> None:
    drawer = Drawer(tmp_path, resize=resize)
    images = samples(tmp_path, [scene(300, 400, (30, 280, 80, 80)), scene(40, 30, (2, 2, 12, 12))])
    changed, clean = drawer.draw([failure("0.png", {"low_dose": 5}), failure("1.png", {})], images)
    assert clean.changed is None
    original, under, map_ = (read(uri) for uri in (changed.original, changed.changed, changed.activation))
    assert original.shape == under.shape == map_.shape == (168, 224, 3)
    assert colour(original).max() < 12
    assert np.abs(original - under).mean() > 1
    box = (slice(25, 55), slice(165, 195))
    assert colour(map_)[box].mean() > 60
    assert colour(map_)[100:, :100].mean() < 12
    assert read(clean.original).shape == (224, 168, 3)


def test_the_region_is_seen_without_colour(tmp_path: Path) -> None:
    """A white line between two black ones lies around it, where the image itself holds neither white nor black."""
    image = np.full((224, 224, 1), 50, np.uint8)
    image[64:160, 64:160] = 110
    (found,) = Drawer(tmp_path).draw([failure("0.png", {})], samples(tmp_path, [image]))
    row = read(found.activation).mean(axis=2)[112]
    for edge in (row[56:72], row[152:168]):
        assert edge.max() > 195
        assert edge.min() < 30
    assert row[:50].min() > 40
    assert row[80:144].max() < 185


def test_deep_images_are_shown_through_the_models_window(tmp_path: Path) -> None:
    images = samples(tmp_path, [scene(64, 64, (16, 16, 32, 32), full=3000)])
    drawer = Drawer(tmp_path, dtype="uint16", window=(1000, 3000))
    (found,) = drawer.draw([failure("0.png", {})], images)
    original = read(found.original)
    assert original[112, 112].min() > 250
    assert original[10, 10].max() < 5


def test_a_colour_image_is_shown_in_colour_under_a_net_that_sees_it_and_its_map_on_gray(tmp_path: Path) -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, :32] = (200, 30, 30)
    images = samples(tmp_path, [image])
    (gray,) = Drawer(tmp_path).draw([failure("0.png", {})], images)
    (rgb,) = Drawer(tmp_path, channels=3).draw([failure("0.png", {}, said="unsure")], images)
    assert colour(read(gray.original)).max() < 12
    assert read(rgb.original)[112, 56] == pytest.approx([200, 30, 30], abs=12)
    assert colour(read(rgb.activation)).max() < 12  # nothing speaks for this class


def test_of_several_classes_the_map_is_of_the_surest_wrong_answer(tmp_path: Path) -> None:
    """A bright image is said to be bright, surely, and not dark, less surely: both wrong, the map is of brightness."""
    drawer = Drawer(tmp_path, task=Task.MULTILABEL)
    images = samples(tmp_path, [scene(64, 64, (0, 0, 64, 40))])
    several = failure("0.png", {}, truth="dark", said="bright")
    seen: list[int] = []
    draw = drawer.activation.map
    drawer.activation.map = lambda image, label: (seen.append(label), draw(image, label))[1]
    drawer.draw([several, failure("0.png", {}, truth="bright|dark", said="bright")], images)
    drawer.draw([failure("0.png", {}, truth=NONE, said="bright")], images)
    assert seen == [BRIGHT, 1, BRIGHT]


@pytest.mark.parametrize("count", [3, MOST, 26])
def test_all_pictures_together_stay_small_even_of_noise(count: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = samples(tmp_path, [rng.integers(0, 256, (230, 230, 1), dtype=np.uint8) for _ in range(2)])
    found = Drawer(tmp_path).draw([failure(f"{index % 2}.png", {"roll": 3}) for index in range(count)], images)
    sizes = [len(uri) for one in found for uri in (one.original, one.changed, one.activation)]
    assert sum(sizes) < MOST_BYTES
    assert min(sizes) > 1000
    for uri in (found[0].original, found[0].activation):
        assert min(read(uri).shape[:2]) > 100 or count > MOST


def test_the_same_failures_are_the_same_bytes(tmp_path: Path) -> None:
    images = samples(tmp_path, [scene(70, 90, (10, 20, 30, 30))])
    failures = [failure("0.png", {"low_dose": 5}), failure("0.png", {"roll": 5})]
    drawer = Drawer(tmp_path)
    assert drawer.draw(failures, images) == drawer.draw(failures, images)


def test_an_image_that_is_gone_is_told(tmp_path: Path) -> None:
    images = samples(tmp_path, [scene(70, 90, (10, 20, 30, 30))])
    (tmp_path / "0.png").unlink()
    with pytest.raises(ImageError, match=r"0\.png"):
        Drawer(tmp_path).draw([failure("0.png", {})], images)
