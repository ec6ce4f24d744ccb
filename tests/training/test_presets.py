"""What each preset trains, and that none falls below a plain fine-tune where the domain is far."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from imaging_ft.config import parse_assignments
from imaging_ft.errors import ConfigError
from imaging_ft.models.factory import create
from imaging_ft.models.stages import parameter_stages
from imaging_ft.training.optimiser import Optimiser
from imaging_ft.training.run import save_weights
from imaging_ft.training.settings import PRESETS, TrainSettings, merged, resumed_settings
from imaging_ft.training.train import train
from imaging_ft.types import Json
from tests.conftest import write_dataset

TINY: Json = {"model": "test_resnet", "weights": "none", "size": 32, "precision": "fp32", "batch_size": 16}


def tiny(**values: Any) -> TrainSettings:
    return TrainSettings.checked(TINY | {"augmentation": "none"} | values, where="test")


def changed(run: Path) -> set[str]:
    """Return the parameters and buffers that differ between where a run started and where it ended."""
    start, last = (load_file(run / "checkpoints" / f"{name}.safetensors") for name in ("start", "last"))
    return {name for name, value in start.items() if not value.equal(last[f"raw/{name}"])}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_dataset(tmp_path_factory.mktemp("data"), per_group=1))


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Write dark, faint textures, ten classes of few images: far from any photograph's statistics."""
    folder, rng = tmp_path_factory.mktemp("far"), np.random.default_rng(0)
    for label in range(10):
        texture = cv2.GaussianBlur(rng.normal(size=(64, 64)), (0, 0), 2.0)
        texture /= texture.std()
        for split, count in (("train", 10), ("val", 4)):
            for index in range(count):
                y, x = (int(start) for start in rng.integers(0, 7, 2))
                image = 8 + rng.uniform(0.6, 1.6) * 2 * texture[y : y + 48, x : x + 48] + rng.normal(0, 1, (48, 48))
                path = folder / split / f"c{label}" / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), np.clip(image + rng.uniform(-2, 2), 0, 255).astype(np.uint8))
    return str(folder)


FAR: Json = {"size": 32, "precision": "fp32", "augmentation": "none", "batch_size": 16, "learning_rate": 2e-3}


def test_no_preset_ends_below_a_plain_fine_tune_of_the_same_length_in_a_far_domain(far: str, tmp_path: Path) -> None:
    plain: Json = {"batch_norm": "trained", "layer_decay": 1.0, "average": False, "adapt": False}
    reached: dict[str, float] = {}
    for name, values in {"plain": plain, "fast": {"preset": "fast"}, "robust": {"preset": "robust"}}.items():
        summary = train(far, tmp_path / name, TrainSettings.checked(FAR | {"epochs": 11} | values, where="test"))
        reached[name] = summary["validation"]["balanced_accuracy"]
        assert summary["probe"]["balanced_accuracy"] < 0.5, "the pretrained features say little here"
    assert reached["plain"] > 0.7, "the plain fine-tune learns it"
    assert min(reached.values()) >= reached["plain"] - 0.08, reached


def test_a_far_domain_trains_every_stage_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    far = write_dataset(tmp_path / "data", groups=16, per_group=1)
    rng = np.random.default_rng(0)
    for path in sorted((tmp_path / "data" / "images").iterdir()):  # noise: no probe can say anything of it
        cv2.imwrite(str(path), rng.integers(0, 255, (32, 32), dtype=np.uint8))
    weights = tmp_path / "weights.safetensors"  # local, since what starts from random weights has no probe
    torch.manual_seed(0)
    save_weights(weights, create("test_resnet", classes=2, weights="none").backbone.state_dict())
    base: Json = TINY | {"weights": str(weights), "augmentation": "none", "batch_size": 32}
    run = tmp_path / "run"
    summary = train(str(far), run, TrainSettings.checked(base | {"preset": "fast"}, where="test"), say=said.append)
    assert summary["probe"]["far_domain"]
    assert summary["epochs"] == 6, "half as many again as the preset's four"
    assert set(summary["batch_norm"]["trials"]) == {"frozen", "trained", "trained, one rate"}
    assert any("far domain: the probe says little" in line for line in said)
    assert any("far domain: 6 epochs instead of 4" in line for line in said)
    assert "backbone.layer1.0.conv1.weight" in changed(run)
    balanced = train(str(far), tmp_path / "balanced", TrainSettings.checked(base | {"epochs": 1}, where="test"))
    assert (summary["adapted"]["trained"], balanced["adapted"]["average"]) == ("all", False)
    kept = TrainSettings.checked(base | {"preset": "fast", "adapt": False}, where="test")
    summary = train(str(far), tmp_path / "kept", kept)
    assert (summary["adapted"], summary["epochs"]) == ({}, 4)
    assert "backbone.layer1.0.conv1.weight" not in changed(tmp_path / "kept")


