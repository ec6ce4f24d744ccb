"""What the real images beside the checkout are known to hold."""

from pathlib import Path

import pytest

from imaging_ft.data import prepare
from imaging_ft.errors import DataError
from imaging_ft.types import Split

pytestmark = pytest.mark.real
NOTHING: frozenset[Split] = frozenset()


def test_xray_objects_is_counted_and_its_ungrouped_validation_said(real_data: Path) -> None:
    data = prepare("xray_objects", decode=NOTHING)
    splits = data.summary()["splits"]
    learned = {label: splits["train"]["classes"][label] + splits["val"]["classes"][label] for label in data.labels}
    assert learned == {"handgun": 448, "no_threat": 376, "razor_blade": 400, "shuriken": 400}
    assert splits["test"]["n"] == 700
    warning = next(line for line in data.warnings if "not grouped" in line)
    assert all(series in warning for series in ("B0049", "B0050", "B0051", "B0078"))
    assert data.split_method.endswith("not grouped")


def test_the_published_split_is_refused_with_the_series_named(real_data: Path) -> None:
    with pytest.raises(DataError, match=r"B0079.*B0080.*B0081.*B0082"):
        prepare(str(real_data / "xray_objects" / "as_published.csv"), decode=NOTHING)


def test_brain_mri_loses_the_training_copies_of_its_test_images(real_data: Path) -> None:
    data = prepare("brain_mri", decode=NOTHING)
    assert data.summary()["splits"]["test"]["n"] == 394
    assert any("251 images" in warning for warning in data.warnings)
    tested = {data.hashes[sample.id] for sample in data.of(Split.TEST)}
    assert not tested & {data.hashes[sample.id] for split in (Split.TRAIN, Split.VAL) for sample in data.of(split)}
    assert all(problem.sample.split is Split.TRAIN for problem in data.skipped)
