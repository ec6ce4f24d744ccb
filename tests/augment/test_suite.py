"""Condition suites: what is measured, and what a wrong file is told."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from imaging_ft import catalog
from imaging_ft.augment.conditions import Suite, load_suite
from imaging_ft.augment.recipe import load_recipe
from imaging_ft.errors import ConfigError
from imaging_ft.types import Axis

pytestmark = pytest.mark.filterwarnings("error")

BUILT_IN = catalog.names("augmentations/conditions")


def test_the_built_in_suites_are_those_of_the_domains() -> None:
    assert set(BUILT_IN) == {
        *("radiograph", "mr", "ct", "microscopy", "endoscopy", "fundus", "ultrasound"),
        *("camera", "face", "baggage_xray"),
    }


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_suite_is_clean_then_each_condition_then_the_grid(name: str) -> None:
    suite = load_suite(name)
    settings = suite.settings()
    crossed = suite.grid_conditions or suite.conditions
    axes = Counter(member.axis for member in suite.members() if member.name in crossed)
    singles = len(suite.conditions) * len(suite.severities)
    pairs = axes[Axis.LIGHTING] * axes[Axis.ANGLE] * len(suite.grid_severities) ** 2
    assert [len(setting.parts) for setting in settings] == [0] + [1] * singles + [2] * pairs
    keys = {frozenset(setting.conditions.items()) for setting in settings}
    assert len(keys) == 1 + singles + pairs
    assert pairs > 0
    assert all(setting.axes == ["lighting", "angle"] for setting in settings[1 + singles :])


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_suite_is_named_as_its_file_and_has_both_axes_at_all_severities(name: str) -> None:
    suite = load_suite(name)
    assert suite.name == name
    assert suite.title
    assert suite.severities == (1, 2, 3, 4, 5)
    assert suite.grid_severities == (1, 3, 5)
    assert {Axis.LIGHTING, Axis.ANGLE} < {member.axis for member in suite.members()}
    assert len(suite.settings()) <= 110  # a report on two cores stays affordable


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_suite_holds_what_its_recipe_practises_and_what_it_does_not(name: str) -> None:
    practised = set(load_recipe(name).practised())
    members = load_suite(name).members()
    held_out = [member for member in members if member.name not in practised]
    assert len(members) > len(held_out) >= 2
    assert {member.axis for member in held_out} & {Axis.LIGHTING, Axis.SENSOR, Axis.MOTION}
    assert held_out == members[-len(held_out) :]
    comment = catalog.find(name, on="augmentations/conditions").read_text(encoding="utf-8").splitlines()[0]
    assert comment.partition(": ")[2].rstrip(".").split(", ") == [member.name for member in held_out]


@pytest.mark.parametrize("name", [name for name in BUILT_IN if name != "ct"])
def test_a_suite_crosses_what_was_practised_with_light_and_angle(name: str) -> None:
    pairs = [setting for setting in load_suite(name).settings() if len(setting.parts) == 2]
    practised = set(load_recipe(name).practised())
    assert any(set(setting.conditions) <= practised for setting in pairs)


def test_a_grid_is_made_of_the_conditions_named_for_it() -> None:
    suite = Suite(
        name="mine", conditions=("low_dose", "scatter", "roll"), severities=(3,), grid_conditions=("scatter", "roll")
    )
    assert [setting.conditions for setting in suite.settings()[4:]] == [{"scatter": 3, "roll": 3}]


def test_conditions_that_do_not_take_gray_are_left_out_for_gray() -> None:
    suite = Suite(name="mine", conditions=("stain", "defocus", "roll"), severities=(1,))
    assert [setting.conditions for setting in suite.settings(channels=1)] == [{}, {"defocus": 1}, {"roll": 1}]
    assert suite.settings(channels=3) == suite.settings()


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_setting_of_a_built_in_suite_runs(name: str, channels: int, dtype: type) -> None:
    suite = load_suite(name)
    top = np.iinfo(dtype).max
    pixels = np.random.default_rng(0).integers(top // 4, top // 2, (24, 40, channels)).astype(dtype)
    for setting in suite.settings(channels=channels):
        changed = setting.apply(pixels, sample_id="a", seed=suite.seed)
        assert (changed.shape, changed.dtype) == (pixels.shape, pixels.dtype)
        assert np.array_equal(changed, pixels) == (not setting.parts)


def test_radiographs_are_never_seen_from_the_side() -> None:
    for name in ("radiograph", "mr", "ct", "baggage_xray", "ultrasound"):
        assert not {"yaw", "pitch"}.intersection(load_suite(name).conditions)


def test_without_a_grid_there_are_no_pairs() -> None:
    suite = Suite(name="mine", conditions=("low_dose", "roll"), severities=(2, 4), grid=None)
    assert [setting.conditions for setting in suite.settings()] == [
        {},
        {"low_dose": 2},
        {"low_dose": 4},
        {"roll": 2},
        {"roll": 4},
    ]


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def test_a_users_own_file_is_a_suite(tmp_path: Path) -> None:
    path = written(tmp_path, "name: mine\nconditions: [glare, yaw]\nseverities: [5]\n")
    assert len(load_suite(str(path)).settings()) == 1 + 2 + 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("conditions: [low_dosis]", r"no condition named 'low_dosis'; did you mean 'low_dose'\?"),
        ("conditions: [roll, glare, roll]", "'roll' stands twice; name each condition once"),
        ("conditions: []", "conditions: "),
        ("conditions: [roll]\nseverities: [0, 1]", r"severities\.0: .*greater than or equal to 1 \(got 0\)"),
        ("conditions: [roll]\nseverities: [6]", r"severities\.0: .*less than or equal to 5 \(got 6\)"),
        ("conditions: [roll]\nseverities: [1.5]", r"severities\.0: .*integer.* \(got 1\.5\)"),
        ("conditions: [roll]\nseverities: [3, 1, 3]", r"severities \[3, 1, 3\] must rise, each once; write \[1, 3\]"),
        ("conditions: [roll]\nseverities: []", "severities: "),
        ("conditions: [roll]\ngrid: [angle, angle]", "'angle' stands twice; name two axes, or write grid: null"),
        ("conditions: [roll]\ngrid: [angle, light]", r"grid\.1: .*'lighting'.*\(got 'light'\)"),
        ("conditions: [roll]\ngrid_conditions: [glare]", "grid_conditions: 'glare' is not among the conditions"),
        ("condition: [roll]", r"unknown key 'condition'; did you mean 'conditions'\?|the key 'conditions' is missing"),
        ("severities: [1]", "the key 'conditions' is missing"),
    ],
)
def test_a_wrong_suite_is_told_with_its_file_and_the_remedy(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, f"name: mine\n{text}\n")
    with pytest.raises(ConfigError, match=said) as caught:
        load_suite(str(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_an_unknown_suite_is_told_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"no condition suite named 'radiografh'; did you mean 'radiograph'\?"):
        load_suite("radiografh")


def test_a_grid_has_its_own_severities_as_far_as_the_suite_has_them() -> None:
    suite = Suite(name="mine", conditions=("low_dose", "roll"), severities=(2, 3, 5), grid_severities=(1, 3, 5))
    pairs = [tuple(setting.conditions.values()) for setting in suite.settings() if len(setting.parts) == 2]
    assert pairs == [(3, 3), (3, 5), (5, 3), (5, 5)]
    narrow = Suite(name="mine", conditions=("low_dose", "roll"), severities=(2,), grid_severities=(1, 3, 5))
    assert [setting.conditions for setting in narrow.settings()][-1] == {"low_dose": 2, "roll": 2}
