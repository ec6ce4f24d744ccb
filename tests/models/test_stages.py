"""Stages and depth: every parameter has one, the stem is first and the head last, and none goes back."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from imaging_ft.models.factory import Classifier, Source, create
from imaging_ft.models.stages import parameter_depths, parameter_stages
from imaging_ft.preprocess import IMAGENET_MEAN, IMAGENET_STD
from imaging_ft.types import STAGES

FAMILIES = [
    "tf_efficientnet_lite0",
    "efficientnet_b0",
    "resnet18",
    "resnet50",
    "convnext_atto",
    "densenet121",
    "mobilenetv3_small_050",
    "regnety_002",
    "swin_tiny_patch4_window7_224",
    "vit_tiny_patch16_224",
    "monai/densenet121",
    "monai/efficientnet-b0",
    "monai/resnet18",
    "monai/se_resnet50",
]


def parameters_in_forward_order(model: Classifier) -> list[str]:
    """Return parameter names in the order in which a forward pass first enters the layers that hold them."""
    entered: list[str] = []
    hooks = [
        module.register_forward_pre_hook(lambda _module, _inputs, name=name: entered.append(name))
        for name, module in model.named_modules()
    ]
    with torch.inference_mode():
        model.eval()(torch.zeros(1, 3, 224, 224, dtype=torch.uint8))
    for hook in hooks:
        hook.remove()
    return [
        f"{name}.{parameter}".removeprefix(".")
        for name in dict.fromkeys(entered)
        for parameter, _ in model.get_submodule(name).named_parameters(recurse=False)
    ]


@pytest.mark.parametrize("name", FAMILIES)
def test_stages_cover_every_parameter_and_never_go_back_along_the_forward_pass(name: str) -> None:
    model = create(name, classes=2, weights="none")
    stages = parameter_stages(model)
    assert set(stages) == {parameter for parameter, _ in model.named_parameters()}
    assert set(stages.values()) == set(STAGES)
    order = [STAGES.index(stages[parameter]) for parameter in parameters_in_forward_order(model)]
    assert len(order) == len(stages)
    assert all(before <= after for before, after in pairwise(order))


@pytest.mark.parametrize("name", [name for name in FAMILIES if not name.startswith(("vit", "swin", "monai/resnet"))])
def test_a_stage_of_a_cnn_ends_at_its_resolution(name: str) -> None:
    """stage1 to stage4 give maps of 1/4, 1/8, 1/16 and 1/32 of the image: the last layer of each is looked at.

    MONAI's ResNet is left out: its first layer doesn't halve the image, so its stages are at twice the resolution.
    """
    model = create(name, classes=2, weights="none")
    stages = parameter_stages(model)
    sizes: dict[str, int] = {}

    def hook(layer: str):
        def keep(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
            if output.ndim == 4 and output.shape[-1] > 1:  # not the one pixel of squeeze and excitation
                sizes[stages[f"{layer}.weight"]] = output.shape[-1]

        return keep

    for layer, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(hook(layer))
    with torch.inference_mode():
        model.eval()(torch.zeros(1, 3, 224, 224, dtype=torch.uint8))
    assert [sizes[stage] for stage in STAGES[1:5]] == [56, 28, 14, 7]


def test_timm_and_monai_divide_the_same_architecture_alike() -> None:
    shares: list[list[int]] = []
    for name in ("densenet121", "monai/densenet121"):
        model = create(name, classes=2, weights="none")
        stages = parameter_stages(model)
        shares.append(
            [sum(p.numel() for name, p in model.named_parameters() if stages[name] == stage) for stage in STAGES]
        )
    assert shares[0] == shares[1]


def test_a_transformers_blocks_are_cut_into_four_equal_parts() -> None:
    stages = parameter_stages(create("vit_tiny_patch16_224", classes=2, weights="none"))
    blocks = [stages[f"backbone.blocks.{block}.mlp.fc1.weight"] for block in range(12)]
    assert blocks == [f"stage{part}" for part in (1, 2, 3, 4) for _ in range(3)]
    assert stages["backbone.pos_embed"] == "stem"
    assert stages["backbone.norm.weight"] == "stage4"


@pytest.mark.parametrize("layers", [5, 6, 9, 40])
@pytest.mark.parametrize("heavy", [0, 1, 2])
def test_a_net_that_says_nothing_is_cut_by_its_parameters(layers: int, heavy: int) -> None:
    """A heavy layer at the start, in the middle or at the end empties no stage."""
    widths = [8] * (layers + 1)
    widths[[1, layers // 2, layers - 1][heavy]] = 512
    trunk = nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(widths)))
    model = Classifier(Source("own/net", trunk, 8, IMAGENET_MEAN, IMAGENET_STD), 2)
    stages = list(parameter_stages(model).values())
    assert set(stages) == set(STAGES)
    assert stages == sorted(stages, key=STAGES.index)
    assert stages[0] == stages[1] == "stem"


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("tf_efficientnet_lite0", "backbone.conv_stem.weight"),
        ("resnet18", "backbone.conv1.weight"),
        ("convnext_atto", "backbone.stem.0.weight"),
        ("mobilenetv3_small_050", "backbone.conv_stem.weight"),
        ("monai/densenet121", "backbone.features.conv0.weight"),
    ],
)
def test_every_parameter_has_one_depth_from_the_stem_to_the_head(name: str, stem: str) -> None:
    model = create(name, classes=2, weights="none")
    depths, top = parameter_depths(model)
    assert set(depths) == {name for name, _ in model.named_parameters()}
    assert depths[stem] == 0
    assert {depth for name, depth in depths.items() if name.startswith("head.")} == {top}
    assert max(depth for name, depth in depths.items() if name.startswith("backbone.")) < top
    assert set(depths.values()) == set(range(top + 1))
    assert top >= 4
