"""The parts of training, each against an independent account: normalisation, average, calibration, probe."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax

from imaging_ft.augment.recipe import load_recipe
from imaging_ft.data import Images
from imaging_ft.models.factory import Classifier, create
from imaging_ft.training.batchnorm import norms, reestimate, train_mode
from imaging_ft.training.calibrate import fit_temperature
from imaging_ft.training.engine import Engine, make_engine
from imaging_ft.training.fit import MovingAverage, Trainer, Validation
from imaging_ft.training.images import TrainingBatches, clean_batches
from imaging_ft.training.metrics import score
from imaging_ft.training.probe import fit_probe
from imaging_ft.training.run import RunFolder, replacing
from imaging_ft.training.settings import TrainSettings, settings_page
from imaging_ft.types import silent

ROOT = Path(__file__).parents[2]


def images(count: int = 12, classes: int = 2, seed: int = 0) -> Images:
    """Return noise around a level that depends on the class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    levels = np.clip(rng.normal(60 + 100 * labels[:, None, None, None] / classes, 20, (count, 32, 32, 1)), 0, 255)
    return Images(levels.astype(np.uint8), np.eye(classes, dtype=np.float32)[labels])


@pytest.fixture
def model() -> Classifier:
    torch.manual_seed(0)
    return create("resnet18", classes=2, weights="none")


def engine(model: Classifier) -> Engine:
    levels, _ = next(clean_batches(images(), 4))
    return make_engine(model, levels, device="cpu", precision="fp32", classes=2)


def statistics(model: Classifier) -> torch.Tensor:
    return torch.cat([torch.cat([norm.running_mean, norm.running_var]) for norm in norms(model)])  # type: ignore[list-item]


@pytest.mark.parametrize("frozen", [True, False])
def test_statistics_move_when_trained_and_not_when_frozen(frozen: bool, model: Classifier) -> None:
    settings = TrainSettings(epochs=1, batch_size=4, size=32)
    batches = TrainingBatches(images(), load_recipe("none").build(), batch_size=4, seed=0, workers=0)
    before, weight = statistics(model).clone(), model.head.weight.detach().clone()
    affine = norms(model)[0].weight.detach().clone()
    Trainer(engine(model), model, batches, settings, frozen=frozen).epoch(1, Validation(images(4), 4), silent)
    assert torch.equal(statistics(model), before) is frozen
    assert not torch.equal(model.head.weight, weight)
    assert not torch.equal(norms(model)[0].weight, affine), "the affine part is trained either way"


def test_reestimated_statistics_are_the_images_own(model: Classifier) -> None:
    seen: list[torch.Tensor] = []
    first = norms(model)[0]
    first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    reestimate(engine(model), model, clean_batches(images(8), 4))
    assert first.running_mean is not None
    assert torch.allclose(first.running_mean, torch.cat(seen).mean(dim=(0, 2, 3)), atol=1e-5)
    assert first.momentum == 0.1
    assert not any(norm.training for norm in norms(model))


def test_train_mode_freezes_statistics_again_after_every_train_call(model: Classifier) -> None:
    model.train()
    train_mode(model, freeze_statistics=True)
    assert model.backbone.training
    assert not any(norm.training for norm in norms(model))
    train_mode(model, freeze_statistics=False)
    assert all(norm.training for norm in norms(model))


@pytest.mark.parametrize(("steps", "decay"), [(1, 0.5), (5, 0.9), (100, 0.995), (10_000, 0.999)])
def test_the_moving_averages_memory_is_two_epochs(steps: int, decay: float, model: Classifier) -> None:
    average = MovingAverage(model, steps_per_epoch=steps)
    assert average.decay == pytest.approx(decay)
    before = model.head.weight.detach().clone()
    with torch.no_grad():
        model.head.weight.add_(1)
    average.update(model)
    assert torch.allclose(average.model.head.weight, before + (1 - decay), atol=1e-6)
    assert average.model.head.weight.requires_grad is False


