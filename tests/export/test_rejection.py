"""What a file rejects: images far from training's, and what is no picture."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from PIL import Image

from imaging_ft.bundle import DISTANCE, LOGITS
from imaging_ft.export.onnx import assemble
from imaging_ft.export.rejection import Gaussian, features_of, fit_ood, fit_quality, with_distance
from imaging_ft.export.target import load_target
from imaging_ft.export.validation import Training, Validation
from imaging_ft.image import read_image
from imaging_ft.inference.rejection import Looks, measure, rejection
from imaging_ft.inference.runner import Runner
from imaging_ft.preprocess import LEVELS, prepare
from imaging_ft.types import Precision
from tests.conftest import Exported
from tests.export.small import built_for, images_of, info_of, model_of, validation_of

SPEC = info_of().input
RNG = np.random.default_rng(0)


def levels_of(count: int, *, seed: int) -> np.ndarray:
    return np.stack([prepare(image, SPEC).transpose(2, 0, 1) for image in images_of(SPEC, count, seed=seed)])


@pytest.fixture(scope="module")
def validation(tmp_path_factory: pytest.TempPathFactory) -> Validation:
    """Validation with training images as files; one of them can't be read."""
    folder = tmp_path_factory.mktemp("training")
    paths = [folder / f"{index}.png" for index in range(25)]
    for path, image in zip(paths, images_of(SPEC, 24, seed=5), strict=False):
        Image.fromarray(image[..., 0]).save(path)
    paths[-1].write_bytes(b"no picture")
    found = validation_of(model_of(), info_of())
    training = Training(paths, np.arange(25) % 3)
    return Validation(found.samples, found.images, found.truth, found.suite, training)


def test_the_distance_is_mahalanobis_under_the_whole_covariance() -> None:
    labels = np.arange(300) % 3
    mixing = RNG.normal(0, 1, (20, 20)) * np.linspace(3, 0.1, 20)
    features = RNG.normal(0, 1, (300, 20)) @ mixing + 5 * labels[:, None]
    gaussian = Gaussian.fit(features, labels)
    components = gaussian.directions.shape[1]
    assert components == 19
    means = np.stack([features[labels == label].mean(axis=0) for label in range(3)])
    within = features - means[labels]
    values, vectors = np.linalg.eigh(within.T @ within / (300 - 3))
    values[: 20 - components] = values[: 20 - components].mean()
    inverse = vectors @ np.diag(1 / values) @ vectors.T
    others = RNG.normal(0, 10, (7, 20))
    apart = others[:, None] - means[None]
    wanted = np.sqrt(np.einsum("ncf,fg,ncg->nc", apart, inverse, apart).min(axis=1))
    assert gaussian.distance(others) == pytest.approx(wanted, rel=1e-6)


def test_few_training_images_give_fewer_directions_and_still_a_distance() -> None:
    features = RNG.normal(0, 1, (5, 40))
    gaussian = Gaussian.fit(features, np.array([0, 0, 1, 1, 1]))
    assert gaussian.directions.shape == (40, 0)
    assert np.isfinite(gaussian.distance(features)).all()
    one_image = Gaussian.fit(np.repeat(features[:1], 2, axis=0), np.array([0, 0]))
    assert np.isfinite(one_image.distance(features)).all()


def test_the_graph_gives_the_distance_of_its_own_features() -> None:
    network = built_for("server-cpu").network
    levels = levels_of(12, seed=1)
    features = features_of(network, iter(levels))
    gaussian = Gaussian.fit(features, np.arange(12) % 3)
    session: Any = ort.InferenceSession(with_distance(network, gaussian).SerializeToString())
    found = session.run([DISTANCE], {LEVELS: levels_of(5, seed=9)})[0]
    assert found.shape == (5, 1)
    wanted = gaussian.distance(features_of(network, iter(levels_of(5, seed=9))))
    assert found[:, 0] == pytest.approx(wanted, rel=1e-2)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8])
def test_a_file_knows_its_training_images_and_what_is_unlike_them(
    validation: Validation, precision: Precision, tmp_path: Path
) -> None:
    bundle, graph = assemble(
        model_of(), info_of(), validation, load_target("server-cpu"), precision=precision, max_drop=1
    )
    assert bundle.ood is not None
    assert bundle.ood.images == 24  # one couldn't be read
    assert bundle.ood.validation == len(validation.images)
    assert bundle.ood.rejected == 0
    session: Any = ort.InferenceSession(graph.SerializeToString())
    stored = np.stack([image for image in validation.images if image.shape[:2] == (72, 80)])
    before, near = session.run([LOGITS, DISTANCE], {"image": stored})
    assert (near <= bundle.ood.threshold).all()
    stripes = np.zeros((1, 72, 80, 1), np.uint8)
    stripes[:, ::2] = 255
    assert session.run([DISTANCE], {"image": stripes})[0][0, 0] > bundle.ood.threshold
    assert np.isfinite(before).all()


def test_without_training_images_a_file_rejects_nothing() -> None:
    bundle, _ = assemble(model_of(), info_of(), validation_of(model_of(), info_of()), load_target("server-cpu"))
    assert bundle.ood is bundle.quality is None
    assert rejection(bundle, np.zeros((1, 8, 8), np.uint8)) is None


def test_a_host_that_prepares_its_images_is_told_what_they_have_to_look_like(validation: Validation) -> None:
    bundle, graph = assemble(model_of(), info_of(), validation, load_target("opencv-dnn"))
    assert bundle.ood is None
    assert bundle.quality is not None
    assert DISTANCE not in {value.name for value in graph.graph.output}


def test_what_is_no_picture_is_rejected_with_its_reason(exported: Exported) -> None:
    runner = Runner.open(exported.model)
    bundle = runner.bundle
    size = (bundle.input.channels, bundle.input.height, bundle.input.width)
    noise = RNG.integers(0, 256, size)
    seen = prepare(read_image(exported.image), bundle.input).transpose(2, 0, 1)
    assert rejection(bundle, seen, distance=0.0) is None
    for levels, reason in [
        (np.full(size, 77), "blank"),
        (noise // 40, "too dark|no contrast"),
        (255 - noise // 40, "too bright|no contrast"),
        ((noise > 127) * 255, "clipped"),
    ]:
        found = rejection(bundle, levels.astype(np.uint8), distance=0.0)
        assert found is not None
        assert any(str(found).startswith(each) for each in reason.split("|")), found
    assert bundle.ood is not None
    for far in (bundle.ood.threshold * 2, float("nan")):
        assert str(rejection(bundle, seen, distance=far)).startswith("unlike the training images")


def test_bounds_let_through_what_they_were_fitted_on_and_half_of_what_is_beyond() -> None:
    quality = fit_quality([Looks(0.2, 0.1, 0.0), Looks(0.6, 0.3, 0.5)])
    assert quality.brightness == (0.1, 0.8)
    assert (quality.contrast, quality.clipped, quality.validation) == (0.05, 0.75, 2)
    ood = fit_ood(Gaussian(np.zeros((1, 3)), np.zeros((3, 1)), 1.0), 9, np.array([1.0, 2.0]))
    assert ood.threshold > 2
    assert ood.rejected == 0


def test_looks_are_shares_of_full_scale() -> None:
    levels = np.zeros((1, 2, 2), np.uint8)
    levels[0, 0] = 255
    assert measure(levels) == Looks(0.5, 0.5, 1.0)
    assert measure(levels.astype(np.float32)) == Looks(0.5, 0.5, 1.0)
