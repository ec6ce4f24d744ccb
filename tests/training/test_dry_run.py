"""The picture of a dry run: every image beside what training sees of it, under the name of its class."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from imaging_ft.errors import RunError
from imaging_ft.training import dry_run
from imaging_ft.training.dry_run import target_title, write_samples

RED, GREEN, BLUE = (250, 0, 0), (0, 250, 0), (0, 0, 250)


def flat(*colours: tuple[int, int, int]) -> np.ndarray:
    return np.stack([np.full((20, 30, 3), colour, np.uint8) for colour in colours])


def picture(path: Path) -> np.ndarray:
    found: Any = cv2.imread(str(path))
    assert found is not None
    return found[..., ::-1]


def place(image: np.ndarray, colour: tuple[int, int, int]) -> tuple[float, float]:
    """Return the mean row and column of a colour."""
    rows, columns = np.nonzero((np.abs(image.astype(int) - colour) < 8).all(axis=2))
    assert len(rows) > 100, f"{colour} is missing"
    return float(rows.mean()), float(columns.mean())


def test_each_original_stands_left_of_its_augmented_versions(tmp_path: Path) -> None:
    originals = flat(RED, GREEN)
    augmented = np.stack([flat((200, 90, 0), (200, 0, 90)), flat((0, 200, 90), (90, 200, 0))])
    write_samples(tmp_path / "samples.png", originals, augmented, ["ring", "bar"])
    image = picture(tmp_path / "samples.png")
    for original, (first, second) in ((RED, augmented[0]), (GREEN, augmented[1])):
        row, column = place(image, original)
        places = [place(image, tuple(version[0, 0].tolist())) for version in (first, second)]
        assert [found[0] for found in places] == pytest.approx([row, row], abs=2)
        assert column < places[0][1] < places[1][1]
    assert place(image, RED)[0] < place(image, GREEN)[0]


def test_one_version_each_needs_no_axis_of_its_own(tmp_path: Path) -> None:
    write_samples(tmp_path / "samples.png", flat(RED), flat(BLUE), ["ring"], captions=[["ring 70%, bar 30%"]])
    assert place(picture(tmp_path / "samples.png"), BLUE)[1] > place(picture(tmp_path / "samples.png"), RED)[1]


def test_gray_is_shown_at_its_own_level_and_not_stretched(tmp_path: Path) -> None:
    gray = np.full((1, 20, 20, 1), 100, np.uint8)
    write_samples(tmp_path / "samples.png", gray, gray + 50, ["ring"])
    place(picture(tmp_path / "samples.png"), (100, 100, 100))
    place(picture(tmp_path / "samples.png"), (150, 150, 150))


def test_titles_are_drawn_whatever_their_letters(tmp_path: Path) -> None:
    blank, named = (tmp_path / f"{name}.png" for name in ("blank", "named"))
    write_samples(blank, flat(RED), flat(BLUE), [""])
    write_samples(named, flat(RED), flat(BLUE), ["$Ωγ_{ $x^ größe" + "x" * 60])
    assert (picture(named) < 60).all(axis=2).sum() > (picture(blank) < 60).all(axis=2).sum()


def test_a_large_batch_shows_its_first_rows(tmp_path: Path) -> None:
    many = np.concatenate([flat(*[GREEN] * dry_run.ROWS), flat(*[RED] * 20)])
    write_samples(tmp_path / "samples.png", many, many, ["x"] * len(many))
    image = picture(tmp_path / "samples.png")
    place(image, GREEN)
    with pytest.raises(AssertionError, match="is missing"):
        place(image, RED)


def test_a_picture_that_cannot_be_written_ends_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="can't be written"):
        write_samples(tmp_path / "missing" / "samples.png", flat(RED), flat(BLUE), ["ring"])


@pytest.mark.parametrize(
    ("target", "title"),
    [
        ([0, 1, 0, 0], "disc"),
        ([1, 0, 1, 0], "bar + ring"),
        ([0.3, 0, 0.7, 0], "ring 70%, bar 30%"),
        ([0, 0, 0, 0], "none"),
        ([1, 0.5, 0, 0], "bar 100%, disc 50%"),
        ([1, 1, 1, 1], "bar + disc + ring …"),
    ],
)
def test_a_target_is_put_into_words(target: list[float], title: str) -> None:
    assert target_title(np.array(target, np.float32), ["bar", "disc", "ring", "star"]) == title
