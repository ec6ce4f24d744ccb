"""The MONAI bundle: checked by MONAI's own tools, and run by them where imaging_ft can't be imported."""

import csv
import json
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from imaging_ft.bundle import Bundle, VectorScaling
from imaging_ft.errors import InputError, ParityError
from imaging_ft.export.cells import run_levels
from imaging_ft.export.monai_about import SCHEMA
from imaging_ft.export.monai_bundle import FILES, write_monai_bundle
from imaging_ft.export.onnx import assemble
from imaging_ft.export.parity import reference_logits
from imaging_ft.export.target import load_target
from imaging_ft.export.validation import Validation
from imaging_ft.image import read_image
from imaging_ft.inference.parts import split
from imaging_ft.inference.runner import Runner
from imaging_ft.models.factory import NONE, Classifier, create
from imaging_ft.preprocess import InputSpec, prepare, reference_levels
from imaging_ft.training.run import ModelInfo, RunFolder
from tests.conftest import Exported
from tests.export.small import images_of, info_of

NAME = "scan"
NETWORK, META = "network_def", "_meta_#network_data_format"
SIZE = 64
# MONAI publishes its schema (meta_schema_20240725.json); here is what it demands, in few words, so that no test
# needs a network.
TENSOR = {
    "type": "object",
    "required": ["type", "format", "num_channels", "spatial_shape", "dtype", "value_range"],
    "properties": {
        **{key: {"type": "string"} for key in ("type", "format", "dtype")},
        "num_channels": {"type": "integer"},
        "spatial_shape": {"type": "array", "items": {"type": ["string", "integer"]}},
        "value_range": {"type": "array", "items": {"type": "number"}},
        "is_patch_data": {"type": "boolean"},
        "channel_def": {"type": "object"},
    },
}
TEXTS = ["schema", "version", "monai_version", "pytorch_version", "numpy_version", "task", "description", "authors"]
TEXTS += ["copyright", "data_source", "data_type", "image_classes", "pred_classes", "intended_use"]
DICTIONARIES = ["changelog", "required_packages_version", "eval_metrics"]
TENSORS = {"type": "object", "additionalProperties": TENSOR}
DEMANDED = {
    "type": "object",
    "required": [*TEXTS[:9], "required_packages_version", "network_data_format"],
    "properties": {
        **{key: {"type": "string"} for key in TEXTS},
        **{key: {"type": "object"} for key in DICTIONARIES},
        "network_data_format": {
            "type": "object",
            "required": ["inputs", "outputs"],
            "properties": {"inputs": TENSORS, "outputs": TENSORS},
        },
    },
}
TWO = {"task": "binary", "labels": ("no", "yes"), "thresholds": {"no": 0.5, "yes": 0.3}}
ODD = ("$print(1)", "@none::b", "%c#d é")
CASES: dict[str, dict[str, Any]] = {
    "timm, several classes": {"backbone": "timm/resnet18"},
    "timm, several labels with vector scaling, RGB in a letterbox": {
        "backbone": "timm/test_resnet",
        "task": "multilabel",
        "temperature": 1,
        "vector_scaling": VectorScaling(scale=(1.5, 0.8, 1.25), bias=(0.25, -0.5, 0.125)),
        "input": InputSpec(channels=3, height=SIZE, width=96, resize="letterbox"),
    },
    "timm, built for one size, with names that MONAI would run": {
        "backbone": "timm/test_vit",
        "labels": ODD,
        "thresholds": dict.fromkeys(ODD, 0.5),
        "intended_use": "$exit()",
    },
    "MONAI, two classes of windowed 16 bits": {
        "backbone": "monai/densenet121",
        "input": InputSpec(channels=1, dtype="uint16", window=(300, 40_000), height=SIZE, width=SIZE),
        **TWO,
    },
    "MONAI, two classes with vector scaling": {
        "backbone": "monai/resnet10",
        "temperature": 1,
        "vector_scaling": VectorScaling(scale=(0.7, 1.4), bias=(-0.2, 0.3)),
        **TWO,
    },
}
ALONE = """
import sys
sys.modules["imaging_ft"] = None
from monai.bundle import run
run(config_file=sys.argv[1] + "/configs/inference.json", meta_file=sys.argv[1] + "/configs/metadata.json",
    bundle_root=sys.argv[1], dataset_dir=sys.argv[2])
"""


