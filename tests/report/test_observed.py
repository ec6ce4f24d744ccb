"""Recorded and measured conditions: how the columns of a table cut the images, and how columns cross."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging_ft.errors import ConfigError
from imaging_ft.image import TAGS
from imaging_ft.report.cuts import ANGLE_BINS, BINS, MAX_VALUES
from imaging_ft.report.observed import Observed, codes_of, observe
from imaging_ft.report.pixels import MEASURES
from imaging_ft.report.result import Column


def cut(cells: Sequence[Any], name: str = "x") -> Observed:
    return observe(pl.DataFrame({name: cells}, strict=False), source="recorded")


def counts(cells: Sequence[Any], name: str = "x") -> dict[str, int]:
    found = [(part.conditions[name], len(part.positions)) for part in cut(cells, name).slices]
    assert len(dict(found)) == len(found), "two slices of one name"
    return dict(found)


def column(cells: Sequence[Any], name: str = "x") -> Column:
    [found] = cut(cells, name).columns
    return found


def test_a_text_column_gives_a_slice_for_each_value_sorted() -> None:
    found = cut(["south", "north", "south"], "site")
    assert [(part.conditions, part.axes, part.positions.tolist()) for part in found.slices] == [
        ({"site": "north"}, ["site"], [1]),
        ({"site": "south"}, ["site"], [0, 2]),
    ]
    assert found.columns == [Column(name="site", source="recorded", title="site", axis="site", centres=None)]
    assert found.notes == []


def test_a_column_takes_the_title_and_the_source_it_is_given() -> None:
    found = observe(pl.DataFrame({"noise": [0.1, 0.2]}), source="measured", titles={"noise": "noise (σ)"})
    assert (found.columns[0].title, found.columns[0].source) == ("noise (σ)", "measured")
    assert {part.source for part in found.slices} == {"measured"}


@pytest.mark.parametrize("empty", ["", None, "(empty)"])
def test_empty_cells_are_a_slice_of_their_own_and_the_last(empty: str | None) -> None:
    assert list(counts(["A", empty, "B", empty]).items()) == [("A", 1), ("B", 1), ("(empty)", 2)]


def test_empty_cells_of_a_binned_column_are_not_dropped() -> None:
    found = counts([str(number) for number in range(40)] + ["", "", ""])
    assert found["(empty)"] == 3
    assert sum(found.values()) == 43


def test_few_numbers_are_slices_in_the_order_of_numbers() -> None:
    assert list(counts(["10", "9", "-1", "9"])) == ["-1", "9", "10"]
    assert list(counts([10, 9, None, -1])) == ["-1", "9", "10", "(empty)"]
    assert list(counts([" 10", "9 "])) == ["9 ", " 10"]
    assert list(counts([0.5, 2.0, -0.0])) == ["0", "0.5", "2"]


def test_many_numbers_are_cut_into_bins_of_about_as_many() -> None:
    for cells in ([str(number) for number in range(100)], list(range(100)), [float(number) for number in range(100)]):
        found = counts(cells)
        assert len(found) == BINS
        assert all(24 <= count <= 27 for count in found.values())
        assert list(found) == ["0 to <25", "25 to <50", "50 to <75", "75 to 99"]


def test_bins_of_negative_numbers_rise_and_hold_both_ends() -> None:
    assert counts([str(number) for number in range(-40, 41, 10)]) == {
        "-40 to <-20": 2,
        "-20 to <0": 2,
        "0 to <20": 2,
        "20 to 40": 3,
    }


def test_a_value_that_half_of_the_images_share_is_a_slice_of_its_own() -> None:
    rest = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert counts([0.0] * 6 + rest) == {"0": 6, "0.1 to <0.3": 2, "0.3 to <0.5": 2, "0.5 to 0.6": 2}
    assert counts([1.0] * 60 + rest) == {"0.1 to <0.3": 2, "0.3 to <0.5": 2, "0.5 to 0.6": 2, "1": 60}
    assert column([0.0] * 6 + rest).centres == pytest.approx([0, 0.15, 0.35, 0.55])


def test_a_number_written_in_two_ways_is_one_value() -> None:
    assert counts(["1e3", "1000", "1000.0", "2e-3", "0.002"]) == {"0.002": 2, "1000": 3}


def test_a_number_written_in_one_way_keeps_it() -> None:
    assert counts(["01", "02", "01"]) == {"01": 2, "02": 1}
    assert counts(["1e-3", "5e-3"]) == {"1e-3": 1, "5e-3": 1}
    assert counts([" 1", "2"]) == {" 1": 1, "2": 1}


def test_numbers_in_scientific_notation_are_binned_as_numbers() -> None:
    found = counts([f"{number}e-6" for number in range(1, 13)])
    assert list(found) == ["1e-06 to <4e-06", "4e-06 to <7e-06", "7e-06 to <1e-05", "1e-05 to 1.2e-05"]


def test_dates_written_as_numbers_keep_their_digits() -> None:
    found = counts([f"202401{day:02d}" for day in range(1, 32)])
    assert next(iter(found)) == "20240101 to <20240109"
    assert list(found)[-1].endswith(" to 20240131")


def test_edges_that_differ_beyond_six_digits_are_told_apart() -> None:
    assert len(counts([f"1.00000{number:03d}" for number in range(40)])) == BINS


@pytest.mark.parametrize("nan", ["nan", "NaN", "-nan"])
def test_nan_among_numbers_counts_as_empty(nan: str) -> None:
    many = counts([str(number) for number in range(20)] + [nan, nan])
    assert many["(empty)"] == 2
    assert sum(many.values()) == 22
    assert counts(["1", nan, "2", ""]) == {"1": 1, "2": 1, "(empty)": 2}


def test_nan_among_words_and_alone_is_a_value() -> None:
    assert counts(["A", "nan"]) == {"A": 1, "nan": 1}
    assert counts(["nan", "nan"]) == {"nan": 2}


def test_infinity_is_not_a_number_to_bin_by() -> None:
    assert counts(["1", "inf"]) == {"1": 1, "inf": 1}
    assert counts([1.5, float("inf"), float("nan")]) == {"1.5": 1, "inf": 1, "(empty)": 1}


def test_truth_values_and_days_are_words() -> None:
    assert counts([True, False, None]) == {"false": 1, "true": 1, "(empty)": 1}
    days = pl.Series(["2024-01-02", "2024-01-01"]).str.to_date()
    assert [part.conditions["x"] for part in cut(days.to_list()).slices] == ["2024-01-01", "2024-01-02"]


def test_too_many_words_are_noted_and_not_reported() -> None:
    found = cut([f"operator {index}" for index in range(MAX_VALUES + 1)], "operator")
    assert (found.slices, found.columns) == ([], [])
    assert found.notes == ["column 'operator' has 13 different values and is not reported as a condition"]
    assert len(cut([f"operator {index}" for index in range(MAX_VALUES)]).slices) == MAX_VALUES


@pytest.mark.parametrize("cells", [["", ""], [None, None], [float("nan")], []])
def test_an_empty_column_is_noted_and_not_reported(cells: list[Any]) -> None:
    found = cut(cells)
    assert (found.slices, found.columns, found.notes) == ([], [], ["column 'x' is empty"])


def test_a_measure_that_no_image_has_is_not_reported_and_not_noted() -> None:
    table = pl.DataFrame({"colour_cast": [float("nan")] * 3, "noise": [0.1, 0.2, 0.1]})
    found = observe(table, source="measured")
    assert ([one.name for one in found.columns], found.notes) == (["noise"], [])
    with pytest.raises(ConfigError, match="column 'colour_cast' is empty; cross other columns"):
        observe(table, source="measured", cross=[["noise", "colour_cast"]])


@pytest.mark.parametrize(("cells", "kind"), [([[1], [2]], "List(Int64)"), ([b"1", b"2"], "Binary")])
def test_a_column_of_lists_or_bytes_is_noted_and_not_reported(cells: list[Any], kind: str) -> None:
    [note] = cut(cells).notes
    assert note == f"column 'x' holds {kind} and is not reported as a condition"


def test_columns_keep_their_order() -> None:
    table = pl.DataFrame({"site": ["A"] * 3, "age": [3, 1, 2], "sex": ["F", "F", "M"]})
    found = observe(table, source="recorded")
    assert [next(iter(part.conditions)) for part in found.slices] == ["site", "age", "age", "age", "sex", "sex"]
    assert [one.name for one in found.columns] == ["site", "age", "sex"]


def test_without_columns_there_is_nothing() -> None:
    assert observe(pl.DataFrame(), source="recorded") == Observed([], [], [])


def test_centres_are_the_values_or_the_medians_of_the_bins() -> None:
    assert column(["2", "1", "", "2"]).centres == [1, 2]
    assert column([*range(100), None]).centres == [12, 37, 62, 87]
    assert column(["a", "b"]).centres is None


@pytest.mark.parametrize(
    ("name", "axis"),
    [
        ("yaw_deg", "angle"),
        ("viewAngle", "angle"),
        ("c_arm_angle", "angle"),
        ("Tilt", "angle"),
        ("rotation (degrees)", "angle"),
        ("light_angle", "lighting"),
        ("sun_elevation_deg", "lighting"),
        ("lux", "lighting"),
        ("kVp", "lighting"),
        ("exposure_mas", "lighting"),
        ("flip_angle", "flip_angle"),
        ("room_deg_c", "room_deg_c"),
        ("strangle", "strangle"),
        ("degas", "degas"),
        ("delight", "delight"),
        ("age", "age"),
    ],
)
def test_a_columns_name_says_whether_it_speaks_of_light_or_view(name: str, axis: str) -> None:
    assert column([10, 20, 30], name).axis == axis
    assert {tuple(part.axes) for part in cut([10, 20, 30], name).slices} == {(axis,)}


def test_words_are_no_angle_but_may_be_a_light() -> None:
    assert column(["left", "right"], "angle").axis == "angle"
    assert column(["left", "right"], "view_deg").axis == "view_deg"
    assert column(["day", "night"], "lighting").axis == "lighting"
    assert column(["asbestos", "none"], "exposure_kind").axis == "exposure_kind"


def test_angles_are_cut_evenly_at_round_degrees() -> None:
    rng = np.random.default_rng(3)
    found = column(rng.uniform(-88, 89, 500).tolist(), "yaw_deg")
    assert found.centres == [-82.5 + 15 * step for step in range(12)]
    names = list(counts(rng.uniform(0.1, 59.9, 500).tolist(), "yaw_deg"))
    assert (names[0], names[-1], len(names)) == ("0 to <5", "55 to 60", 12)


def test_an_angle_on_an_edge_opens_the_bin_above_and_the_largest_closes_the_last() -> None:
    angles = [0, 1, 2, 3, 4, 5, 10, 60]
    assert counts(angles, "roll") == {"0 to <5": 5, "5 to <10": 1, "10 to <15": 1, "55 to 60": 1}
    assert column(angles, "roll").centres == [2.5, 7.5, 12.5, 57.5]


@given(st.lists(st.floats(-360, 360), min_size=7, max_size=50, unique=True))
def test_angles_fall_into_at_most_twelve_even_bins_that_hold_them(angles: list[float]) -> None:
    found = cut(angles, "yaw_deg")
    centres = found.columns[0].centres
    assert centres is not None
    assert len(found.slices) == len(centres) <= ANGLE_BINS
    for centre, part in zip(centres, found.slices, strict=True):
        low, high = part.conditions["yaw_deg"].replace("<", "").split(" to ")
        assert centre == (float(low) + float(high)) / 2
        assert all(float(low) <= angles[position] <= float(high) for position in part.positions)


def test_an_angle_beyond_a_turn_is_cut_as_other_numbers_are_and_noted() -> None:
    found = cut([*range(0, 4000, 100)], "angle")
    assert len(found.slices) == BINS
    assert found.notes == [
        "column 'angle' is named as an angle but goes beyond ±360 degrees; it is cut as other numbers are"
    ]


SITES = pl.DataFrame({"site": ["A", "A", "B", "", "B"], "sex": ["F", "M", "F", "F", "F"], "dose": [1, 1, 2, 2, 1]})


def test_an_intersection_gives_the_slices_that_hold_an_image() -> None:
    found = observe(SITES, source="recorded", cross=[["site", "sex"]])
    crossed = [part for part in found.slices if len(part.conditions) == 2]
    assert [(part.conditions, part.positions.tolist()) for part in crossed] == [
        ({"site": "A", "sex": "F"}, [0]),
        ({"site": "A", "sex": "M"}, [1]),
        ({"site": "B", "sex": "F"}, [2, 4]),
        ({"site": "(empty)", "sex": "F"}, [3]),
    ]
    assert found.slices[-len(crossed) :] == crossed
    assert len(found.columns) == 3


def test_an_intersection_of_three_has_an_axis_for_each_column() -> None:
    found = observe(SITES, source="recorded", cross=[["dose", "sex", "site"]])
    crossed = [part for part in found.slices if len(part.conditions) == 3]
    assert {tuple(part.axes) for part in crossed} == {("lighting", "sex", "site")}
    assert sorted(position for part in crossed for position in part.positions) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["site", "sx"], "intersection 'site × sx': no column 'sx'; did you mean 'sex'?"),
        (
            ["site", "id"],
            "intersection 'site × id': column 'id' has 13 different values and is not reported as a condition; "
            "cross other columns",
        ),
        (["site"], "intersection 'site': an intersection is of two or three different columns; name so many"),
        (
            ["site", "site"],
            "intersection 'site × site': an intersection is of two or three different columns; name so many",
        ),
    ],
)
def test_an_intersection_that_cannot_be_made_is_refused_in_one_line(names: list[str], message: str) -> None:
    table = pl.DataFrame({"site": ["A"] * 13, "sex": ["F"] * 13, "id": [f"i{index}" for index in range(13)]})
    with pytest.raises(ConfigError) as refusal:
        observe(table, source="recorded", cross=[names])
    assert str(refusal.value) == message


def test_codes_are_the_places_of_the_columns_values() -> None:
    observed = observe(SITES, source="recorded", cross=[["site", "sex"]])
    codes = {name: (part.tolist(), names) for name, (part, names) in codes_of(observed, len(SITES)).items()}
    assert codes == {
        "site": ([0, 0, 1, -1, 1], ["A", "B"]),
        "sex": ([0, 1, 0, 0, 0], ["F", "M"]),
        "dose": ([0, 0, 1, 1, 0], ["1", "2"]),
    }


cell = st.one_of(
    st.just(""),
    st.just("nan"),
    st.integers(-9, 9).map(str),
    st.floats(allow_nan=False, allow_infinity=False, width=32).map(repr),
    st.sampled_from(["A", "B"]),
)


@given(st.lists(cell, min_size=1, max_size=60), st.sampled_from(["x", "yaw_deg"]))
def test_every_image_falls_into_exactly_one_slice_of_a_column(cells: list[str], name: str) -> None:
    found = cut(cells, name)
    if not found.slices:
        assert found.notes
        return
    positions = np.concatenate([part.positions for part in found.slices])
    assert sorted(positions.tolist()) == list(range(len(cells)))
    assert len({part.conditions[name] for part in found.slices}) == len(found.slices)
    assert all(len(part.positions) for part in found.slices)
    centres = found.columns[0].centres
    assert centres is None or centres == sorted(centres)
    assert centres is None or len(centres) == sum(part.conditions[name] != "(empty)" for part in found.slices)


@given(st.lists(st.one_of(st.none(), st.floats(width=32, allow_infinity=False)), min_size=1, max_size=60))
def test_numbers_are_cut_alike_as_numbers_and_as_text(cells: list[float | None]) -> None:
    as_text = cut(["" if one is None or one != one else repr(one) for one in cells])
    as_numbers = cut(cells)
    assert [part.positions.tolist() for part in as_text.slices] == [
        part.positions.tolist() for part in as_numbers.slices
    ]


@pytest.mark.parametrize(("part", "names"), [("Recorded: DICOM", TAGS), ("Measured", MEASURES)])
def test_the_page_for_users_names_every_tag_and_measure(part: str, names: dict[str, str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "observed.md").read_text(encoding="utf-8")
    rows = page.partition(f"## {part}\n")[2].partition("\n## ")[0].splitlines()
    firsts = [row.split("|")[1] for row in rows if row.startswith("| `")]
    assert [name for first in firsts for name in re.findall(r"`(\w+)`", first)] == list(names)
