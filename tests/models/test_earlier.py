"""An earlier run as a start: its backbone is taken, and of its head the labels that agree."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from imaging_ft.errors import WeightsError
from imaging_ft.models.earlier import architecture, load_run
from imaging_ft.models.factory import create
from tests.conftest import LABELS, Trained


def test_a_runs_folder_is_taken_as_weights(trained: Trained) -> None:
    earlier = load_run(trained.run)
    assert earlier.labels == LABELS
    model = create(earlier.model, classes=2, weights=str(trained.run))
    state = model.backbone.state_dict()
    assert all(torch.equal(state[name], value) for name, value in earlier.backbone.items())
    assert len(earlier.backbone) == len(state)


def test_the_heads_rows_go_along_where_labels_agree(trained: Trained) -> None:
    earlier = load_run(trained.run)
    labels = ("square", "ring", "bar")
    model = create(earlier.model, classes=3, weights="none")
    fresh = model.head.weight[0].clone()
    assert earlier.install_head(model, labels) == ("ring", "bar")
    assert torch.equal(model.head.weight[1], earlier.weight[LABELS.index("ring")])
    assert torch.equal(model.head.bias[2], earlier.bias[LABELS.index("bar")])
    assert torch.equal(model.head.weight[0], fresh)


def test_another_architecture_is_refused_with_the_one_to_take(trained: Trained) -> None:
    with pytest.raises(WeightsError, match=r"was trained with (\S+), but the model is timm/resnet18; write --model \1"):
        create("resnet18", classes=2, weights=str(trained.run))


@pytest.mark.parametrize(
    ("first", "second"), [("resnet18", "timm/resnet18.a1_in1k"), ("monai/resnet18", "monai/resnet18")]
)
def test_a_tag_of_weights_is_no_other_architecture(first: str, second: str) -> None:
    assert architecture(first) == architecture(second)
    assert architecture("monai/resnet18") != architecture("timm/resnet18")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "model.json").unlink(), "no finished run: model.json is missing"),
        (lambda run: (run / "model.json").write_text("{"), "model.json: can't be read"),
        (lambda run: (run / "model.json").write_text("[]"), "model.json: not a run's"),
        (lambda run: (run / "model.json").write_text("{}"), "names no backbone and labels"),
        (lambda run: (run / "model.safetensors").unlink(), "model.safetensors: no such weights file"),
        (lambda run: relabel(run), "a head of 3 classes, but model.json has 1 labels"),
    ],
)
def test_a_folder_that_is_no_finished_run_is_refused(damage, message: str, trained: Trained, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained.run, tmp_path / "run"))
    damage(run)
    with pytest.raises(WeightsError, match=message) as caught:
        load_run(run)
    assert "\n" not in str(caught.value)


def relabel(run: Path) -> None:
    values = json.loads((run / "model.json").read_text())
    (run / "model.json").write_text(json.dumps(values | {"labels": ["bar"]}))
