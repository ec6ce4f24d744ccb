"""Contact sheets: what stands on them, and what the commands say of wrong input."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from imaging_ft.augment.conditions import Suite
from imaging_ft.augment.look import images_for, range_of
from imaging_ft.augment.recipe import Recipe
from imaging_ft.augment.sheet import TILE, condition_sheet, recipe_sheet, write_sheet
from imaging_ft.cli.app import app
from imaging_ft.errors import DataError, InputError

LIGHT_ALONE = """
import sys
from imaging_ft.augment import sheet
import imaging_ft.augment.look
print([name for name in ("torch", "albumentations", "monai", "timm") if name in sys.modules])
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set in folders: dark and bright images of gray, split in train and test."""
    for split, label, level in (("train", "dark", 40), ("train", "bright", 200), ("test", "dark", 40)):
        (tmp_path / "set" / split / label).mkdir(parents=True)
        for index in range(3):
            image = np.full((40, 60), level + index, np.uint8)
            cv2.imwrite(str(tmp_path / "set" / split / label / f"{index}.png"), image)
    return tmp_path / "set"


def tiles_of(sheet: np.ndarray, level: int) -> int:
    """Return how many tiles' worth of pixels on a sheet have a level."""
    return round(float((sheet == level).all(axis=2).sum()) / TILE**2)


def test_a_suites_sheet_shows_every_condition_clean_and_at_every_severity() -> None:
    suite = Suite(name="mine", conditions=("over_exposure", "tube_voltage"), severities=(1,))
    pixels = np.full((64, 64, 1), 20, np.uint8)
    sheet = condition_sheet(suite, pixels)
    assert tiles_of(sheet, 20) == 2
    for gain in (2, 4, 6, 8, 10):
        assert tiles_of(sheet, round(20 * 10 ** (gain / 10))) == 1
    for gamma in (0.9, 0.8, 0.7, 0.6, 0.5):
        assert tiles_of(sheet, round(255 * (20 / 255) ** gamma)) == 1
    assert (sheet[:, :200] < 100).any()  # the names


def test_a_condition_of_colour_has_a_row_that_says_so_on_gray() -> None:
    suite = Suite(name="mine", conditions=("stain",))
    assert tiles_of(condition_sheet(suite, np.full((64, 64, 1), 90, np.uint8)), 90) == 0
    assert tiles_of(condition_sheet(suite, np.full((64, 64, 3), 90, np.uint8)), 90) == 6


def test_sixteen_bits_are_shown_within_their_range() -> None:
    twelve = np.full((64, 64, 1), 2048, np.uint16)
    assert range_of(twelve) == (0, 4095)
    sheet = condition_sheet(Suite(name="mine", conditions=("glare",)), twelve, window=range_of(twelve))
    assert tiles_of(sheet, 128) == 1


@pytest.mark.parametrize("count", [1, 5, 7])
def test_a_recipes_sheet_shows_as_many_samples_as_asked_each_row_after_its_image(count: int) -> None:
    augment = Recipe(name="mine", transforms=({"InvertImg": {"p": 1.0}},)).build()
    images = [np.full((32, 32, 1), level, np.uint8) for level in (30, 60)]
    sheet = recipe_sheet("mine", augment, images, count=count)
    first, second = min(count, 5), max(0, count - 5)
    assert [tiles_of(sheet, level) for level in (30, 225, 60, 195)] == [1, first, 1 if second else 0, second]


def test_training_images_are_shown_a_class_after_the_other(folder: Path) -> None:
    found = images_for(str(folder), size=32, rows=4)
    assert [int(image[0, 0, 0]) > 100 for image in found.images] == [True, False, True, False]
    assert found.images[0].shape == (32, 32, 1)
    assert not len(found.clutter)


def test_images_of_the_negative_classes_are_the_clutter(folder: Path) -> None:
    card = folder.parent / "card.yaml"
    card.write_text("name: mine\nroot: set\nlayout: folder\npositive: [dark]\n")
    found = images_for(str(card), size=32, rows=2)
    assert len(found.clutter) == 3
    assert found.clutter.min() >= 200


def test_an_image_that_shows_a_positive_class_among_others_is_no_clutter(tmp_path: Path) -> None:
    rows = ["image,labels,split"]
    for index, (labels, level) in enumerate([("bottle", 60), ("bottle|gun", 90), ("gun", 120), ("", 150)]):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((32, 32), level, np.uint8))
        rows.append(f"{index}.png,{labels},train")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    card = tmp_path / "card.yaml"
    card.write_text("name: mine\ntask: multilabel\nlayout: manifest\nlabels: [bottle, gun]\npositive: [gun]\n")
    found = images_for(str(card), size=32, rows=2)
    assert sorted(int(image[0, 0, 0]) for image in found.clutter) == [60, 150]


@pytest.mark.parametrize(
    ("image", "level"),
    [("", 8), ("image: {channels: 1, bits: 16, window: [0, 4095]}\n", 128), ("image: {bits: 8}\n", 8)],
)
def test_sixteen_bits_of_a_data_set_are_shown_as_its_card_has_training_see_them(
    image: str, level: int, tmp_path: Path
) -> None:
    """A dim image isn't stretched to its own range, and a file on its own is."""
    for label, value in (("dim", 2048), ("dark", 0)):
        (tmp_path / "set" / label).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "set" / label / "0.png"), np.full((32, 32), value, np.uint16))
    card = tmp_path / "card.yaml"
    card.write_text(f"name: mine\nroot: set\nlayout: folder\n{image}")
    found = images_for(str(card), size=32, rows=2)
    assert [int(shown[0, 0, 0]) for shown in found.images] == [0, level]
    alone = images_for(str(tmp_path / "set" / "dim" / "0.png"), size=32, rows=1)
    assert int(alone.images[0][0, 0, 0]) == 128


def test_a_data_set_without_training_images_is_told(folder: Path) -> None:
    manifest = folder / "only.csv"
    manifest.write_text("image,label,split\ntest/dark/0.png,dark,test\n")
    with pytest.raises(DataError, match=r"no training images to show; 1 images are of other splits"):
        images_for(str(manifest), size=32, rows=2)


def test_a_sheet_of_conditions_needs_no_build_tower() -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT_ALONE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("name", "said"), [("sheet.jpg", "name it for example"), ("no/where.png", "can't be written")])
def test_a_sheet_that_cannot_be_written_is_told(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        write_sheet(np.zeros((4, 4, 3), np.uint8), tmp_path / name)


def test_the_commands_write_png_files(folder: Path, tmp_path: Path) -> None:
    image, out = folder / "train" / "dark" / "0.png", tmp_path / "sheet.png"
    for arguments in (
        ["augment", "sheet", "radiograph", str(folder), "-o", str(out), "--count", "7", "--size", "64"],
        ["augment", "sheet", "camera", str(image), "-o", str(out)],
        ["augment", "conditions", "mr", str(image), "-o", str(out)],
    ):
        out.unlink(missing_ok=True)
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        assert np.asarray(cv2.imread(str(out))).shape[2] == 3
    done = CliRunner().invoke(app, ["augment", "sheet", "baggage_xray", str(image), "-o", str(out)])
    assert "lays no clutter here" in done.stderr
