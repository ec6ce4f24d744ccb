"""Contact sheets: what a recipe does to training images, or a suite's conditions to one, as one picture."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from imaging_ft.augment.conditions import Condition, Setting, Suite, to_float, to_pixels
from imaging_ft.augment.conditions.base import SEVERITIES
from imaging_ft.errors import InputError
from imaging_ft.types import Levels, Pixels

if TYPE_CHECKING:
    from imaging_ft.augment.recipe import Augment  # which loads albumentations: a sheet of conditions needs none

TILE = 176
"""The longer side of a picture on the sheet, in pixels."""
VARIANTS = 5
"""Augmented pictures in a row, after the image as it is."""
_MARGIN, _LINE, _NAMES = 8, 17, 230
_INK, _FAINT, _PAPER = (20, 20, 20), (95, 95, 95), (255, 255, 255)


def condition_sheet(
    suite: Suite, pixels: Pixels, *, sample_id: str = "", window: tuple[int, int] | None = None
) -> Levels:
    """Return an RGB sheet [height, width, 3]: a row for each condition of a suite, clean, then severities 1 to 5.

    `pixels` is one stored image, whose full scale or `window` is shown as black to white. Under each picture stands
    the parameter's value. Conditions that don't take the image's channels have a row that says so.
    """
    clean = _shown(pixels, window)
    height, width = _fitted(clean).shape[:2]
    rows = suite.members()
    page = _page(
        _NAMES + (1 + len(SEVERITIES)) * (width + _MARGIN) + _MARGIN,
        4 * _LINE + len(rows) * (height + _LINE + 2 * _MARGIN),
    )
    draw = ImageDraw.Draw(page)
    draw.text((_MARGIN, _MARGIN), f"{suite.name}: {suite.title}", _INK, font=_font(bold=True))
    for column, title in enumerate(("clean", *(f"severity {severity}" for severity in SEVERITIES))):
        draw.text((_NAMES + column * (width + _MARGIN), _MARGIN + _LINE), title, _INK, font=_font(bold=True))
    for index, member in enumerate(rows):
        top = 3 * _LINE + _MARGIN + index * (height + _LINE + 2 * _MARGIN)
        _name_condition(draw, member, top)
        if pixels.shape[2] not in member.channels:
            draw.text((_NAMES, top), f"does not apply to images of {pixels.shape[2]} channel", _FAINT, font=_font())
            continue
        for severity in (0, *SEVERITIES):
            left = _NAMES + severity * (width + _MARGIN)
            setting = Setting(((member, severity),) if severity else ())
            changed = setting.apply(pixels, sample_id=sample_id, seed=suite.seed, window=window)
            page.paste(Image.fromarray(_fitted(_shown(changed, window))), (left, top))
            value = f"{member.value(severity):g}".replace("-", "−")
            draw.text((left, top + height), value, _FAINT, font=_font())
    return np.asarray(page)


def recipe_sheet(title: str, augment: "Augment", images: Sequence[Levels], *, count: int = 24, seed: int = 0) -> Levels:
    """Return an RGB sheet of `count` training samples through a recipe: in each row an image as it is, then five of it.

    `images` are levels as training sees them, all of one size; they are taken in turn. Each sample has its own seed.
    """
    rows = -(-count // VARIANTS)
    height, width = _fitted(images[0]).shape[:2]
    page = _page((1 + VARIANTS) * (width + _MARGIN) + _MARGIN, 3 * _LINE + _MARGIN + rows * (height + _MARGIN))
    draw = ImageDraw.Draw(page)
    draw.text((_MARGIN, _MARGIN), title, _INK, font=_font(bold=True))
    draw.text((_MARGIN, _MARGIN + _LINE), "as it is", _FAINT, font=_font())
    draw.text((_MARGIN + width + _MARGIN, _MARGIN + _LINE), "as training sees it", _FAINT, font=_font())
    for row in range(rows):
        image, top = images[row % len(images)], 3 * _LINE + row * (height + _MARGIN)
        page.paste(Image.fromarray(_fitted(image)), (_MARGIN, top))
        for column in range(min(VARIANTS, count - row * VARIANTS)):
            sample = augment(image, seed + row * VARIANTS + column)
            page.paste(Image.fromarray(_fitted(sample)), (_MARGIN + (column + 1) * (width + _MARGIN), top))
    return np.asarray(page)


def write_sheet(sheet: Levels, path: Path) -> None:
    """Write a sheet as PNG; raises InputError where that can't be done."""
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: a contact sheet is a PNG file; name it for example {path.with_suffix('.png')}")
    try:
        Image.fromarray(sheet).save(path)
    except OSError as error:
        raise InputError(f"{path}: can't be written: {error.strerror or error}") from error


def _name_condition(draw: ImageDraw.ImageDraw, member: Condition, top: int) -> None:
    draw.text((_MARGIN, top), member.name, _INK, font=_font(bold=True))
    lines = [member.title, *_wrapped(member.parameter), f"axis: {member.axis.value}"]
    for number, line in enumerate(lines, start=1):
        draw.text((_MARGIN, top + number * _LINE), line, _FAINT, font=_font())


def _wrapped(text: str) -> list[str]:
    """Return a text in lines that fit beside the pictures."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if _font().getlength(longer) > _NAMES - 2 * _MARGIN and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _shown(pixels: Pixels, window: tuple[int, int] | None) -> Levels:
    """Return stored pixels as 256 levels."""
    return to_pixels(to_float(pixels, window=window), np.dtype(np.uint8)).astype(np.uint8, copy=False)


def _fitted(levels: Levels) -> Levels:
    """Return levels as RGB, brought to the size of a tile."""
    height, width = levels.shape[:2]
    scale = TILE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    smaller = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    fitted = cv2.resize(levels, size, interpolation=smaller).reshape(size[1], size[0], -1)
    return np.ascontiguousarray(np.broadcast_to(fitted, (size[1], size[0], 3)), dtype=np.uint8)


def _page(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), _PAPER)


@cache
def _font(*, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return matplotlib's own font: it's there on every machine, and has the letters of the formulas."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, 12)