def test_fast_trains_the_head_and_what_scales_and_shifts(data: str, tmp_path: Path) -> None:
    summary = train(data, tmp_path / "run", tiny(preset="fast", epochs=1, batch_norm="frozen", adapt=False))
    model = create("test_resnet", classes=3, weights="none")
    stages = parameter_stages(model)
    ndim = {name: parameter.ndim for name, parameter in model.named_parameters()}
    moved = changed(tmp_path / "run")
    assert "head.weight" in moved
    assert {name for name in moved if stages[name] != "head"}
    assert all(ndim[name] == 1 for name in moved if stages[name] != "head")
    assert summary["cost"]["trainable_share"] < 0.2


def test_frozen_stages_keep_their_weights_to_the_bit(data: str, tmp_path: Path) -> None:
    train(data, tmp_path / "run", tiny(epochs=1, freeze=["stem", "stage1", "stage2"], batch_norm="trained"))
    stages = parameter_stages(create("test_resnet", classes=3, weights="none"))
    moved = {stages[name] for name in changed(tmp_path / "run") if name in stages}
    assert moved == {"stage3", "stage4", "head"}


def test_stages_join_one_after_the_other_from_the_head_down() -> None:
    model = create("test_resnet", classes=3, weights="none")
    stages = parameter_stages(model)
    optimiser = Optimiser(model, tiny(unfreeze_over=0.5).resolved(), steps=100)
    joined: list[set[str]] = []
    for step in (0, 15, 30, 50, 99):
        optimiser.prepare(step)
        joined.append({stages[name] for name, parameter in model.named_parameters() if parameter.requires_grad})
    assert joined[0] == {"head"}
    assert all(before <= after for before, after in pairwise(joined))
    assert joined[1] < joined[2] < joined[3] == joined[4] == set(stages.values())


def test_deeper_stages_have_lower_rates() -> None:
    model = create("test_resnet", classes=3, weights="none")
    optimiser = Optimiser(model, tiny(layer_decay=0.5, annealing="constant", warmup=0.0).resolved(), steps=10)
    optimiser.prepare(0)
    rates = {id(parameter): group["lr"] for group in optimiser.raw.param_groups for parameter in group["params"]}
    named = dict(model.named_parameters())
    head, stem = rates[id(named["head.weight"])], rates[id(next(iter(named.values())))]
    assert head == optimiser.rate == 1e-3
    assert stem <= head / 8


def test_l2_sp_keeps_weights_near_where_they_started(data: str, tmp_path: Path) -> None:
    far_away: dict[float, float] = {}
    for strength in (0.0, 200.0):
        run = tmp_path / f"{strength:g}"
        train(data, run, tiny(epochs=2, l2_sp=strength, batch_norm="frozen", weights="none"))
        start, last = (load_file(run / "checkpoints" / f"{name}.safetensors") for name in ("start", "last"))
        moved = [
            (last[f"raw/{name}"] - value).norm()
            for name, value in start.items()
            if name.startswith("backbone") and value.is_floating_point()
        ]
        far_away[strength] = float(torch.stack(moved).norm())
    assert far_away[200.0] < 0.8 * far_away[0.0]


def test_from_scratch_has_no_probe(data: str, tmp_path: Path) -> None:
    summary = train(data, tmp_path / "run", tiny(epochs=1))
    assert (summary["probe"]["head"], summary["probe"]["strength"]) == ("random", None)
    assert summary["batch_norm"]["statistics"] == "trained"


