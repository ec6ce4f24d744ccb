"""Recorded conditions: how the columns of a manifest cut the test images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging_ft.data import Sample
from imaging_ft.report.recorded import BINS, MAX_VALUES, slices


def samples(cells: Sequence[str], column: str = "x") -> list[Sample]:
    """Return samples as a manifest gives them: an empty cell is left out of `columns`."""
    return [
        Sample(f"{index}.png", Path(f"{index}.png"), "a", columns={column: cell} if cell else {})
        for index, cell in enumerate(cells)
    ]


def counts(cells: Sequence[str]) -> dict[str, int]:
    found, _ = slices(samples(cells))
    values = [part.value for part in found]
    assert len(values) == len(set(values)), "two slices of one name"
    return {part.value: len(part.positions) for part in found}


def test_a_text_column_gives_a_slice_for_each_value_sorted() -> None:
    found, notes = slices(samples(["south", "north", "south"], "site"))
    assert [(part.column, part.value, part.positions.tolist()) for part in found] == [
        ("site", "north", [1]),
        ("site", "south", [0, 2]),
    ]
    assert notes == []


def test_empty_cells_are_a_slice_of_their_own() -> None:
    assert counts(["A", "", "B", ""]) == {"A": 1, "B": 1, "(empty)": 2}


def test_empty_cells_of_a_binned_column_are_not_dropped() -> None:
    found = counts([str(number) for number in range(40)] + ["", "", ""])
    assert found["(empty)"] == 3
    assert sum(found.values()) == 43


def test_few_numbers_are_slices_in_the_order_of_numbers() -> None:
    assert list(counts(["10", "9", "-1", "9"])) == ["-1", "9", "10"]


def test_many_numbers_are_cut_into_bins_of_about_as_many() -> None:
    found = counts([str(number) for number in range(100)])
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


def test_a_number_written_in_two_ways_is_one_value() -> None:
    assert counts(["1e3", "1000", "1000.0", "2e-3", "0.002"]) == {"0.002": 2, "1000": 3}


def test_a_number_written_in_one_way_keeps_it() -> None:
    assert counts(["01", "02", "01"]) == {"01": 2, "02": 1}
    assert counts(["1e-3", "5e-3"]) == {"1e-3": 1, "5e-3": 1}


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


def test_too_many_words_are_noted_and_not_reported() -> None:
    found, notes = slices(samples([f"operator {index}" for index in range(MAX_VALUES + 1)], "operator"))
    assert found == []
    assert notes == ["column 'operator' has 13 different values and is not reported as a condition"]
    assert len(slices(samples([f"operator {index}" for index in range(MAX_VALUES)]))[0]) == MAX_VALUES


def test_columns_keep_their_order() -> None:
    rows = [Sample(f"{index}", Path(), "a", columns={"site": "A", "age": str(index)}) for index in range(3)]
    assert [part.column for part in slices(rows)[0]] == ["site", "age", "age", "age"]


def test_without_columns_there_is_nothing() -> None:
    assert slices(samples(["", ""])) == ([], [])
    assert slices([]) == ([], [])


cell = st.one_of(
    st.just(""),
    st.just("nan"),
    st.integers(-9, 9).map(str),
    st.floats(allow_nan=False, allow_infinity=False, width=32).map(repr),
    st.sampled_from(["A", "B"]),
)


@given(st.lists(cell, min_size=1, max_size=60))
def test_every_sample_falls_into_exactly_one_slice_of_a_column(cells: list[str]) -> None:
    found, notes = slices(samples(cells))
    if not found:
        assert notes or not any(cells)
        return
    positions = np.concatenate([part.positions for part in found])
    assert sorted(positions.tolist()) == list(range(len(cells)))
    assert len({part.value for part in found}) == len(found)
    assert all(len(part.positions) for part in found)
