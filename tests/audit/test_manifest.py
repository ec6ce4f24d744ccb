"""The manifest with findings: what it keeps, and that training takes it."""

import csv
from pathlib import Path

import pytest

from imaging_ft.audit.check import Checked, check_dataset
from imaging_ft.audit.manifest import refuse_target, write_manifest
from imaging_ft.data import load, prepare
from imaging_ft.errors import InputError
from imaging_ft.types import Split
from tests.audit.conftest import Planted


def rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {Path(row["image"]).name: row for row in csv.DictReader(file)}


def test_it_is_the_same_data_set_with_findings_as_columns(checked: Checked, planted: Planted, tmp_path: Path) -> None:
    manifest, card = write_manifest(checked, tmp_path / "deep" / "found.csv")
    before = prepare(str(planted.manifest))
    for form in (manifest, card):
        after = prepare(str(form))
        assert after.labels == before.labels
        kept = [(s.path.resolve(), s.label, s.split, s.group, s.columns["site"]) for s in after.samples]
        assert kept == [(s.path.resolve(), s.label, s.split, s.group, s.columns["site"]) for s in before.samples]
    assert load(str(card)).card.task == before.card.task
    found = rows(manifest)
    train, test = (Path(name).name for name in planted.leak)
    assert found[train]["leaks_into"] == "test"
    assert found[test]["leaks_into"] == ""
    assert found[train]["near_duplicate_of"] == planted.leak[1]
    assert found[train]["duplicate_group"] == found[test]["duplicate_group"] != ""
    assert found["bar-5-0.png"]["suggested_label"] == "bar"
    assert float(found["bar-5-0.png"]["label_error_score"]) > 0.5
    assert found["blank.png"]["outlier"] == "blank"
    assert "brightness" in found["dark.png"]["outlier"]
    assert float(found["dark.png"]["brightness"]) < 0.05


def test_without_declared_splits_near_duplicates_become_one_group(planted: Planted, tmp_path: Path) -> None:
    table = list(csv.DictReader(planted.manifest.open(newline="")))
    source = planted.manifest.parent / "unsplit.csv"
    with source.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["image", "label", "group", "brightness"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows({**row, "brightness": "own"} for row in table)
    written, _ = write_manifest(check_dataset(str(source), fast=True), tmp_path / "found.csv")
    source.unlink()
    found = rows(written)
    train, test = (found[Path(name).name] for name in planted.leak)
    assert "split" not in train
    assert train["group"] == test["group"]
    assert {train["declared_group"], test["declared_group"]} == {"bar-3", "elsewhere"}
    assert train["brightness"] == "own"
    assert float(train["check_brightness"]) > 0
    for seed in range(3):
        data = prepare(str(written), seed=seed)
        sides = {s.split for s in data.samples if s.path.name in {Path(name).name for name in planted.leak}}
        assert len(sides) == 1
        assert all(data.of(split) for split in Split)


@pytest.mark.parametrize("one_group_a_class", [False, True])
def test_where_validation_was_drawn_it_is_drawn_anew_without_near_duplicates(
    planted: Planted, tmp_path: Path, one_group_a_class: bool
) -> None:
    table = list(csv.DictReader(planted.manifest.open(newline="")))
    for row in table:
        side = "test" if row["split"] == "test" else "train"
        row |= {"split": side, "group": f"{row['label']}-{side}" if one_group_a_class else ""}
    source = planted.manifest.parent / f"no-val-{one_group_a_class}.csv"
    with source.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["image", "label", "split", "group"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(table)
    checked = check_dataset(str(source), fast=True)
    assert ("not grouped" in checked.data.split_method) is one_group_a_class
    written, _ = write_manifest(checked, tmp_path / "found.csv")
    source.unlink()
    found = rows(written)
    assert {name: row["split"] for name, row in found.items()} == {Path(r["image"]).name: r["split"] for r in table}
    train, test = (found[Path(name).name] for name in planted.leak)
    assert (train["leaks_into"], test["leaks_into"]) == ("test", "")
    assert {row["leaks_into"] for row in found.values()} <= {"test", ""}
    first, second = (found[Path(name).name]["group"] for name in planted.conflict)
    assert first == second != ""
    assert prepare(str(written)).of(Split.VAL)  # and it isn't refused for a group on two sides


def test_the_checked_files_are_not_replaced(planted: Planted, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="would replace"):
        refuse_target(str(planted.manifest), planted.manifest)
    with pytest.raises(InputError, match=r"must end in \.csv"):
        refuse_target(str(planted.manifest), tmp_path / "found.parquet")