@pytest.mark.parametrize(
    "values",
    [
        {"loss": "focal"},
        {"label_smoothing": 0.1},
        {"mixup": 0.4},
        {"class_weights": {"ring": 3}},
        {"annealing": "one_cycle"},
        {"annealing": "linear"},
        {"recompute": True},
        {"accumulate": 3},
        {"clip": 0.1},
    ],
    ids=str,
)
def test_each_way_to_train_changes_the_result_and_gives_a_model(
    values: Json, data: str, plain: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    train(data, tmp_path / "run", tiny(epochs=2, **values))
    found = load_file(tmp_path / "run" / "checkpoints" / "last.safetensors")
    assert all(bool(value.isfinite().all()) for value in found.values() if value.is_floating_point())
    if values != {"recompute": True}:  # the same gradients in less memory
        assert any(not value.equal(found[name]) for name, value in plain.items())


def test_augmix_trains_on_other_images_than_the_recipe_alone(data: str, tmp_path: Path) -> None:
    for name, augmix in (("alone", False), ("mixed", True)):
        train(data, tmp_path / name, tiny(epochs=1, augmentation="mr", augmix=augmix))
    alone, mixed = (load_file(tmp_path / name / "checkpoints" / "last.safetensors") for name in ("alone", "mixed"))
    assert all(bool(value.isfinite().all()) for value in mixed.values() if value.is_floating_point())
    assert not mixed["head.weight"].equal(alone["head.weight"])


@pytest.fixture(scope="module")
def plain(data: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    run = tmp_path_factory.mktemp("plain") / "run"
    train(data, run, tiny(epochs=2))
    return load_file(run / "checkpoints" / "last.safetensors")


def test_a_class_weight_for_an_unknown_class_is_refused(data: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no class named 'rong'; did you mean 'ring'"):
        train(data, tmp_path / "run", tiny(class_weights={"rong": 2}))


def test_a_preset_fills_in_what_is_not_given_and_no_more() -> None:
    assert TrainSettings(preset="robust").resolved().epochs == PRESETS["robust"]["epochs"]
    assert TrainSettings(preset="robust", epochs=3, steer=False).resolved().steer is False
    whole = TrainSettings(preset="fast").resolved().model_dump(mode="json")
    assert TrainSettings.checked(merged(whole, {}), where="test").resolved().trained == "affine"
    robust = TrainSettings.checked(merged(whole, {"preset": "robust"}), where="test").resolved()
    assert (robust.trained, robust.epochs, robust.steer) == ("all", PRESETS["robust"]["epochs"], True)


def test_what_is_resumed_keeps_its_settings(tmp_path: Path) -> None:
    from imaging_ft.config import to_yaml

    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(TrainSettings(seed=3, epochs=5).resolved()))
    assert resumed_settings(path, {"workers": 2, "seed": 3}).workers == 2
    with pytest.raises(ConfigError, match="the run was begun with epochs=5, which --resume can't change"):
        resumed_settings(path, {"epochs": 9})


def test_class_weights_are_by_name_also_where_yaml_reads_the_names_as_numbers() -> None:
    given = parse_assignments(["class_weights={0: 2, 1: 0.5, ring: 1e1}"])
    assert TrainSettings.checked(given, where="settings").class_weights == {"0": 2, "1": 0.5, "ring": 10}


def test_the_largest_seed_is_one_that_torch_and_numpy_take() -> None:
    seed = TrainSettings.checked({"seed": 2**32 - 1}, where="settings").seed
    torch.manual_seed(seed)
    np.random.default_rng(seed)
    np.random.RandomState(seed)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"time_budget": "soon"}, "a time such as 90s, 10m or 1.5h is expected"),
        ({"time_budget": "0s"}, "a time above zero is expected; leave it out"),
        ({"time_budget": "0.0 h"}, "a time above zero is expected; leave it out"),
        ({"seed": 2**32}, "seed: input should be less than or equal to 4294967295"),
        ({"class_weights": {"Ring": "heavy"}}, "the weight of class 'Ring' must be a number above 0"),
        ({"class_weights": {"Ring": 0}}, "the weight of class 'Ring' must be a number above 0"),
        ({"class_weights": {"Ring": True}}, "the weight of class 'Ring' must be a number above 0"),
        ({"class_weights": {False: 2}}, "class_weights: the class name False is no text"),
        ({"fold": 4, "folds": 3}, "give folds, and a fold from 1 to it"),
        ({"weights": "none", "from_run": "runs/a"}, "both say where to start"),
        ({"preset": "quick"}, "preset"),
        ({"freeze": ["stage9"]}, "freeze"),
    ],
)
def test_settings_that_say_nothing_are_refused(values: Json, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainSettings.checked(values, where="settings")
