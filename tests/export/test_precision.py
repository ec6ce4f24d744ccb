"""Lower precision: its cost is measured cell by cell; layers go back to float32 until it holds, or it's refused."""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from imaging_ft.augment.conditions import load_suite
from imaging_ft.bundle import CellLoss
from imaging_ft.errors import PrecisionError
from imaging_ft.export import precision as gate
from imaging_ft.export.biases import correct_biases
from imaging_ft.export.cells import Cells, make_cells, run_levels
from imaging_ft.export.lowering import layers, lowering, with_biases
from imaging_ft.export.onnx import assemble
from imaging_ft.export.precision import chance, compare, describe, hold, lower
from imaging_ft.export.saliency import with_saliency
from imaging_ft.export.target import load_target
from imaging_ft.types import Precision, Task, silent
from tests.export.small import LABELS, built_for, info_of, model_of, validation_of

INFO = info_of()
COUNT = 24


@pytest.fixture(scope="module")
def cells() -> Iterator[Cells]:
    with make_cells(validation_of(model_of(), INFO, COUNT), INFO.input, None, track=silent) as made:
        yield made


@pytest.fixture(scope="module")
def network() -> onnx.ModelProto:
    return built_for("server-cpu").network


def said(model: onnx.ModelProto, levels: np.ndarray) -> np.ndarray:
    return run_levels(model.SerializeToString(), levels)


def test_cells_are_the_images_as_they_are_and_every_condition_at_three_severities(cells: Cells) -> None:
    suite = load_suite("mr")
    wanted = [{name: severity} for name in suite.conditions for severity in (1, 3, 5)]
    assert [setting.conditions for setting in cells.settings] == [{}, *wanted]
    assert cells.levels.shape == (len(wanted) + 1, COUNT, 1, 64, 64)
    assert cells.own is cells.levels
    changed = [(cells.levels[0] != cell).any() for cell in cells.levels[1:]]
    assert all(changed)


def test_more_images_than_are_taken_are_sampled_by_class(monkeypatch: pytest.MonkeyPatch) -> None:
    from imaging_ft.export import cells as module

    monkeypatch.setattr(module, "MOST_IMAGES", 9)
    truth = np.zeros((60, 3), np.bool_)
    truth[:50, 0] = truth[50:58, 1] = truth[58:, 2] = True
    chosen = module._chosen(truth)  # pyright: ignore[reportPrivateUsage]
    assert truth[chosen].sum(axis=0).tolist() == [4, 3, 2]


def test_calibration_holds_bright_and_dark_images(cells: Cells) -> None:
    found = cells.calibration()
    assert found.shape[1:] == (1, 64, 64)
    half = len(found) // 2
    assert np.array_equal(found[:half], cells.levels[0])
    lighting = [place for place, setting in enumerate(cells.settings) if "lighting" in setting.axes]
    for image in found[half:]:
        assert any((cells.levels[place] == image).all(axis=(1, 2, 3)).any() for place in lighting)


@pytest.mark.parametrize(("precision", "share"), [(Precision.FP16, 0.62), (Precision.INT8, 0.45)])
def test_a_lowered_network_is_smaller_and_says_nearly_the_same(
    precision: Precision, share: float, network: onnx.ModelProto, cells: Cells
) -> None:
    every = layers(network)
    with lowering(network, precision, cells.calibration()) as make:
        lowered = make([layer.node for layer in every])
    assert lowered.ByteSize() < share * network.ByteSize()
    apart = np.abs(said(lowered, cells.levels[0]) - said(network, cells.levels[0]))
    assert 0 < apart.mean() < 0.06


def test_the_head_and_the_map_stay_in_float32(network: onnx.ModelProto, cells: Cells) -> None:
    with_map = with_saliency(network)
    assert with_map is not None
    every = layers(with_map)
    assert all(layer.module.startswith("backbone.") for layer in every)
    with lowering(with_map, Precision.INT8, cells.calibration()) as make:
        lowered = make([layer.node for layer in every])
    integers = {node.output[0] for node in lowered.graph.node if node.op_type == "DequantizeLinear"}
    for node in lowered.graph.node:
        if node.name.startswith("saliency_") or "logits" in node.output:
            assert node.input[1] not in integers if node.op_type in {"Conv", "Gemm"} else True


