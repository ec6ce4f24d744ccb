"""The parts of training, each against an independent account: normalisation, average, calibration, probe."""

import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from imaging_ft.augment.recipe import load_recipe
from imaging_ft.data import Images
from imaging_ft.models.factory import Classifier, create
from imaging_ft.training.average import MovingAverage, interpolated
from imaging_ft.training.batchnorm import norms, reestimate, train_mode
from imaging_ft.training.calibrate import fit_temperature
from imaging_ft.training.engine import Engine, make_engine
from imaging_ft.training.images import TrainingBatches, clean_batches
from imaging_ft.training.judge import Judge
from imaging_ft.training.metrics import score
from imaging_ft.training.objective import Objective
from imaging_ft.training.optimiser import Optimiser
from imaging_ft.training.probe import fit_probe
from imaging_ft.training.run import RunFolder, replacing
from imaging_ft.training.settings import TrainSettings, settings_page
from imaging_ft.training.trainer import Trainer
from imaging_ft.types import Task

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
    return create("test_resnet", classes=2, weights="none")


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
    trainer = Trainer(engine(model), model, batches, settings, Objective(Task.MULTICLASS), frozen=frozen)
    assert [step for step, _ in trainer.epoch(1)] == [0, 1, 2]
    assert torch.equal(statistics(model), before) is frozen
    assert not torch.equal(model.head.weight, weight)
    assert not torch.equal(norms(model)[0].weight, affine), "the affine part is trained either way"


def test_steps_are_adamws_on_the_mean_loss_of_a_batch(model: Classifier) -> None:
    """The account of torch's own classes, over batches of 8, 8 and 4 with a smoothed target and a clipped gradient."""
    settings = TrainSettings(
        epochs=1,
        batch_size=8,
        size=32,
        learning_rate=0.01,
        layer_decay=1.0,
        weight_decay=0.0,
        annealing="constant",
        clip=0.5,
        label_smoothing=0.1,
        average=False,
    )
    other = copy.deepcopy(model)
    batches = TrainingBatches(images(20), load_recipe("none").build(), batch_size=8, seed=0, workers=0)
    objective = Objective(Task.MULTICLASS, label_smoothing=0.1)
    losses = [loss for _, loss in Trainer(engine(model), model, batches, settings, objective, frozen=False).epoch(1)]
    adam = torch.optim.AdamW(other.parameters(), lr=0.01, weight_decay=0.0)
    for (levels, targets), loss in zip(batches.epoch(1), losses, strict=True):
        other.train()
        adam.zero_grad()
        found = torch.nn.functional.cross_entropy(other(levels), targets, label_smoothing=0.1)
        found.backward()
        torch.nn.utils.clip_grad_norm_(other.parameters(), 0.5)
        adam.step()
        assert loss == pytest.approx(float(found.detach()), abs=1e-4)
    for name, value in other.state_dict().items():
        assert torch.allclose(model.state_dict()[name], value, atol=1e-4), name


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


