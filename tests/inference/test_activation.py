"""Where the evidence lies: maps of made-up nets with known truth, and of real exported ones."""

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from imaging_ft.bundle import LOGITS, PROBABILITIES, Bundle
from imaging_ft.errors import BundleError, InputError
from imaging_ft.inference.activation import POSITIONS, Activation, _places
from imaging_ft.preprocess import InputSpec
from imaging_ft.types import Task
from tests.inference.nets import BRIGHT, CELL, DARK, LINEAR, OTHER, SIZE, UNSURE, Made, Node, make, noise, scene

if TYPE_CHECKING:
    from conftest import Exported


@pytest.mark.parametrize("tail", LINEAR)
@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_the_mean_of_a_linear_heads_evidence_and_its_bias_are_the_logits(
    tail: str, resize: str, tmp_path: Path
) -> None:
    made = make(LINEAR[tail], tmp_path / "m.onnx", resize=resize)
    assert made.activation.method == "cam"
    for seed, shape in enumerate([(72, 80, 1), (31, 200, 1), (150, 40, 1)]):
        image = noise(shape, seed)
        cells, bias = made.activation.evidence(image)
        assert cells.shape == (3, SIZE // CELL, SIZE // CELL)
        assert cells.mean(axis=(1, 2)) + bias == pytest.approx(made.logits(image), abs=1e-4)


@pytest.mark.parametrize("tail", OTHER)
def test_any_other_head_is_mapped_by_occlusion(tail: str, tmp_path: Path) -> None:
    activation = make(OTHER[tail], tmp_path / "m.onnx").activation
    assert activation.method == "occlusion"
    with pytest.raises(InputError, match="is not linear on averages over space"):
        activation.evidence(noise((30, 30, 1)))


@pytest.mark.parametrize("tail", ["pool, flatten, gemm", "a nonlinearity after the pool"])
@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize("shape", [(64, 64), (60, 180), (210, 70), (400, 300)])
def test_the_map_lies_over_the_image_where_the_evidence_is(
    tail: str, resize: Literal["stretch", "letterbox"], shape: tuple[int, int], tmp_path: Path
) -> None:
    height, width = shape
    box = (0, width // 2, height // 4, width // 4)  # at the upper edge, right of the middle
    made = make({**LINEAR, **OTHER}[tail], tmp_path / "m.onnx", resize=resize)
    found = made.activation.map(scene(height, width, box), BRIGHT)
    assert found.shape == shape
    assert found.dtype == np.float32
    assert (found.min(), found.max()) == (0.0, 1.0)
    rows, columns = np.nonzero(found > 0.6)
    assert rows.mean() == pytest.approx(box[0] + box[2] / 2, abs=height / 12)
    assert columns.mean() == pytest.approx(box[1] + box[3] / 2, abs=width / 12)


def test_a_letterboxs_padding_is_no_part_of_the_map(tmp_path: Path) -> None:
    """The padding is black, and so the strongest evidence of darkness lies in it."""
    made = make(LINEAR["pool, flatten, gemm"], tmp_path / "m.onnx", resize="letterbox")
    found = made.activation.map(scene(64, 160, (0, 0, 64, 80)), DARK)
    assert found[:, 100:].min() > 0.9
    assert found[20:44, :60].max() == 0


def test_deep_images_are_seen_through_their_window(tmp_path: Path) -> None:
    made = make(LINEAR["pool, flatten, gemm"], tmp_path / "m.onnx", dtype="uint16", window=(1000, 3000))
    image = scene(64, 64, (16, 16, 16, 16), full=3000)
    found = made.activation.map(image, BRIGHT)
    assert found[24, 24] == 1
    assert found[48:, 48:].max() == 0
    cells, bias = made.activation.evidence(image)
    assert cells.mean(axis=(1, 2)) + bias == pytest.approx(made.logits(image), abs=1e-4)


def test_where_all_speaks_against_a_class_the_map_is_zero(tmp_path: Path) -> None:
    found = make(LINEAR["pool, flatten, gemm"], tmp_path / "m.onnx").activation.map(noise((40, 50, 1)), UNSURE)
    assert found.shape == (40, 50)
    assert not found.any()


def test_a_loss_that_is_only_rounding_is_no_evidence(tmp_path: Path) -> None:
    sure: list[Node] = [("Mul", [LOGITS, "three"], "sharp", {}), ("Softmax", ["sharp"], PROBABILITIES, {"axis": 1})]
    activation = make(OTHER["a nonlinearity after the pool"], tmp_path / "m.onnx", says=sure).activation
    assert activation.method == "occlusion"
    found = activation.map(scene(64, 64, (0, 0, 64, 60)), BRIGHT)
    assert not found.any()


@pytest.mark.parametrize("tail", ["pool, flatten, gemm", "a nonlinearity after the pool"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 300, 1), (3, 2, 3), (90, 7, 3)])
def test_the_smallest_and_the_thinnest_images_have_a_map(
    tail: str, shape: tuple[int, int, int], tmp_path: Path
) -> None:
    found = make({**LINEAR, **OTHER}[tail], tmp_path / "m.onnx").activation.map(noise(shape), BRIGHT)
    assert found.shape == shape[:2]
    assert found.min() >= 0
    assert found.max() in {0.0, 1.0}


@given(st.integers(1, 3000))
def test_the_patches_hide_every_pixel_of_a_side(length: int) -> None:
    places = _places(length)
    assert len(places) <= POSITIONS
    assert {pixel for start, end in places for pixel in range(start, end)} == set(range(length))


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    made = make(LINEAR["pool, flatten, gemm"], tmp_path / "m.onnx")
    activation = made.activation
    proto = onnx.load(made.path)
    next(one for one in proto.graph.initializer if one.name == "full").CopyFrom(
        numpy_helper.from_array(np.array([np.nan], np.float32), "full")
    )
    made.path.write_bytes(proto.SerializeToString())
    assert activation.method == "cam"
    with pytest.raises(BundleError, match="that are no numbers"):
        _ = made.activation


@pytest.mark.parametrize("content", [b"", b"no model", None])
def test_what_is_no_model_is_one_line(content: bytes | None, tmp_path: Path) -> None:
    made = make(LINEAR["pool, flatten, gemm"], tmp_path / "m.onnx")
    path = tmp_path / "damaged.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BundleError, match=r"damaged\.onnx: ") as caught:
        Activation.open(path, made.bundle)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module", params=["timm/test_convnext", "timm/test_vit", "monai/densenet"])
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Made]:
    """A small net of a real kind, exported as every run is."""
    import torch
    from monai.networks.nets.densenet import DenseNet

    from imaging_ft.export.onnx import DEFAULT_TARGET, assemble
    from imaging_ft.export.target import load_target
    from imaging_ft.export.validation import Validation
    from imaging_ft.models.factory import NONE, Classifier, Source, create, drop_classifier
    from imaging_ft.preprocess import IMAGENET_MEAN, IMAGENET_STD
    from imaging_ft.training.run import ModelInfo

    torch.manual_seed(0)
    name, size = request.param, 160 if request.param == "timm/test_vit" else SIZE
    if name == "monai/densenet":  # DenseNet121 with fewer layers, whose export doesn't take half a minute
        net = DenseNet(spatial_dims=2, in_channels=3, out_channels=2, init_features=16, block_config=(2, 2, 2))
        drop_classifier(net)
        features = int(net.eval()(torch.zeros(1, 3, size, size)).shape[1])
        model = Classifier(Source(name, net, features, IMAGENET_MEAN, IMAGENET_STD), 3)
    else:
        model = create(name, classes=3, weights=NONE, size=size)
    model.eval()
    labels = ("a", "b", "c")
    info = ModelInfo.checked(
        {
            "backbone": name,
            "task": Task.MULTICLASS,
            "labels": labels,
            "input": InputSpec(channels=1, height=size, width=size, resize="letterbox"),
            "temperature": 1.5,
            "thresholds": dict.fromkeys(labels, 0.5),
            "metrics": {},
            "provenance": {},
        },
        where="test",
    )
    path = tmp_path_factory.mktemp("real") / "model.onnx"
    image = noise((60, 70, 1))
    validation = Validation((), [image], np.zeros((1, 3), np.bool_), "radiograph")
    bundle, graph = assemble(model, info, validation, load_target(DEFAULT_TARGET))
    path.write_bytes(graph.SerializeToString())
    return name, Made(path, bundle)