def test_corrected_biases_bring_a_shifted_network_back(network: onnx.ModelProto, cells: Cells) -> None:
    shifted = with_biases(network)
    biases = [node.input[2] for node in shifted.graph.node if node.op_type == "Conv" and len(node.input) > 2]
    for tensor in shifted.graph.initializer:
        if tensor.name in biases:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32(0.2), tensor.name))
    levels = cells.calibration()
    exact = said(network, levels)
    corrected = correct_biases(shifted, network, layers(network), levels)
    assert np.abs(said(shifted, levels) - exact).mean() > 1e-2
    assert said(corrected, levels) == pytest.approx(exact, abs=1e-3)


def test_corrected_layers_have_the_means_of_float32(network: onnx.ModelProto, cells: Cells) -> None:
    levels, last = cells.calibration(), layers(network)[-1].node
    with lowering(network, Precision.INT8, levels) as make:
        lowered = make([layer.node for layer in layers(network)])
    corrected = correct_biases(lowered, network, layers(network), levels)
    exact, before, after = (means(model, last, levels) for model in (network, lowered, corrected))
    assert np.abs(after - exact).max() < 0.2 * np.abs(before - exact).max()


def means(model: onnx.ModelProto, node: str, levels: np.ndarray) -> np.ndarray:
    """Return the mean of each channel that a node gives."""
    shown = copy.deepcopy(model)
    (tensor,) = next(one for one in model.graph.node if one.name == node).output
    shown.graph.output.add(name=tensor)
    session: Any = ort.InferenceSession(shown.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([tensor], {"levels": levels})[0].mean(axis=(0, 2, 3))


class Rounded:
    """A lowering that damages every layer it lowers but one, which it ruins."""

    def __init__(self, network: onnx.ModelProto, ruined: str) -> None:
        self.network, self.ruined, self.asked = network, ruined, list[set[str]]()

    def __call__(self, chosen: Any) -> onnx.ModelProto:
        self.asked.append(set(chosen))
        changed = copy.deepcopy(self.network)
        weights = {node.name: node.input[1] for node in changed.graph.node if node.name in chosen}
        for tensor in changed.graph.initializer:
            if tensor.name == weights.get(self.ruined):
                values = numpy_helper.to_array(tensor)
                tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(values), tensor.name))
        return changed


