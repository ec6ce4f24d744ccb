"""The loss of each sample: torch's own where torch has one, the paper's formula where it hasn't."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from imaging_ft.errors import ConfigError
from imaging_ft.training.objective import MAX_POSITIVE_WEIGHT, Objective, class_weights
from imaging_ft.types import Task

CLASSES = 4
LABELS = ("bar", "disc", "ring", "star")


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(9, CLASSES, generator=torch.Generator().manual_seed(1)) * 3


@pytest.fixture
def labels() -> Tensor:
    return torch.arange(9) % CLASSES


def one_hot(labels: Tensor) -> Tensor:
    return functional.one_hot(labels, CLASSES).float()


def soft(seed: int = 2) -> Tensor:
    return torch.rand(9, CLASSES, generator=torch.Generator().manual_seed(seed)).softmax(dim=1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("task", [Task.BINARY, Task.MULTICLASS])
def test_cross_entropy_is_torchs_on_hard_and_soft_targets(
    task: Task, smoothing: float, logits: Tensor, labels: Tensor
) -> None:
    expected = nn.CrossEntropyLoss(reduction="none", label_smoothing=smoothing)
    objective = Objective(task, label_smoothing=smoothing)
    torch.testing.assert_close(objective(logits, one_hot(labels)), expected(logits, labels))
    torch.testing.assert_close(objective(logits, soft()), expected(logits, soft()))


def test_class_weights_are_torchs(logits: Tensor, labels: Tensor) -> None:
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0])
    expected = nn.CrossEntropyLoss(weight=weights, reduction="none")(logits, labels)
    torch.testing.assert_close(Objective(Task.MULTICLASS, class_weights=weights)(logits, one_hot(labels)), expected)


def test_a_mixed_sample_weighs_what_its_parts_weigh(logits: Tensor) -> None:
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0])
    targets = torch.tensor([[0.25, 0, 0, 0.75]]).expand(9, -1)
    plain, weighed = (Objective(Task.MULTICLASS, class_weights=given)(logits, targets) for given in (None, weights))
    torch.testing.assert_close(weighed, plain * (0.25 * 0.5 + 0.75 * 4.0))


def test_multilabel_is_torchs_binary_cross_entropy_averaged_over_labels(logits: Tensor) -> None:
    weights = torch.tensor([0.5, 1.0, 2.0, 40.0])
    targets = (soft() > 0.25).float()
    for given in (None, weights):
        expected = nn.BCEWithLogitsLoss(reduction="none", pos_weight=given)(logits, targets).mean(dim=1)
        torch.testing.assert_close(Objective(Task.MULTILABEL, class_weights=given)(logits, targets), expected)


def test_multilabel_smoothing_goes_towards_one_half(logits: Tensor) -> None:
    targets = (soft() > 0.25).float()
    expected = nn.BCEWithLogitsLoss(reduction="none")(logits, targets * 0.8 + 0.1).mean(dim=1)
    torch.testing.assert_close(Objective(Task.MULTILABEL, label_smoothing=0.2)(logits, targets), expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_weighs_by_the_share_that_is_still_wrong(gamma: float, logits: Tensor, labels: Tensor) -> None:
    p = logits.softmax(dim=1)[torch.arange(9), labels]
    focal = Objective(Task.MULTICLASS, kind="focal", focal_gamma=gamma)
    torch.testing.assert_close(focal(logits, one_hot(labels)), -((1 - p) ** gamma) * p.log())

    targets = (soft() > 0.25).float()
    p = torch.where(targets == 1, logits.sigmoid(), 1 - logits.sigmoid())
    focal = Objective(Task.MULTILABEL, kind="focal", focal_gamma=gamma)
    expected = (-((1 - p) ** gamma) * p.log()).mean(dim=1)
    torch.testing.assert_close(focal(logits, targets), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["cross_entropy", "focal"])
@pytest.mark.parametrize("task", [Task.MULTICLASS, Task.MULTILABEL])
def test_a_sample_that_is_certain_leaves_a_finite_slope(task: Task, kind: str) -> None:
    for sign in (1, -1):
        logits = torch.tensor([[400.0 * sign, -400.0, -400.0, -400.0]], requires_grad=True)
        objective = Objective(task, kind=kind, focal_gamma=0.5)  # pyright: ignore[reportArgumentType]
        loss = objective(logits, torch.tensor([[1.0, 0, 0, 0]]))
        loss.sum().backward()
        assert torch.isfinite(loss).all()
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("task", [Task.MULTICLASS, Task.MULTILABEL])
def test_losses_of_parts_add_up_to_the_loss_of_the_whole(task: Task, logits: Tensor, labels: Tensor) -> None:
    objective = Objective(task, kind="focal", label_smoothing=0.1)
    targets = one_hot(labels)
    whole = objective(logits, targets)
    assert whole.shape == (9,)
    parts = [objective(logits[part], targets[part]) for part in (slice(0, 7), slice(7, 9))]
    torch.testing.assert_close(torch.cat(parts), whole)


def test_automatic_weights_balance_classes_and_keep_the_mean() -> None:
    counts = np.array([10, 20, 30, 40])
    weights = class_weights("auto", counts, LABELS)
    assert weights is not None
    assert weights.dtype == np.float32
    assert weights == pytest.approx(100 / (4 * counts))
    assert weights * counts == pytest.approx(25)


def test_a_class_without_images_has_a_finite_weight_and_changes_no_other() -> None:
    weights = class_weights("auto", [10, 0, 30, 40], LABELS)
    assert weights is not None
    assert np.isfinite(weights).all()
    assert weights[[0, 2, 3]] == pytest.approx(80 / (3 * np.array([10, 30, 40])))


def test_named_weights_keep_their_ratios_and_a_mean_of_one() -> None:
    weights = class_weights({"ring": 3.0}, [10, 20, 30, 40], LABELS)
    assert weights is not None
    assert weights / weights[0] == pytest.approx([1, 1, 3, 1])
    assert weights @ np.array([10, 20, 30, 40]) / 100 == pytest.approx(1)


def test_multilabel_weights_are_negatives_over_positives_within_bounds() -> None:
    weights = class_weights("auto", [50, 10, 0, 1], LABELS, images=1000)
    assert weights == pytest.approx([19, 99, 1, MAX_POSITIVE_WEIGHT])
    assert class_weights({"disc": 7}, [50, 10, 0, 1], LABELS, images=1000) == pytest.approx([1, 7, 1, 1])


def test_no_weights_are_none() -> None:
    assert class_weights("none", [1, 2, 3, 4], LABELS) is None


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"rign": 2.0}, "no class named 'rign'; did you mean 'ring'"),
        ({"ring": 0}, "ring: a weight is a number above 0"),
        ({"ring": float("nan")}, "got nan"),
        ({"ring": float("inf")}, "got inf"),
        ({"ring": "2"}, "got '2'"),
    ],
)
def test_a_wrong_weight_is_named(setting: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        class_weights(setting, [1, 2, 3, 4], LABELS)
