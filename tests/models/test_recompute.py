"""Gradient checkpointing: the same gradients from fewer kept activations."""

import copy

import pytest
import torch

from imaging_ft.models.factory import Classifier, create
from imaging_ft.models.recompute import checkpoint_gradients


def step(model: Classifier) -> tuple[int, list[torch.Tensor]]:
    """Return how many numbers the forward pass kept, and the gradients."""
    kept = 0

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.numel()
        return tensor

    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=generator)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model(levels).square().sum()
    loss.backward()
    return kept, [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize(
    "name", ["tf_efficientnet_lite0", "convnext_atto", "monai/densenet121", "monai/resnet18", "monai/efficientnet-b0"]
)
def test_gradients_are_the_same_and_less_is_kept(name: str) -> None:
    torch.manual_seed(0)
    model = create(name, classes=2, weights="none").eval()
    plain = copy.deepcopy(model)
    assert checkpoint_gradients(model)
    assert checkpoint_gradients(model), "a second call changes nothing"
    before, wanted = step(plain)
    after, found = step(copy.deepcopy(model))  # training copies models
    assert after < before / 2
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-6 * max(1.0, float(other.abs().max())))


def test_a_net_that_can_not_says_so() -> None:
    assert not checkpoint_gradients(create("inception_v4", classes=2, weights="none", size=96))
