"""Depth: every parameter has one, the stem is the shallowest and the head the deepest."""

import pytest

from imaging_ft.models.factory import create
from imaging_ft.models.stages import parameter_depths


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
