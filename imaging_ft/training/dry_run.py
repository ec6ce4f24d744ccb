"""A picture of what training sees: each image as it is, and beside it what augmentation makes of it."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from imaging_ft.training.run import replacing
from imaging_ft.types import Floats, Levels

ROWS = 8
"""Images of a batch that the picture shows at most."""
_NAMED = 3
"""Classes that a caption names at most."""
_CAPTION = 26
"""Characters of a caption that fit in a line over a picture."""


def write_samples(
    path: Path,
    originals: Levels,
    augmented: Levels,
    titles: Sequence[str],
    *,
    captions: Sequence[Sequence[str]] | None = None,
) -> None:
    """Write a PNG: a row an image, first the original with its title, then its augmented versions.

    `originals` [n, height, width, channels] and `augmented` [n, versions, height, width, channels], or without the
    versions' axis, are levels of 1 or 3 channels; `captions` [n][versions] stand over the augmented ones, for targets
    that are mixed (`target_title`). At most ROWS images are shown. Raises RunError where the file can't be written.
    """
    from matplotlib.figure import Figure

    versions = augmented if augmented.ndim == 5 else augmented[:, np.newaxis]
    rows, columns = min(ROWS, len(originals)), 1 + versions.shape[1]
    height, width = originals.shape[1:3]
    figure = Figure(figsize=(1.9 * columns, 0.3 + rows * (0.25 + 1.9 * height / width)), dpi=110, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for row in range(rows):
        for column in range(columns):
            axes = grid[row, column]
            shown = versions[row, column - 1] if column else originals[row]
            axes.imshow(shown[..., 0] if shown.shape[-1] == 1 else shown, cmap="gray", vmin=0, vmax=255)
            axes.set_axis_off()
            caption = titles[row] if column == 0 else (captions[row][column - 1] if captions else "")
            axes.set_title(_lines(caption), fontsize=8, parse_math=False)
    figure.suptitle("as it is, and as training sees it", fontsize=9)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def target_title(target: Floats, labels: Sequence[str]) -> str:
    """Return a target [classes] in words: `ring`, `ring + bar` (multi-label), or `ring 70%, bar 30%` (mixed)."""
    order: list[int] = np.argsort(-target, kind="stable").tolist()
    shown = [index for index in order if target[index] > 0]
    if not shown:
        return "none"
    whole = all(target[index] == 1 for index in shown)
    names = [labels[index] if whole else f"{labels[index]} {target[index]:.0%}" for index in shown[:_NAMED]]
    return (" + " if whole else ", ").join(names) + (" …" if len(shown) > _NAMED else "")


def _lines(caption: str) -> str:
    """Return a caption in at most two lines that fit."""
    return "\n".join(textwrap.wrap(caption, _CAPTION, max_lines=2, placeholder=" …", break_on_hyphens=False))