@pytest.fixture
def rounded(network: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> Rounded:
    from contextlib import nullcontext

    made = Rounded(network, layers(network)[2].node)
    monkeypatch.setattr(gate, "lowering", lambda *_: nullcontext(made))
    return made


def test_the_layer_that_costs_is_left_in_float32_and_named(
    rounded: Rounded, network: onnx.ModelProto, cells: Cells
) -> None:
    lines: list[str] = []
    found = lower(network, INFO, cells, Precision.FP16, say=lines.append)
    ruined = layers(network)[2]
    assert ruined.module in found.float_layers
    assert len(found.float_layers) == 2
    assert found.loss.mean.drop <= gate.MAX_DROP
    assert len(lines) == 1
    assert lines[0].startswith(f"fp16 with 0 of {len(layers(network))} layers in float32: ")


def test_what_cannot_be_held_is_refused_and_the_cell_is_named(
    network: onnx.ModelProto, cells: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import nullcontext

    broken = copy.deepcopy(network)
    for tensor in broken.graph.initializer:
        if tensor.name.endswith("head.bias"):
            tensor.CopyFrom(numpy_helper.from_array(np.array([1e6, 0, 0], np.float32), tensor.name))
    monkeypatch.setattr(gate, "lowering", lambda *_: nullcontext(lambda chosen: broken))
    with pytest.raises(
        PrecisionError,
        match=r"fp16 with 7 of 15 layers in float32: \S+ falls from .* beyond --max-drop 0.005.* nothing was",
    ) as caught:
        lower(network, INFO, cells, Precision.FP16)
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)
    assert lower(network, INFO, cells, Precision.FP16, max_drop=1).float_layers == ()


def answers(labels: np.ndarray) -> np.ndarray:
    """Return probabilities [cells, images, classes] that say labels [cells, images]."""
    return np.eye(len(LABELS), dtype=np.float32)[labels] * 0.8 + 0.1


def measured(truth: np.ndarray, wrong: dict[int, int], *, count: int = 22) -> tuple[np.ndarray, np.ndarray]:
    """Return answers that are all right, and others of which in each cell so many images of the first class are not."""
    labels = np.repeat(truth[None], count, axis=0)
    other = labels.copy()
    for cell, images in wrong.items():
        other[cell, np.flatnonzero(truth == 0)[:images]] = 1
    return answers(labels), answers(other)


@pytest.fixture
def made_up(cells: Cells) -> tuple[Cells, np.ndarray]:
    truth = np.repeat([0, 1, 2], 100)
    return Cells("mr", cells.settings, cells.levels, cells.own, np.eye(3, dtype=np.bool_)[truth]), truth


def test_a_cell_that_loses_is_found_with_its_counts(made_up: tuple[Cells, np.ndarray]) -> None:
    cells, truth = made_up
    before, after = measured(truth, {7: 8}, count=len(cells.settings))
    loss, refused = compare(before, after, cells, INFO, max_drop=0.005)
    assert refused == loss.worst
    assert loss.worst.conditions == cells.settings[7].conditions
    assert (loss.worst.metric, loss.worst.lost, loss.worst.won, loss.worst.n) == ("sensitivity[a]", 8, 0, 100)
    assert (loss.worst.before, loss.worst.after) == (1.0, 0.92)
    assert loss.mean.drop == pytest.approx(0.08 / len(cells.settings))
    ((name, severity),) = cells.settings[7].conditions.items()
    assert f"falls from 1.000 to 0.920 under {name}@{severity} (8 lost and 0 won of 100" in describe(loss.worst)


def test_two_images_of_a_hundred_are_chance_in_one_cell_but_not_in_every(made_up: tuple[Cells, np.ndarray]) -> None:
    cells, truth = made_up
    count = len(cells.settings)
    assert compare(*measured(truth, {3: 2}, count=count), cells, INFO, max_drop=0.005)[1] is None
    loss, refused = compare(*measured(truth, dict.fromkeys(range(count), 2), count=count), cells, INFO, max_drop=0.005)
    assert refused == loss.mean
    assert loss.mean.conditions is None
    assert "on average over all conditions" in describe(loss.mean)


def test_what_is_won_counts_against_what_is_lost() -> None:
    def loss(lost: int, won: int) -> CellLoss:
        return CellLoss(
            conditions={}, metric="m", before=0.9, after=0.9 - (lost - won) / 100, n=100, lost=lost, won=won
        )

    assert chance(loss(0, 0), 0.005) == 1
    assert chance(loss(5, 0), 0.0) == pytest.approx(0.5**5)
    assert chance(loss(8, 6), 0.005) > 0.05 > chance(loss(9, 0), 0.005)
    assert chance(loss(5, 0), 0.05) > chance(loss(5, 0), 0.0)


def test_of_a_multi_label_model_specificity_counts_in_the_balanced_accuracy(cells: Cells) -> None:
    info = info_of(task=Task.MULTILABEL)
    truth = np.zeros((100, 3), np.bool_)
    truth[:50] = True
    made = Cells("mr", cells.settings, cells.levels, cells.own, truth)
    before = np.repeat(np.where(truth, 0.9, 0.1)[None], len(cells.settings), axis=0).astype(np.float32)
    after = before.copy()
    after[:, 50:60, 1] = 0.9
    loss, refused = compare(before, after, made, info, max_drop=0.005)
    assert refused is not None
    assert (loss.mean.metric, loss.mean.after) == ("balanced_accuracy", pytest.approx(1 - 0.2 / 6))
    assert loss.worst.lost == 10


def test_an_int8_file_says_what_it_cost_and_what_it_gives_itself(tmp_path: Any) -> None:
    bundle, graph = assemble(
        model_of(),
        INFO,
        validation_of(model_of(), INFO, COUNT),
        load_target("edge-cpu"),
        precision=Precision.INT8,
        max_drop=0.5,
    )
    assert bundle.graph.precision is Precision.INT8
    loss = bundle.precision_loss
    assert loss is not None
    assert (loss.images, loss.cells, loss.suite, loss.max_drop) == (COUNT, 22, "mr", 0.5)
    assert 0.5 < loss.top1_agreement <= 1
    session: Any = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    logits = session.run(["logits"], {"image": bundle.golden.image()})[0]
    assert logits == pytest.approx(np.array(bundle.golden.logits), abs=1e-4)
    assert {node.op_type for node in graph.graph.node} >= {"QuantizeLinear", "DequantizeLinear"}


def test_a_resize_of_the_targets_own_is_held_against_trainings() -> None:
    target = load_target("tensorrt")
    bundle, _ = assemble(model_of(), INFO, validation_of(model_of(), INFO), target, max_drop=0.5)
    assert bundle.precision_loss is not None
    network = built_for("server-cpu").network
    own = lambda image: np.zeros((64, 64, 1), np.uint8)  # noqa: E731 - a resize that sees nothing
    with make_cells(validation_of(model_of(), INFO, COUNT), INFO.input, own, track=silent) as cells:
        assert cells.own is not cells.levels
        with pytest.raises(PrecisionError, match=r"the target's own resize: .* falls from"):
            hold(cells, network, INFO, max_drop=0.005, track=silent)