@dataclass(frozen=True)
class Written:
    """A bundle's folder, and what it was made from."""

    folder: Path
    model: Classifier
    info: ModelInfo
    bundle: Bundle
    network: bytes
    """The ONNX file's part from levels on."""

    def write(self, folder: Path, **changes: Any) -> list[Path]:
        values = {"model": self.model, "info": self.info, "bundle": self.bundle, "name": NAME} | changes
        return write_monai_bundle(folder=folder, **values)

    @property
    def metadata(self) -> dict[str, Any]:
        return json.loads((self.folder / "configs/metadata.json").read_text())

    @property
    def configs(self) -> dict[str, str]:
        folder = self.folder / "configs"
        return {"meta_file": str(folder / "metadata.json"), "config_file": str(folder / "inference.json")}

    def parsed(self, *names: str) -> list[Any]:
        parser = monai("monai.bundle").ConfigParser()
        parser.read_meta(self.configs["meta_file"])
        parser.read_config(self.configs["config_file"])
        return [parser.get_parsed_content(name) for name in names]

    def loaded(self) -> nn.Module:
        (network,) = self.parsed(NETWORK)
        network.load_state_dict(torch.load(self.folder / "models/model.pt", weights_only=True))
        return network.eval()


def monai(module: str) -> Any:
    """Return a module of MONAI, which takes seconds to import."""
    return import_module(module)


def made(folder: Path, **changes: Any) -> Written:
    """Write the bundle of a net with random weights whose answers differ from image to image."""
    torch.manual_seed(0)
    info = info_of(**changes)
    model = create(info.backbone, classes=len(info.labels), weights=NONE, size=info.input.height).eval()
    images = images_of(info.input, 8)
    logits = reference_logits(model, info.input, images)
    factor = torch.from_numpy(2 / logits.std(axis=0)).float()
    with torch.no_grad():
        unbiased = torch.from_numpy(logits.mean(axis=0)).float() - model.head.bias
        model.head.weight.mul_(factor[:, None])
        model.head.bias.copy_(-unbiased * factor)
    truth = np.eye(len(info.labels), dtype=np.bool_)[:1]
    bundle, graph = assemble(model, info, Validation([], images[:1], truth, "mr"), load_target("server-cpu"))
    write_monai_bundle(model, info, bundle, folder, name=NAME)
    return Written(folder, model, info, bundle, split(graph, where=NAME).cls.SerializeToString())


@pytest.fixture(scope="module", params=CASES)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    return made(tmp_path_factory.mktemp("bundle") / NAME, **CASES[request.param])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return made(tmp_path_factory.mktemp("small") / NAME)


def schema_at(folder: Path) -> Path:
    """Return the schema where `verify_metadata` would download it to; it takes a file that is there."""
    path = folder / "schema.json"
    path.write_text(json.dumps(DEMANDED))
    return path


def test_monai_finds_the_metadata_in_order(written: Written, tmp_path: Path) -> None:
    verify = monai("monai.bundle").verify_metadata
    verify(meta_file=written.configs["meta_file"], filepath=str(schema_at(tmp_path)))
    wanting = tmp_path / "metadata.json"
    wanting.write_text(json.dumps({key: value for key, value in written.metadata.items() if key != "copyright"}))
    with pytest.raises(ValueError, match="copyright"):
        verify(meta_file=str(wanting), filepath=str(schema_at(tmp_path)))


def test_monai_finds_the_network_to_be_what_the_metadata_say(written: Written) -> None:
    verify = monai("monai.bundle").verify_net_in_out
    verify(net_id=NETWORK, **written.configs)
    with pytest.raises(ValueError, match="output channel number"):
        verify(net_id=NETWORK, **written.configs, **{f"{META}#outputs#pred#num_channels": 9})


def test_monai_finds_every_part_that_inference_needs(small: Written) -> None:
    properties = monai("monai.bundle.properties").InferProperties
    config = json.loads(Path(small.configs["config_file"]).read_text())
    assert [name for name, each in properties.items() if each["required"] and each["id"] not in config] == []


def test_its_probabilities_are_those_of_the_onnx_file(written: Written) -> None:
    spec = written.info.input
    shape = (4, spec.channels, spec.height, spec.width)
    noise = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    images = [prepare(image, spec).transpose(2, 0, 1) for image in images_of(spec, 8)]
    levels = np.concatenate([noise, np.stack(images)])
    wanted = run_levels(written.network, levels)
    with torch.inference_mode():
        found = written.loaded()(torch.from_numpy(levels).float()).numpy()
    assert np.ptp(wanted, axis=0).min() > 0.2
    assert np.abs(found - wanted).max() < 1e-4


def test_its_preprocessing_is_that_of_numpy_and_pillow(written: Written, tmp_path: Path) -> None:
    spec = written.info.input
    preprocessing = written.parsed("preprocessing")[0]
    kinds = {"gray": InputSpec(channels=1), "colour": InputSpec(), "wide": InputSpec(channels=1, dtype="uint16")}
    for kind, stored in kinds.items():
        for index, image in enumerate(images_of(stored, 2)):
            path = tmp_path / f"{kind}-{index}.png"
            Image.fromarray(image[:, :, 0] if stored.channels == 1 else image).save(path)
            found = preprocessing({"image": str(path)})["image"]
            assert found.dtype == torch.float32
            np.testing.assert_array_equal(found, reference_levels(read_image(path), spec).transpose(2, 0, 1), path.name)