def test_a_temperature_lowers_the_loss_of_a_model_that_is_too_sure() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 1, (400, 3))
    labels = np.array([rng.choice(3, p=row) for row in softmax(truth, axis=1)])
    found = fit_temperature(4 * truth, labels)
    assert found.loss_after < found.loss_before
    assert found.temperature == pytest.approx(4, rel=0.25)
    assert found.note is None
    assert (4 * truth / found.temperature).argmax(axis=1).tolist() == truth.argmax(axis=1).tolist()


def test_a_validation_without_errors_leaves_the_temperature_at_one() -> None:
    found = fit_temperature(np.eye(3) * 2, np.arange(3))
    assert found.temperature == 1
    assert found.loss_after == found.loss_before
    assert "no error" in str(found.note)


def test_balanced_accuracy_is_the_mean_sensitivity() -> None:
    logits = np.array([[2.0, 0], [2, 0], [2, 0], [0, 2], [2, 0]])
    found = score(logits, np.array([0, 0, 0, 1, 1]))
    assert (found.balanced_accuracy, found.accuracy) == (0.75, 0.8)
    assert found.loss == pytest.approx(-np.log(softmax([2, 0]) @ [0.8, 0.2]), rel=1)


@pytest.mark.parametrize("classes", [2, 4])
def test_the_probes_head_says_what_its_regression_said(classes: int) -> None:
    torch.manual_seed(0)
    model = create("resnet18", classes=classes, weights="none")
    running, train, val = engine(model), images(32, classes), images(8, classes, seed=1)
    reestimate(running, model, clean_batches(train, 8))
    probe = fit_probe(running, model, clean_batches(train, 8), clean_batches(val, 8), classes=classes)
    assert probe.weight.shape == (classes, 512)
    assert probe.bias.shape == (classes,)
    probe.install(model)
    found = score(*running.predict(model, clean_batches(val, 8)))
    assert found.balanced_accuracy == probe.score.balanced_accuracy
    assert found.loss == pytest.approx(probe.score.loss, rel=1e-3)
    assert found.balanced_accuracy > 1 / classes


def test_an_epochs_batches_hold_every_image_once_in_an_order_of_its_own() -> None:
    train = images(13)
    marked = Images(np.arange(13, dtype=np.uint8).reshape(13, 1, 1, 1).repeat(32, 1).repeat(32, 2), train.targets)
    batches = TrainingBatches(marked, load_recipe("none").build(), batch_size=4, seed=3, workers=0)
    orders = [[int(x) for levels, _ in batches.epoch(number) for x in levels[:, 0, 0, 0]] for number in (1, 2, 1)]
    assert len(batches) == 3, "a last batch of one image is left out: batch normalisation can't train on it"
    assert orders[0] == orders[2] != orders[1]
    assert all(len(set(order)) == len(order) == 12 for order in orders)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text("old")

    def stopped() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert [found.name for found in tmp_path.iterdir()] == ["model.json"]
    assert path.read_text() == "old"


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_run_without_a_model_is_named(name: str, tmp_path: Path) -> None:
    from imaging_ft.errors import RunError

    for other in {"model.json", "model.safetensors"} - {name}:
        (tmp_path / other).write_text("{}")
    with pytest.raises(RunError, match=f"holds no {name}; train first"):
        RunFolder.open(tmp_path)


def test_the_page_of_settings_is_current() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == settings_page(), "see settings_page() for how it is written"


def test_every_setting_is_on_the_page_with_what_it_does() -> None:
    rows: dict[str, Any] = {}
    for line in settings_page().splitlines():
        if line.startswith("| `"):
            name, values, default, what = (cell.strip() for cell in line.strip("|").split(" | "))
            rows[name.strip("`")] = (values, default, what)
    assert set(rows) == set(TrainSettings.model_fields)
    assert all(what for _, _, what in rows.values())
    assert rows["size"][:2] == ("integer ≥ 32, ≤ 2048", "`160`")
    assert rows["workers"][:2] == ("integer ≥ 0, or null", "`null`")