def test_a_stage_that_is_frozen_keeps_its_statistics_too(model: Classifier) -> None:
    settings = TrainSettings(epochs=1, batch_size=4, size=32, freeze=("stem", "stage1"))
    batches = TrainingBatches(images(), load_recipe("none").build(), batch_size=4, seed=0, workers=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = Trainer(engine(model), model, batches, settings, Objective(Task.MULTICLASS), frozen=False)
    assert len(list(trainer.epoch(1))) == 3
    moved = {name.split(".")[1] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert not moved & {"conv1", "bn1", "layer1"}
    assert moved >= {"layer2", "layer3", "layer4", "weight"}


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


def test_without_averaging_the_average_is_the_model_as_it_is(model: Classifier) -> None:
    average = MovingAverage(model, steps_per_epoch=10, on=False)
    with torch.no_grad():
        for value in model.state_dict().values():
            value.add_(1)
    average.update(model)
    assert all(torch.equal(average.model.state_dict()[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_interpolated_weights_lie_between_and_counts_are_the_ends(alpha: float) -> None:
    start = {"weight": torch.tensor([0.0, 2.0]), "num_batches_tracked": torch.tensor(3)}
    end = {"weight": torch.tensor([1.0, 0.0]), "num_batches_tracked": torch.tensor(9)}
    found = interpolated(start, end, alpha)
    assert torch.allclose(found["weight"], torch.tensor([alpha, 2 - 2 * alpha]))
    assert int(found["num_batches_tracked"]) == 9


def test_l2_sp_pulls_the_backbone_to_where_it_started_and_leaves_the_head(model: Classifier) -> None:
    settings = TrainSettings(learning_rate=0.1, layer_decay=1.0, l2_sp=2.0, weight_decay=0.0, annealing="constant")
    optimiser = Optimiser(model, settings, steps=10)
    optimiser.prepare(0)
    start = {name: value.detach().clone() for name, value in model.named_parameters()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    optimiser.pull_back()
    for name, value in model.named_parameters():
        left = 1.0 if name.startswith("head.") else 1 - 0.1 * 2.0
        assert torch.allclose(value, start[name] + left, atol=1e-5), name


def test_stages_join_as_training_goes_on_and_rates_fall_with_depth(model: Classifier) -> None:
    settings = TrainSettings(learning_rate=0.1, layer_decay=0.5, unfreeze_over=1.0, annealing="constant")
    optimiser = Optimiser(model, settings, steps=10)
    trained: list[set[str]] = []
    for step in range(11):
        optimiser.prepare(step, factor=0.5)
        ids = {id(parameter) for parameter in optimiser.trainable()}
        trained.append({name for name, parameter in model.named_parameters() if id(parameter) in ids})
    assert trained[0] == {"head.weight", "head.bias"}
    assert all(before <= after for before, after in pairwise(trained))
    assert len(trained[-1]) == len(list(model.named_parameters()))
    rates = {float(group["lr"]) for group in optimiser.raw.param_groups}
    assert max(rates) == optimiser.rate == pytest.approx(0.05)
    assert min(rates) < 0.05 / 2**3


def test_affine_training_leaves_all_but_norms_and_head_alone(model: Classifier) -> None:
    optimiser = Optimiser(model, TrainSettings(trained="affine"), steps=1)
    optimiser.prepare(0)
    wanted = {id(p) for norm in norms(model) for p in norm.parameters()} | {id(p) for p in model.head.parameters()}
    assert {id(parameter) for parameter in optimiser.trainable()} == wanted
    assert 0 < optimiser.share() < 0.05


def test_a_temperature_lowers_the_loss_of_a_model_that_is_too_sure() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 1, (400, 3))
    labels = np.array([rng.choice(3, p=row) for row in softmax(truth, axis=1)])
    found = fit_temperature(4 * truth, np.eye(3)[labels])
    assert found.loss_after < found.loss_before
    assert found.temperature == pytest.approx(4, rel=0.25)
    assert found.note is None
    assert (4 * truth / found.temperature).argmax(axis=1).tolist() == truth.argmax(axis=1).tolist()


def test_a_validation_without_errors_leaves_the_temperature_at_one() -> None:
    found = fit_temperature(np.eye(3) * 2, np.eye(3))
    assert found.temperature == 1
    assert found.loss_after == found.loss_before
    assert "no error" in str(found.note)


def test_balanced_accuracy_is_the_mean_sensitivity() -> None:
    logits = np.array([[2.0, 0], [2, 0], [2, 0], [0, 2], [2, 0]])
    found = score(logits, np.eye(2)[[0, 0, 0, 1, 1]])
    assert (found.balanced_accuracy, found.accuracy) == (0.75, 0.8)
    assert found.loss == pytest.approx(-np.log(softmax([2, 0])) @ [0.8, 0.2])
    assert found.auroc == pytest.approx(roc_auc_score([0, 0, 0, 1, 1], logits[:, 1]))


@given(
    st.integers(2, 4).flatmap(
        lambda classes: st.lists(
            st.tuples(st.integers(0, classes - 1), st.lists(st.integers(-3, 3), min_size=classes, max_size=classes)),
            min_size=1,
            max_size=12,
        )
    ),
)
def test_auroc_is_scikit_learns_over_the_classes_that_can_be_told_apart(rows: list[tuple[int, list[int]]]) -> None:
    labels, logits = np.array([label for label, _ in rows]), np.array([row for _, row in rows], np.float64)
    truth = np.eye(logits.shape[1])[labels]
    found = score(logits, truth, task=Task.MULTILABEL).auroc
    both = [index for index in range(logits.shape[1]) if 0 < truth[:, index].sum() < len(truth)]
    if not both:
        assert np.isnan(found)
        return
    assert found == pytest.approx(np.mean([roc_auc_score(truth[:, index], logits[:, index]) for index in both]))


@pytest.mark.parametrize("classes", [2, 4])
def test_the_probes_head_says_what_its_regression_said(classes: int) -> None:
    torch.manual_seed(0)
    model = create("test_resnet", classes=classes, weights="none")
    running, train, val = engine(model), images(32, classes), images(8, classes, seed=1)
    reestimate(running, model, clean_batches(train, 8))
    features, val_features = (running.predict_images(model, part, 8, features=True) for part in (train, val))
    judge = Judge(val, len(val), {}, Task.MULTICLASS, 8)
    probe = fit_probe(features, train.targets, val_features, val.targets, judge.of_logits)
    assert probe.weight.shape == (classes, features.shape[1])
    assert probe.bias.shape == (classes,)
    probe.install(model)
    found = score(*running.predict(model, clean_batches(val, 8)))
    assert found.balanced_accuracy == probe.judged.clean.balanced_accuracy
    assert found.loss == pytest.approx(probe.judged.clean.loss, rel=1e-3)
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
    settings, _, presets = settings_page().partition("What each preset sets:")
    for line in settings.splitlines():
        if line.startswith("| `"):
            name, values, default, what = (cell.strip() for cell in line.strip("|").split(" | "))
            rows[name.strip("`")] = (values, default, what)
    assert set(rows) == set(TrainSettings.model_fields)
    assert all(what for _, _, what in rows.values())
    assert rows["seed"][:2] == ("integer ≥ 0, ≤ 4294967295", "`0`")
    assert rows["size"][:2] == ("integer ≥ 32, ≤ 2048", "`160`")
    assert rows["workers"][:2] == ("integer ≥ 0, or null", "`null`")
    assert "| `robust` | `all` | `12` | `true` | `true` | `true` |" in presets
