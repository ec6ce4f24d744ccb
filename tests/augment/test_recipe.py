"""Training recipes: what they do to an image, what they practise, and what a wrong file is told."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imaging_ft import catalog
from imaging_ft.augment.conditions import CONDITIONS, load_suite
from imaging_ft.augment.recipe import Recipe, load_recipe
from imaging_ft.errors import ConfigError
from imaging_ft.types import FloatImage, Levels

BUILT_IN = catalog.names("augmentations/recipes")
DOMAINS = [name for name in BUILT_IN if name != "none"]
LISTENER = """
import sys
calls = []
names = ("socket.connect", "socket.getaddrinfo", "urllib.Request")
sys.addaudithook(lambda event, arguments: calls.append(event) if event in names else None)
import imaging_ft.augment.clutter, imaging_ft.augment.recipe
import albumentations
print(albumentations.__version__, calls)
"""


@pytest.fixture(params=[1, 3], ids=["gray", "colour"])
def levels(request: pytest.FixtureRequest, scene: FloatImage) -> Levels:
    return np.rint(scene[:, :, : request.param] * 255).astype(np.uint8)


def recipe(*transforms: dict[str, Any]) -> Recipe:
    return Recipe(name="mine", transforms=transforms)


def names_in(transforms: Any) -> Iterator[str]:
    for entry in transforms:
        for name, parameters in entry.items():
            yield name
            yield from names_in(parameters.get("transforms", []))


def test_the_built_in_recipes_are_those_of_the_domains_and_none() -> None:
    assert set(BUILT_IN) == {
        *("radiograph", "mr", "ct", "microscopy", "endoscopy", "fundus", "ultrasound"),
        *("camera", "face", "baggage_xray", "baggage_scene", "none"),
    }


@pytest.mark.parametrize("name", DOMAINS)
def test_a_built_in_recipe_keeps_the_form_and_changes_the_image(name: str, levels: Levels) -> None:
    augment = load_recipe(name).build()
    levels.setflags(write=False)
    before = levels.copy()
    changed = [augment(levels, seed) for seed in range(30)]
    assert {(image.shape, image.dtype.name) for image in changed} == {(levels.shape, "uint8")}
    assert all(image.flags.c_contiguous for image in changed)
    assert sum(not np.array_equal(image, levels) for image in changed) >= 24
    assert len({image.tobytes() for image in changed}) >= 24
    assert np.array_equal(levels, before)


@pytest.mark.parametrize("name", DOMAINS)
def test_the_same_seed_gives_the_same_image_whatever_came_before(name: str, levels: Levels) -> None:
    first = load_recipe(name).build()
    again = load_recipe(name).build()
    in_order = [first(levels, seed).tobytes() for seed in range(12)]
    backwards = [again(levels, seed).tobytes() for seed in reversed(range(12))]
    assert in_order == backwards[::-1]


def test_the_recipe_none_changes_nothing(levels: Levels) -> None:
    augment = load_recipe("none").build()
    assert np.array_equal(augment(levels, 7), levels)
    assert load_recipe("none").practised() == []


@pytest.mark.parametrize("name", ["radiograph", "mr", "ct"])
def test_patients_are_neither_flipped_nor_given_a_hue(name: str) -> None:
    used = set(names_in(load_recipe(name).transforms))
    assert not [word for word in used if "Flip" in word or "Transpose" in word or "90" in word or "D4" in word]
    assert not [word for word in used if "Hue" in word or "Color" in word or "RGB" in word or "Channel" in word]


@pytest.mark.parametrize("name", DOMAINS)
def test_gray_stays_gray(name: str, scene: FloatImage) -> None:
    gray = np.repeat(np.rint(scene[:, :, :1] * 255).astype(np.uint8), 3, axis=2)
    augment = load_recipe(name).build()
    for seed in range(20):
        changed = augment(gray, seed).astype(int)
        assert np.ptp(changed, axis=2).max() <= 1, seed


@pytest.mark.parametrize("name", DOMAINS)
def test_a_recipe_practises_most_of_its_suite(name: str) -> None:
    recipe = load_recipe(name)
    practised = set(recipe.practised())
    assert recipe.conditions is not None
    suite = load_suite(recipe.conditions).conditions
    assert practised <= set(CONDITIONS)
    assert len(practised.intersection(suite)) >= 3


def test_depth_in_an_ultrasound_image_and_an_eye_are_never_upside_down() -> None:
    for name in ("ultrasound", "fundus", "camera", "face"):
        assert not {"VerticalFlip", "Dihedral", "D4", "RandomRotate90", "Transpose"}.intersection(
            names_in(load_recipe(name).transforms)
        )


def test_no_recipe_changes_hue() -> None:
    for name in DOMAINS:
        assert not [word for word in names_in(load_recipe(name).transforms) if "Hue" in word or "Color" in word]


def test_radiographs_practise_scatter_collimation_and_foreign_objects_and_cameras_occlusion_and_distance() -> None:
    assert {"scatter", "collimation", "foreign_objects"} <= set(load_recipe("radiograph").practised())
    assert {"occlusion", "distance"} <= set(load_recipe("camera").practised())


def test_noise_is_practised_in_a_third_of_the_samples_of_baggage() -> None:
    image = np.full((16, 16, 1), 128, np.uint8)
    augment = load_recipe("baggage_xray").build()
    changed = [augment(image, seed).astype(float) for seed in range(600)]
    assert np.mean([one.std() > 0.5 for one in changed]) == pytest.approx(0.35, abs=0.05)


@pytest.mark.parametrize("shape", [(8, 8, 1), (6, 9, 3)])
def test_dihedral_is_every_flip_and_quarter_turn_that_keeps_the_size(shape: tuple[int, int, int]) -> None:
    image = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    augment = recipe({"Dihedral": {}}).build()
    found = {augment(image, seed).tobytes() for seed in range(200)}
    turns = [np.rot90(image, quarter) for quarter in range(4)]
    ways = {way.tobytes() for turn in turns for way in (turn, turn[:, ::-1]) if way.shape == shape}
    assert found == ways
    assert len(found) == (8 if shape[0] == shape[1] else 4)


def test_a_condition_of_colour_leaves_gray_as_it_is(levels: Levels) -> None:
    mine = recipe({"Condition": {"name": "stain", "severity": [5, 5]}})
    assert np.array_equal(mine.build()(levels, 0), levels) == (levels.shape[2] == 1)
    assert mine.families(channels=1) == ()
    assert mine.families(channels=3) == ("stain",)


def test_a_condition_never_sees_channels_that_it_does_not_take(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> FloatImage:
        raise ValueError("gray has no stain")

    monkeypatch.setitem(CONDITIONS, "stain", replace(CONDITIONS["stain"], apply=refuse))
    augment = recipe({"Condition": {"name": "stain"}}).build()
    assert (augment(np.full((8, 8, 1), 90, np.uint8), 0) == 90).all()
    with pytest.raises(ConfigError, match="gray has no stain"):
        augment(np.full((8, 8, 3), 90, np.uint8), 0)


def test_practised_names_conditions_and_the_transforms_that_are_alike() -> None:
    nested = {"OneOf": {"transforms": [{"Condition": {"name": "glare"}}, {"RandomGamma": {"gamma_limit": [50, 200]}}]}}
    assert recipe(nested).practised() == ["dense_shield", "glare", "tube_voltage"]
    assert recipe({"Affine": {"rotate": [-9, 9]}}).practised() == ["position_roll", "roll"]
    assert recipe({"Condition": {"name": "roll"}}).practised() == ["position_roll", "roll"]
    assert recipe({"HorizontalFlip": {}}).practised() == []


def test_an_affine_transform_that_turns_nothing_does_not_practise_roll() -> None:
    assert recipe({"Affine": {"scale": [0.8, 1.2]}}).practised() == []


def test_a_conditions_severity_is_drawn_from_its_range(scene: FloatImage) -> None:
    image = np.full((8, 8, 1), 40, np.uint8)
    augment = recipe({"Condition": {"name": "over_exposure", "severity": [2, 4]}}).build()
    gains = np.array([augment(image, seed)[0, 0, 0] / 40 for seed in range(60)])
    assert gains.min() >= 10**0.4 * 0.98
    assert gains.max() <= 10**0.8 * 1.02
    assert np.ptp(gains) > 2  # 2.5 to 6.3


def test_transforms_are_drawn_independently_of_each_other() -> None:
    image = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
    augment = recipe({"HorizontalFlip": {"p": 0.5}}, {"VerticalFlip": {"p": 0.5}}).build()
    found = Counter(augment(image, seed).tobytes() for seed in range(1000))
    ways = [image, image[:, ::-1], image[::-1], image[::-1, ::-1]]
    assert [found[way.tobytes()] / 1000 for way in ways] == pytest.approx([0.25] * 4, abs=0.05)


def test_a_severity_reaches_its_extreme_however_seldom_the_condition_is_drawn() -> None:
    image = np.full((8, 8, 1), 20, np.uint8)
    member = {"Condition": {"name": "over_exposure", "severity": [0, 5]}}
    augment = recipe({"OneOf": {"p": 0.3, "transforms": [member]}}).build()
    gains = np.array([augment(image, seed)[0, 0, 0] / 20 for seed in range(1000)])
    drawn = np.log10(gains[gains > 1]) * 5  # severity, as over-exposure is by 2 dB a step
    assert len(drawn) / 1000 == pytest.approx(0.3, abs=0.05)
    assert drawn.mean() == pytest.approx(2.5, abs=0.25)
    assert drawn.max() > 4.7


def test_a_users_own_file_is_a_recipe(tmp_path: Path, levels: Levels) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\ntransforms:\n  - HorizontalFlip: {p: 1.0}\n  - Condition: {name: roll}\n")
    loaded = load_recipe(str(path))
    assert loaded.practised() == ["position_roll", "roll"]
    assert loaded.build()(levels, 0).shape == levels.shape


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("HorizontalFlipp: {}", r"HorizontalFlipp: albumentations has no such transform; did you mean 'HorizontalFlip"),
        ("Compose: {transforms: []}", "Compose: albumentations has no such transform"),
        ("Affine: {rotat: 3}", "Affine: .*'rotat'"),
        ("Affine: {rotate: sideways}", r"Affine: rotate: .* \(got 'sideways'\)$"),
        ("Condition: {name: low_dosis}", r"Condition: no condition named 'low_dosis'; did you mean 'low_dose'\?"),
        ("Condition: {nam: low_dose}", r"Condition: unknown key 'nam'; did you mean 'name'\?|'name' is missing"),
        ("Condition: {name: roll, severity: [0, 6]}", "Condition: severity must rise within 0 to 5"),
        ("Condition: {name: roll, severity: [3, 1]}", "Condition: severity must rise within 0 to 5"),
        ("Condition: {name: roll, severity: 3}", "Condition: severity: "),
        ("Condition: {name: roll, p: 2}", "p lie within 0 to 1"),
        ("OneOf: {p: 1.0}", "OneOf: needs a list 'transforms'"),
        ("OneOf: {transforms: [HorizontalFlip]}", "each transform is one 'Name: {parameters}', not 'HorizontalFlip'"),
        ("OneOf: {transforms: [{HorizontalFlip: }]}", "HorizontalFlip: each transform is one .*, not None"),
        ("OneOf: {transforms: [{HorizontalFlop: {}}]}", r"HorizontalFlop: .*did you mean 'HorizontalFlip'\?"),
        ("{HorizontalFlip: {}, VerticalFlip: {}}", "each transform is one 'Name: {parameters}'"),
        ("HorizontalFlip", r"transforms\.0: .*dictionary \(got 'HorizontalFlip'\)"),
        ("Lambda: {image: 'print(1)', x: 1}", "Lambda: "),
    ],
)
def test_a_wrong_transform_is_named_with_its_file(tmp_path: Path, entry: str, said: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(f"name: wrong\ntransforms:\n  - {entry}\n")
    with pytest.raises(ConfigError, match=said) as caught:
        load_recipe(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_suite_that_there_is_not_is_named_with_the_recipes_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nconditions: fundas\n")
    with pytest.raises(
        ConfigError, match=r"mine\.yaml: conditions: no built-in suite 'fundas'; did you mean 'fundus'\?"
    ):
        load_recipe(str(path))


def test_an_unknown_recipe_is_told_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"no augmentation recipe named 'cammera'; did you mean 'camera'\?"):
        load_recipe("cammera")


@pytest.mark.parametrize(
    "entry", [{"RandomCrop": {"height": 9, "width": 9}}, {"Normalize": {}}, {"Transpose": {"p": 1.0}}]
)
def test_a_recipe_that_changes_size_or_type_is_refused(entry: dict[str, Any], levels: Levels) -> None:
    with pytest.raises(ConfigError, match=r"recipe mine: makes .*leave out what changes size or type"):
        recipe(entry).build()(levels, 0)


def test_a_transform_that_cannot_take_gray_is_an_error_of_the_recipe() -> None:
    augment = recipe({"RandomFog": {"p": 1.0}}).build()
    with pytest.raises(ConfigError, match=r"recipe mine: fails on an image \(16, 16, 1\): "):
        augment(np.full((16, 16, 1), 90, np.uint8), 0)


def test_importing_albumentations_calls_no_network() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "NO_ALBUMENTATIONS_UPDATE"}
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", LISTENER],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split(maxsplit=1)[1].strip() == "[]"
    assert done.stderr == ""


def test_clutter_is_laid_over_as_a_transmission(levels: Levels) -> None:
    glass = np.full((2, *levels.shape), 128, np.uint8)
    augment = recipe({"Clutter": {"layers": [1, 1], "strength": [0.5, 0.5], "p": 1.0}}).build(glass)
    expected = np.rint(levels * np.sqrt(128 / 255))
    assert np.abs(augment(levels, 3).astype(float) - expected).max() <= 1


def test_more_layers_let_less_through_and_clear_ones_change_nothing(levels: Levels) -> None:
    def mean(level: int, layers: int) -> float:
        pool = np.full((1, *levels.shape), level, np.uint8)
        built = recipe({"Clutter": {"layers": [layers, layers], "strength": [1, 1], "p": 1.0}}).build(pool)
        return float(built(levels, 0).mean())

    assert mean(200, 3) < mean(200, 2) < mean(200, 1) < levels.mean()
    assert mean(255, 3) == levels.mean()


def test_what_leaves_too_little_of_the_beam_is_made_thinner() -> None:
    bright = np.full((64, 64, 1), 255, np.uint8)
    dark = np.random.default_rng(0).integers(20, 120, (4, 64, 64, 1)).astype(np.uint8)

    def depth(**bound: float) -> float:
        built = recipe({"Clutter": {"layers": [3, 3], "strength": [1, 1], "p": 1.0, **bound}}).build(dark)
        found = [np.maximum(built(bright, seed), 0.5) / 255 for seed in range(8)]
        return float(np.mean([-np.log(one).mean() for one in found]))

    assert depth() > 3
    assert depth(thickest=1.0) == pytest.approx(1.0, abs=0.02)
    assert depth(thickest=9.0) == pytest.approx(depth())


def test_clutter_is_drawn_anew_by_seed_and_alike_for_the_same_seed(levels: Levels) -> None:
    pool = np.random.default_rng(0).integers(0, 256, (5, *levels.shape)).astype(np.uint8)
    augment = recipe({"Clutter": {"p": 1.0}}).build(pool)
    assert augment(levels, 1).tobytes() == augment(levels, 1).tobytes()
    assert len({augment(levels, seed).tobytes() for seed in range(10)}) == 10


def test_without_images_to_lay_over_clutter_does_nothing(levels: Levels) -> None:
    mine = recipe({"OneOf": {"transforms": [{"Clutter": {"p": 1.0}}], "p": 1.0}})
    assert mine.lays_clutter
    assert not load_recipe("radiograph").lays_clutter
    assert np.array_equal(mine.build()(levels, 0), levels)
    assert np.array_equal(mine.build(np.empty((0, *levels.shape), np.uint8))(levels, 0), levels)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"layers": [3, 1]}, "layers and strength are ranges: LOW before HIGH"),
        ({"strength": [0, 1]}, r"strength\.0: .*greater than 0"),
        ({"layer": [1, 2]}, r"unknown key 'layer'; did you mean 'layers'\?"),
        ({"p": 2}, "p: "),
    ],
)
def test_wrong_clutter_is_named(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=f"recipe mine: Clutter: {said}"):
        recipe({"Clutter": parameters}).build()


def test_whole_bags_have_no_clutter_laid_over_them_and_single_objects_do() -> None:
    assert load_recipe("baggage_xray").lays_clutter
    assert not load_recipe("baggage_scene").lays_clutter