def test_its_preprocessing_turns_an_image_upright(small: Written, tmp_path: Path) -> None:
    path, exif = tmp_path / "turned.png", Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(images_of(InputSpec(channels=1), 1)[0][:, :, 0]).save(path, exif=exif)
    found = small.parsed("preprocessing")[0]({"image": str(path)})["image"]
    wanted = reference_levels(read_image(path), small.info.input).transpose(2, 0, 1)
    np.testing.assert_array_equal(found, wanted)


def test_the_metadata_say_what_a_host_needs(written: Written) -> None:
    metadata, spec = written.metadata, written.info.input
    image, pred = (metadata["network_data_format"][key] for key in ("inputs", "outputs"))
    assert metadata["schema"] == SCHEMA
    assert metadata["monai_version"] == version("monai")
    assert image["image"]["spatial_shape"] == [spec.height, spec.width]
    assert [name.strip() for name in pred["pred"]["channel_def"].values()] == list(written.info.labels)
    assert metadata["imaging_ft"]["thresholds"] == written.info.thresholds
    assert ("timm" in metadata["required_packages_version"]) == written.info.backbone.startswith("timm/")


def test_no_text_of_a_user_is_run(written: Written) -> None:
    """MONAI runs texts that start with `$`, and looks for what `@` and `%` name."""
    parser = monai("monai.bundle").ConfigParser()
    parser.read_meta(written.configs["meta_file"])
    parser.read_config(written.configs["config_file"])
    parser.parse()
    assert parser.get_parsed_content("_meta_")["intended_use"].strip() == (written.info.intended_use or "not stated")


def test_it_runs_where_imaging_ft_is_not_installed(exported: Exported, tmp_path: Path) -> None:
    folder, images = tmp_path / NAME, exported.dataset.parent / "images"
    runner = Runner.open(exported.model)
    model, info = RunFolder.open(exported.run).read_model()
    write_monai_bundle(model, info, runner.bundle, folder, name=NAME)
    done = subprocess.run(
        [sys.executable, "-c", ALONE, folder, images], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with (folder / "eval" / "predictions.csv").open() as file:
        rows = {Path(name): [float(value) for value in values] for name, *values in csv.reader(file)}
    assert set(rows) == set(images.iterdir())
    for path in list(rows)[:20]:
        wanted = runner.predict([read_image(path)])[0]
        assert np.abs(np.array(rows[path]) - wanted).max() < 1e-3, path.name


def test_an_earlier_bundle_is_replaced(small: Written, tmp_path: Path) -> None:
    folder = tmp_path / "new" / NAME
    small.write(folder, name="first")
    assert small.write(folder, name="second") == [folder / path for path in FILES]
    assert json.loads((folder / "configs/metadata.json").read_text())["name"] == "second"
    assert sorted(path.name for path in folder.parent.iterdir()) == [NAME]


@pytest.mark.parametrize(
    ("path", "text", "named"),
    [
        ("notes.txt", "mine", "notes.txt"),
        ("configs/metadata.json", '{"version": "1.0"}', "configs/metadata.json"),
        ("docs/README.md", "mine", "docs/README.md"),
    ],
)
def test_a_folder_of_something_else_is_left_alone(
    small: Written, tmp_path: Path, path: str, text: str, named: str
) -> None:
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text(text)
    with pytest.raises(InputError, match=named) as refused:
        small.write(tmp_path)
    assert "\n" not in str(refused.value)
    assert [found for found in tmp_path.rglob("*") if found.is_file()] == [tmp_path / path]
    assert (tmp_path / path).read_text() == text


def test_what_is_in_an_earlier_bundle_beside_its_files_is_not_lost(small: Written, tmp_path: Path) -> None:
    folder = tmp_path / NAME
    small.write(folder)
    (folder / "LICENSE").write_text("mine")
    with pytest.raises(InputError, match="LICENSE"):
        small.write(folder)
    assert (folder / "LICENSE").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_refused_in_one_line(small: Written, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / NAME):
        with pytest.raises(InputError, match="file") as refused:
            small.write(folder)
        assert "\n" not in str(refused.value)


def test_a_network_that_does_not_come_out_the_same_is_not_written(small: Written, tmp_path: Path) -> None:
    folder = tmp_path / NAME
    small.write(folder, name="first")
    model = create(small.info.backbone, classes=len(small.info.labels), weights=NONE)
    model.load_state_dict(small.model.state_dict())
    model.backbone.get_submodule("layer1.0").act2 = nn.Tanh()  # which its name doesn't say
    with pytest.raises(ParityError, match="disagrees"):
        small.write(folder, model=model)
    other = small.info.model_copy(update={"backbone": "timm/test_vit"})
    with pytest.raises(InputError, match="can't build timm/test_vit") as refused:
        small.write(folder, info=other)
    assert "\n" not in str(refused.value)
    assert json.loads((folder / "configs/metadata.json").read_text())["name"] == "first"
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
