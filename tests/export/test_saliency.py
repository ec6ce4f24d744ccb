"""The saliency output: the class activation map of the most probable class, whose mean plus bias is its logit."""

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from imaging_ft.bundle import Bundle
from imaging_ft.errors import InputError
from imaging_ft.export.onnx import assemble
from imaging_ft.export.saliency import with_saliency
from imaging_ft.export.target import load_target
from imaging_ft.inference.activation import Activation
from imaging_ft.types import Task
from tests.export.small import built_for, images_of, info_of, model_of, validation_of

SPEC = info_of().input
LINEAR = ["timm/test_resnet", "timm/test_convnext"]


@pytest.mark.parametrize("backbone", LINEAR)
def test_its_mean_plus_the_bias_is_the_logit_of_the_most_probable_class(backbone: str) -> None:
    network = with_saliency(built_for("server-cpu", backbone).network)
    assert network is not None
    session: Any = ort.InferenceSession(network.SerializeToString(), providers=["CPUExecutionProvider"])
    levels = np.random.default_rng(4).integers(0, 256, (5, 1, 64, 64), np.uint8)
    logits, said, found = session.run(["logits", "probabilities", "saliency"], {"levels": levels})
    assert found.shape[1:] > (1, 1)
    best = said.argmax(axis=1)
    bias = _bias(backbone)
    assert found.mean(axis=(1, 2)) + bias[best] == pytest.approx(logits[np.arange(5), best], abs=1e-3)


def _bias(backbone: str) -> np.ndarray:
    """Return what is left of the logits of a network whose evidence is nothing: the head's bias, and a norm's."""
    from imaging_ft.inference.head import find_head

    head = find_head(built_for("server-cpu", backbone).network.graph)
    assert head is not None
    return head.bias


def test_it_is_the_map_that_the_report_draws(tmp_path: Any) -> None:
    _, graph = assemble(model_of(), info_of(), validation_of(model_of(), info_of()), load_target("browser"))
    path = tmp_path / "m.onnx"
    path.write_bytes(graph.SerializeToString())
    session: Any = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    bundle = Bundle.from_metadata(session.get_modelmeta().custom_metadata_map, where="m")
    image = images_of(SPEC, 1, seed=9)[0]
    said, found = session.run(["probabilities", "saliency"], {"image": image[None]})
    cells, _ = Activation.open(path, bundle).evidence(image)
    assert found[0] == pytest.approx(cells[said[0].argmax()], rel=1e-3, abs=1e-3)


def test_a_head_that_is_not_linear_on_averages_is_refused_where_it_was_asked_for() -> None:
    name = "timm/test_vit"
    spec = SPEC.model_copy(update={"height": 160, "width": 160})
    from imaging_ft.models.factory import NONE, create

    model = create(name, classes=3, weights=NONE, size=160).eval()
    info = info_of(name, input=spec)
    said: list[str] = []
    validation = validation_of(model, info, 2)
    with pytest.raises(InputError, match=r"--saliency: timm/test_vit: its head is not linear on averages over space"):
        assemble(model, info, validation, load_target("server-cpu"), saliency=True)
    _, graph = assemble(model, info, validation, load_target("browser"), say=said.append)
    assert "saliency" not in [output.name for output in graph.graph.output]
    assert said == [line for line in said if line.startswith("warning: no saliency output: timm/test_vit")] != []


def test_of_a_multi_label_model_it_is_the_most_probable_class_too() -> None:
    info = info_of(task=Task.MULTILABEL)
    target = load_target("browser")
    bundle, graph = assemble(model_of(), info, validation_of(model_of(), info), target)
    session: Any = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    logits, said, found = session.run(None, {"image": np.stack(images_of(SPEC, 1) * 2)})
    best = said.argmax(axis=1)
    bias = model_of().head.bias.detach().numpy()
    assert bundle.task is Task.MULTILABEL
    assert found.mean(axis=(1, 2)) + bias[best] == pytest.approx(logits[np.arange(2), best], abs=1e-3)
