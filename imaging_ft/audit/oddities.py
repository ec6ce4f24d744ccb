"""Findings about single images: blank, narrow, colourless, far from the rest."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from imaging_ft.audit import outliers
from imaging_ft.audit.measure import Measures
from imaging_ft.audit.result import Finding, Severity
from imaging_ft.audit.wording import classes_of, examples, plural
from imaging_ft.data import Prepared


def find_oddities(data: Prepared, found: Measures) -> Iterable[Finding]:
    """Yield what is odd about single images."""
    blank = outliers.is_blank(found)
    yield from _blank(data, blank)
    yield from _window(data, found)
    yield from _channels(data, found)
    yield from _outliers(data, outliers.measures(found, blank))


def _blank(data: Prepared, blank: npt.NDArray[np.bool_]) -> Iterable[Finding]:
    places = np.flatnonzero(blank)
    if len(places):
        yield Finding(
            code="blank_images",
            severity=Severity.PROBLEM,
            what=f"{len(places)} {plural(len(places), 'image')} show nothing (contrast below"
            f" {outliers.BLANK_CONTRAST:.0%} of full scale).",
            detail=f"{classes_of(data.samples, places)}.",
            todo="Leave them out, or read them again from their source. Where all 16-bit images are, set the window.",
            n=len(places),
            examples=examples(data.samples, places),
        )


def _window(data: Prepared, found: Measures) -> Iterable[Finding]:
    window = outliers.narrow_window(found) if data.image.bits == 16 and data.image.window is None else None
    if window is not None:
        low, high = window
        yield Finding(
            code="narrow_window",
            severity=Severity.PROBLEM,
            what=f"The 16-bit images use {(high - low) / 65535:.1%} of their scale: in 256 levels little is left.",
            detail=f"98% of the stored values lie between {low} and {high}.",
            todo=f"Set the window in the data set's card: image: {{channels: {data.image.channels}, bits: 16, window:"
            f" [{low}, {high}]}}.",
            n=len(found),
        )


def _channels(data: Prepared, found: Measures) -> Iterable[Finding]:
    dead = np.flatnonzero(found.dead_channels > 0)
    if len(dead):
        yield Finding(
            code="constant_channels",
            severity=Severity.LOOK,
            what=f"{len(dead)} colour {plural(len(dead), 'image')} have a channel that is constant.",
            detail=f"{classes_of(data.samples, dead)}.",
            todo="Look whether a channel was lost in an export, or whether another kind of image was mixed in.",
            n=len(dead),
            examples=examples(data.samples, dead),
        )
    three = found.channels == 3
    gray = np.flatnonzero(three & ~found.colour)
    if not len(gray) or data.image.channels == 1:
        return
    if len(gray) == len(found):
        yield Finding(
            code="gray_as_colour",
            severity=Severity.NOTE,
            what="Every image is gray, stored in three channels.",
            todo="Set image: {channels: 1} in the card: the same figures, a third of the memory, and an exported model"
            " that takes gray images as they are.",
            n=len(gray),
        )
    elif three.any() and found.colour.any():
        few = gray if len(gray) <= len(found) / 2 else np.flatnonzero(found.colour)
        which = "gray among colour images" if len(gray) <= len(found) / 2 else "in colour among gray ones"
        yield Finding(
            code="mixed_colour",
            severity=Severity.LOOK,
            what=f"{len(few)} of {len(found)} images are {which}.",
            detail=f"{classes_of(data.samples, few)}.",
            todo="Look whether they are of another kind (a screenshot, another scanner). Where colour means nothing,"
            " set image: {channels: 1} in the card.",
            n=len(few),
            examples=examples(data.samples, few),
        )


def _outliers(data: Prepared, measures: Sequence[outliers.Measure]) -> Iterable[Finding]:
    for measure in measures:
        places = measure.outliers
        if not len(places):
            continue
        notes = [f"{measure.form.format(measure.values[p])}, z {measure.z[p]:+.1f}" for p in places.tolist()]
        yield Finding(
            code=f"outliers_{measure.name}",
            severity=Severity.LOOK if len(places) <= 0.02 * len(data.samples) else Severity.NOTE,
            what=f"{len(places)} {plural(len(places), 'image')} stand far from the rest in {measure.name} (robust"
            f" z ≥ {outliers.ROBUST_Z:g}).",
            detail=f"The median is {measure.form.format(float(np.median(measure.values)))}."
            f" {classes_of(data.samples, places)}.",
            todo="Look whether they belong here. If they occur in use, keep them, and have enough of them in test;"
            " if not, leave them out.",
            n=len(places),
            examples=examples(data.samples, places, notes),
        )
