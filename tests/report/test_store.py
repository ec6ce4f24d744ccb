"""Stored predictions: what a table must hold, and what becomes of it."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from imaging_ft.errors import ConfigError, DataError
from imaging_ft.report.measure import reassemble
from imaging_ft.report.restore import read_predictions
from imaging_ft.report.store import setting_name
from imaging_ft.report.write import write_report

LABELS = ("knife", "none")


def table(n: int = 60, *, settings: tuple[str, ...] = ("clean",), seed: int = 0, **columns: Any) -> pl.DataFrame:
    """Return predictions of n images, right in about four of five, in each setting."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, n)
    parts: list[pl.DataFrame] = []
    for number, setting in enumerate(settings):
        right = rng.random(n) < 0.8 - 0.1 * number
        of_truth = np.where(right, rng.uniform(0.55, 1, n), rng.uniform(0, 0.45, n))
        first = np.where(truth == 0, of_truth, 1 - of_truth)
        parts.append(
            pl.DataFrame(
                {
                    "image": [f"i{position:04d}.png" for position in range(n)],
                    "group": [f"patient {position // 2}" for position in range(n)],
                    "setting": setting,
                    "truth": np.array(LABELS)[truth],
                    "p_knife": first,
                    "p_none": 1 - first,
                    "site": np.array(["north", "south"])[np.arange(n) // 2 % 2],
                }
            )
        )
    return pl.concat(parts).with_columns(**columns)


def written(folder: Path, found: pl.DataFrame) -> Path:
    path = folder / "predictions.parquet"
    found.write_parquet(path)
    return path


def test_a_table_of_truth_and_probabilities_is_enough(tmp_path: Path) -> None:
    found = table().select("truth", "p_knife", "p_none")
    report = reassemble(written(tmp_path, found))
    right = (found["truth"] == "knife") == (found["p_knife"] >= 0.5)
    assert report.overall.metrics["accuracy"].value == pytest.approx(right.mean())
    assert report.overall.groups == report.overall.n == 60
    assert any("no column 'group'" in warning for warning in report.warnings)


def test_groups_settings_and_columns_of_a_foreign_table_are_read(tmp_path: Path) -> None:
    found = table(settings=("roll@3", "clean", "low_dose@5,roll@3", "low_dose@5"))
    predictions = read_predictions(written(tmp_path, found))
    assert [setting_name(conditions) for conditions in predictions.settings] == [
        "clean",
        "roll@3",
        "low_dose@5,roll@3",
        "low_dose@5",
    ]
    report = reassemble(tmp_path / "predictions.parquet")
    assert report.overall.groups == 30
    cells = {tuple(cell.conditions.items()): cell for cell in report.cells}
    assert cells[("low_dose", 5), ("roll", 3)].axes == ["lighting", "angle"]
    assert cells[(("site", "north"),)].n == 30
    assert cells[(("roll", 3),)].practised is False


def test_the_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    found = table(settings=("clean", "roll@3"))
    one = reassemble(written(tmp_path, found))
    shuffled = found.sample(fraction=1, shuffle=True, seed=1)
    # Settings stand in the order of their first row, so the first row stays.
    again = reassemble(written(tmp_path, shuffled))
    assert one.overall == again.overall
    assert sorted(map(str, one.cells)) == sorted(map(str, again.cells))
    assert one.failures == again.failures


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    path = written(tmp_path, table(settings=("clean", "roll@3")))
    for name in ("a", "b"):
        write_report(reassemble(path, require=["overall.accuracy >= 0.5"]), tmp_path / name)
    files = sorted(file.name for file in (tmp_path / "a").iterdir())
    assert files
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_a_multi_label_table_is_read_by_its_truth(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shown = rng.random((80, 2)) < 0.4
    truth = ["|".join(label for label, there in zip(LABELS, row, strict=True) if there) for row in shown.tolist()]
    noise = rng.random((80, 2)) < 0.1
    found = pl.DataFrame(
        {"truth": truth, "p_knife": (shown ^ noise)[:, 0] * 0.8, "p_none": (shown ^ noise)[:, 1] * 0.8}
    )
    report = reassemble(written(tmp_path, found))
    assert report.model.task == "multilabel"
    assert report.overall.metrics["accuracy"].value == pytest.approx((~noise).all(axis=1).mean())


def test_images_of_one_class_are_told_and_leave_no_auroc(tmp_path: Path) -> None:
    report = reassemble(written(tmp_path, table().filter(pl.col("truth") == "knife")))
    assert any("show 'knife' alone" in warning for warning in report.warnings)
    assert not [name for name in report.overall.metrics if name.startswith(("auroc", "balanced"))]
    assert report.overall.metrics["sensitivity[knife]"] == report.overall.metrics["accuracy"]


def test_few_groups_are_told_and_flagged(tmp_path: Path) -> None:
    found = table(n=200).with_columns(group=pl.int_range(pl.len()).mod(4).cast(pl.String))
    report = reassemble(written(tmp_path, found))
    assert report.overall.status.value == "low_n"
    assert any("only 4 groups" in warning for warning in report.warnings)


def nan_in(row: int) -> pl.Expr:
    return pl.when(pl.int_range(pl.len()) == row).then(float("nan")).otherwise(pl.col("p_knife")).alias("p_knife")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda t: t.drop("truth"), DataError, "no column 'truth'"),
        (lambda t: t.drop("p_none"), DataError, "no probabilities of two or more classes"),
        (lambda t: t.with_columns(nan_in(7)), DataError, r"row 8: probabilities must be within 0 to 1, not nan"),
        (lambda t: t.with_columns(p_knife=pl.lit(1.5)), DataError, r"row 1: probabilities must be .* 0 to 1, not 1\.5"),
        (lambda t: t.with_columns(p_knife=pl.lit(0.9), p_none=pl.lit(0.9)), DataError, "must add up to 1"),
        (lambda t: t.with_columns(truth=pl.lit("knive")), DataError, "'knive': .* no such class; did you mean"),
        (lambda t: t.with_columns(truth=pl.lit(None, pl.String)), DataError, "row 1: no truth"),
        (lambda t: t.with_columns(setting=pl.lit("rol@3")), ConfigError, "no condition named 'rol'; did you"),
        (lambda t: t.with_columns(setting=pl.lit("roll@9")), DataError, r"setting 'roll@9': write clean"),
        (lambda t: t.with_columns(setting=pl.lit("roll@3")), DataError, "no clean predictions"),
        (lambda t: t.with_columns(image=pl.lit("one.png")), DataError, "image 'one.png' stands twice in setting clean"),
        (lambda t: t.clear(), DataError, "0 rows"),
    ],
)  # fmt: skip
def test_a_wrong_table_is_told_in_one_line(tmp_path: Path, change: Any, error: type[Exception], message: str) -> None:
    path = written(tmp_path, change(table()))
    with pytest.raises(error, match=message) as caught:
        reassemble(path)
    assert "\n" not in str(caught.value)
    assert "predictions" in str(caught.value)


def test_a_file_that_is_no_table_is_told(tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    with pytest.raises(DataError, match="no such file"):
        reassemble(path)
    path.write_bytes(b"PAR1 cut off")
    with pytest.raises(DataError, match="not a Parquet file, or a damaged one"):
        reassemble(path)


def test_two_models_must_be_measured_on_the_same_images(tmp_path: Path) -> None:
    one, two, three = tmp_path / "one.parquet", tmp_path / "two.parquet", tmp_path / "three.parquet"
    table(seed=0).write_parquet(one)
    table(seed=0).with_columns(p_knife=pl.col("p_none"), p_none=pl.col("p_knife")).write_parquet(two)
    table(n=58).write_parquet(three)
    report = reassemble(one, two)
    assert report.against is not None
    assert report.against.overall.accuracy.value > 0.4
    assert report.against.overall.only_this + report.against.overall.only_other == 60
    with pytest.raises(DataError, match="not measured"):
        reassemble(one, three)