def test_a_real_nets_map_is_exact_or_by_occlusion(real: tuple[str, Made]) -> None:
    name, made = real
    agrees(made, "occlusion" if name == "timm/test_vit" else "cam")


def test_the_embedded_nets_map_is_exact(exported: "Exported") -> None:
    metadata = {item.key: item.value for item in onnx.load(exported.model).metadata_props}
    agrees(Made(exported.model, Bundle.from_metadata(metadata, where="test")), "cam")


def agrees(made: Made, method: str) -> None:
    activation = made.activation
    assert activation.method == method
    for seed in range(3):
        image = noise((72, 150, 1), seed)
        image[20:40, 60:90] = 250
        assert activation.map(image, int(made.logits(image).argmax())).shape == (72, 150)
        if method == "cam":
            cells, bias = activation.evidence(image)
            assert cells.mean(axis=(1, 2)) + bias == pytest.approx(made.logits(image), abs=1e-4)


def test_no_library_of_the_build_tower_is_loaded(tmp_path: Path) -> None:
    code = (
        "import onnx, sys; import numpy as np; from pathlib import Path; from imaging_ft.bundle import Bundle;"
        " from imaging_ft.inference.activation import Activation; path = Path(sys.argv[1]);"
        " metadata = {item.key: item.value for item in onnx.load(path).metadata_props};"
        " bundle = Bundle.from_metadata(metadata, where='m');"
        " print(Activation.open(path, bundle).map(np.full((40, 40, 1), 200, np.uint8), 0).max());"
        " print(sorted({'torch', 'timm', 'monai', 'albumentations'} & set(sys.modules)))"
    )
    made = make(LINEAR["pool, flatten, gemm"], tmp_path / "m.onnx")
    done = subprocess.run(
        [sys.executable, "-c", code, str(made.path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["1.0", "[]"]
