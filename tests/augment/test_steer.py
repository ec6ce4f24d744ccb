"""Odds, families alone and families held out: counted on what the built augmentation does to images."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from imaging_ft import catalog
from imaging_ft.augment import steer
from imaging_ft.augment.recipe import Recipe, load_recipe
from imaging_ft.errors import ConfigError
from imaging_ft.types import Levels

pytestmark = pytest.mark.filterwarnings("error")

FLAT = np.full((8, 8, 1), 100, np.uint8)
POOL = np.full((1, 8, 8, 1), 51, np.uint8)
# On a flat image of level 100 each of these leaves its own level: which was drawn can be read off.
LEVELS = {"tube_voltage": 160, "dense_shield": 15, "over_exposure": 158}
DRAWS = 1500


def fixed(name: str, severity: int = 5, **parameters: Any) -> dict[str, Any]:
    return {"Condition": {"name": name, "severity": [severity, severity], **parameters}}


def one_of(*members: dict[str, Any], p: float = 1.0) -> dict[str, Any]:
    return {"OneOf": {"p": p, "transforms": list(members)}}


def recipe(*transforms: dict[str, Any]) -> Recipe:
    return Recipe(name="mine", transforms=transforms)


EXPOSURE = one_of(fixed("tube_voltage"), fixed("dense_shield"), fixed("over_exposure", 1), p=0.8)


def shares(mine: Recipe, clutter: Levels | None = None, **steered: Any) -> dict[int, float]:
    """Return the share of each level that a flat image comes out with."""
    augment = mine.build(clutter, **steered)
    found = Counter(int(augment(FLAT, seed)[0, 0, 0]) for seed in range(DRAWS))
    return {level: count / DRAWS for level, count in found.items()}


def near(share: float) -> Any:
    return pytest.approx(share, abs=0.05)


def test_the_levels_of_the_families_are_those_of_their_formulas() -> None:
    for name, level in LEVELS.items():
        assert shares(recipe(fixed(name, 1 if name == "over_exposure" else 5))) == {level: 1.0}


def test_families_are_what_can_be_steered_in_the_recipes_order() -> None:
    mine = recipe({"Affine": {"rotate": [-9, 9]}}, {"Clutter": {}}, EXPOSURE, {"Condition": {"name": "roll"}})
    assert mine.families() == ("clutter", "tube_voltage", "dense_shield", "over_exposure", "roll")
    # Of what does two things at once, it can't be said which one a model is weak at.
    assert recipe({"RandomGamma": {}}, {"Affine": {"rotate": [-9, 9]}}, {"Perspective": {}}).families() == ()
    assert recipe({"Rotate": {"limit": 9}}).families() == ("roll",)


def test_odds_weigh_a_family_against_its_neighbours_and_leave_the_group_as_often_drawn() -> None:
    plain = shares(recipe(EXPOSURE))
    assert plain == {100: near(0.2), 160: near(0.8 / 3), 15: near(0.8 / 3), 158: near(0.8 / 3)}
    steered = shares(recipe(EXPOSURE), odds={"dense_shield": 4.0})
    assert steered == {100: near(0.2), 160: near(0.8 / 6), 15: near(0.8 * 4 / 6), 158: near(0.8 / 6)}
    lowered = shares(recipe(EXPOSURE), odds={"dense_shield": 0.25, "tube_voltage": 1.0})
    assert lowered[15] == near(0.8 * 0.25 / 2.25)


def test_odds_multiply_weights_that_the_recipe_gave() -> None:
    mine = recipe(one_of(fixed("tube_voltage", p=0.2), fixed("dense_shield", p=0.6)))
    assert shares(mine) == {160: near(0.25), 15: near(0.75)}
    assert shares(mine, odds={"tube_voltage": 9.0}) == {160: near(0.75), 15: near(0.25)}


def test_a_family_at_odds_0_is_never_drawn() -> None:
    assert 15 not in shares(recipe(EXPOSURE), odds={"dense_shield": 0})
    assert shares(recipe(EXPOSURE), odds=dict.fromkeys(LEVELS, 0.0)) == {100: 1.0}
    assert shares(recipe(fixed("dense_shield")), odds={"dense_shield": 0}) == {100: 1.0}


def test_outside_a_choice_the_odds_of_its_own_p_are_multiplied() -> None:
    mine = recipe(fixed("dense_shield", p=0.5))
    assert shares(mine, odds={"dense_shield": 3.0})[15] == near(0.75)
    assert shares(recipe({"Sequential": {"p": 1.0, "transforms": [fixed("dense_shield", p=0.5)]}})) == {
        15: near(0.5),
        100: near(0.5),
    }
    clutter = recipe({"Clutter": {"p": 0.5, "strength": [1, 1], "layers": [1, 1]}})
    assert shares(clutter, POOL, odds={"clutter": 1 / 3})[20] == near(0.25)


def test_a_neighbour_without_a_family_keeps_its_weight() -> None:
    mine = recipe(one_of(fixed("dense_shield"), {"InvertImg": {}}))
    assert shares(mine) == {15: near(2 / 3), 155: near(1 / 3)}  # albumentations' default of p is 0.5
    assert shares(mine, odds={"dense_shield": 5.0}) == {15: near(10 / 11), 155: near(1 / 11)}


def test_alone_a_family_is_always_drawn_in_the_recipes_scene() -> None:
    mine = recipe({"InvertImg": {"p": 1.0}}, {"Clutter": {"p": 0.5, "strength": [1, 1], "layers": [1, 1]}}, EXPOSURE)
    # 155 inverted; under the clutter 155 * 0.2 = 31; then the shield: 155^3 = 57 and 31^3 = 0 in fractions of 255.
    assert shares(mine, POOL, only="dense_shield") == {57: near(0.5), 0: near(0.5)}
    assert shares(mine, POOL, only="clutter") == {31: 1.0}
    assert shares(mine, POOL, only="dense_shield", odds={"clutter": 0, "tube_voltage": 9.0}) == {57: 1.0}


def test_alone_other_groups_of_families_and_single_families_are_off() -> None:
    mine = recipe(EXPOSURE, one_of(fixed("low_light"), {"InvertImg": {}}), fixed("glare"))
    assert shares(mine, only="tube_voltage") == {160: 1.0}
    nested = recipe(one_of({"Sequential": {"p": 0.1, "transforms": [fixed("dense_shield", p=0.2)]}}, fixed("glare")))
    assert shares(nested, only="dense_shield") == {15: 1.0}
    some = recipe({"SomeOf": {"n": 2, "p": 1.0, "transforms": [fixed("dense_shield"), fixed("tube_voltage")]}})
    assert shares(some, only="dense_shield") == {15: 1.0}
    assert shares(some, odds={"tube_voltage": 0}) == {15: 1.0}


def test_a_group_without_families_stays_beside_the_one_alone() -> None:
    mine = recipe(one_of({"InvertImg": {"p": 1.0}}), EXPOSURE)
    assert shares(mine, only="dense_shield") == {57: 1.0}


@pytest.mark.parametrize("steered", [{"odds": {"low_dose": 3.0}}, {"only": "low_dose"}])
def test_a_steered_recipe_gives_the_same_bytes_for_the_same_seed(steered: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (24, 24, 1)).astype(np.uint8)
    first = load_recipe("baggage_xray").build(image[None], **steered)
    again = load_recipe("baggage_xray").build(image[None], **steered)
    in_order = [first(image, seed).tobytes() for seed in range(12)]
    assert in_order == [again(image, seed).tobytes() for seed in reversed(range(12))][::-1]
    assert len(set(in_order)) == 12


def test_held_out_families_are_taken_out_everywhere_with_what_is_alike() -> None:
    mine = recipe(EXPOSURE, {"RandomGamma": {}}, {"Affine": {"rotate": [-9, 9], "scale": [0.5, 0.9]}}, {"Rotate": {}})
    assert mine.practised() == ["dense_shield", "over_exposure", "position_roll", "roll", "tube_voltage"]
    gone = mine.without(["dense_shield"])  # RandomGamma practises it too
    assert gone.practised() == ["over_exposure", "position_roll", "roll", "tube_voltage"]
    assert gone.families() == ("tube_voltage", "over_exposure", "roll")
    straight = mine.without(["position_roll"])
    assert straight.practised() == ["dense_shield", "over_exposure", "tube_voltage"]
    assert straight.transforms[-1] == {"Affine": {"scale": [0.5, 0.9]}}
    assert mine.without([]).transforms == mine.transforms
    assert mine.practised() == ["dense_shield", "over_exposure", "position_roll", "roll", "tube_voltage"]


def test_held_out_families_are_never_drawn_and_the_rest_still_is() -> None:
    found = shares(recipe(EXPOSURE).without(["dense_shield"]))
    assert found == {100: near(0.2), 160: near(0.4), 158: near(0.4)}
    assert recipe(EXPOSURE).without(LEVELS).transforms == ()


def test_a_turn_is_taken_out_of_a_transform_that_shifts_and_scales_too() -> None:
    y, x = np.mgrid[0:41, 0:41]
    ramp = ((x + 2 * y) * 2).astype(np.uint8)[:, :, np.newaxis]
    for name, turn in (("Affine", {"rotate": [20, 20]}), ("ShiftScaleRotate", {"rotate_limit": [20, 20]})):
        held = steer.without(({name: turn | {"p": 1.0}},), ["roll"], where="here")
        parameters = next(iter(held[0].values()))
        assert not parameters.get("rotate")
        assert not parameters.get("rotate_limit")
    still = recipe({"Affine": {"rotate": [20, 20], "p": 1.0}}).without(["roll"]).build()
    assert np.array_equal(still(ramp, 0), ramp)


def test_clutter_can_be_held_out() -> None:
    without = load_recipe("baggage_xray").without(["clutter"])
    assert not without.lays_clutter
    assert "clutter" not in without.families()


@pytest.mark.parametrize("name", catalog.names("augmentations/recipes"))
def test_every_family_of_a_built_in_recipe_can_be_alone_favoured_and_held_out(name: str) -> None:
    mine = load_recipe(name)
    image = np.random.default_rng(0).integers(60, 200, (32, 32, 3)).astype(np.uint8)
    for family in mine.families():
        changed = [mine.build(image[None], only=family)(image, seed) for seed in range(4)]
        assert not any(np.array_equal(one, image) for one in changed), family
        mine.build(image[None], odds={family: 5.0})(image, 0)
        held = mine.without([family])
        assert family not in (*held.practised(), *held.families())
        held.build(image[None])(image, 0)


@pytest.mark.parametrize(
    ("steered", "said"),
    [
        ({"odds": {"tube_voltag": 2}}, r"recipe mine: odds: no condition family 'tube_voltag'; did you mean 'tube_vol"),
        ({"odds": {"glare": 2}}, r"no condition family 'glare'; there are: dense_shield, over_exposure, tube_voltage"),
        ({"odds": {"dense_shield": -1}}, "the odds of dense_shield are -1; give a factor of 0 or more"),
        ({"odds": {"dense_shield": float("nan")}}, "the odds of dense_shield are nan"),
        ({"odds": {"dense_shield": float("inf")}}, "the odds of dense_shield are inf"),
        ({"only": "clutter"}, r"recipe mine: no condition family 'clutter'; there are: "),
    ],
)
def test_wrong_steering_is_told_in_one_line(steered: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        recipe(EXPOSURE).build(**steered)


def test_an_unknown_family_cannot_be_held_out() -> None:
    with pytest.raises(ConfigError, match=r"recipe mine: held out: no condition family 'rol'; did you mean 'roll'\?"):
        recipe(EXPOSURE).without(["rol"])
