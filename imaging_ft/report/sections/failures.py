"""The gallery of the worst failures: wrong, and sure of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imaging_ft.report.result import Failure, Report
from imaging_ft.report.wording import name_of

if TYPE_CHECKING:
    from imaging_ft.report.gallery import Pictures

MOST_CHARACTERS = 3_500_000
"""Of all pictures together: the page stays below 5 MB."""


@dataclass(frozen=True)
class Shown:
    """A failure with its pictures, or without."""

    failure: Failure
    condition: str
    pictures: list[tuple[str, str]]
    """(what it shows, data URI)."""


@dataclass(frozen=True)
class Failures:
    """The part on the worst failures."""

    pictured: list[Shown]
    listed: list[Shown]
    """Failures without pictures …"""
    why: str
    """… and the reason."""


def failures(report: Report, pictures: Sequence["Pictures"]) -> Failures | None:
    """Return the part on the worst failures; None where none is known.

    The n-th pictures belong to the n-th failure; failures beyond them, or beyond the page's size, are listed.
    """
    if not report.failures:
        return None
    room, fitting = MOST_CHARACTERS, 0
    for found in pictures[: len(report.failures)]:
        room -= sum(len(picture) for _, picture in _pictures(found))
        if room < 0:
            break
        fitting += 1
    pictured = [
        Shown(failure, name_of(failure.conditions), _pictures(found))
        for failure, found in zip(report.failures, pictures[:fitting], strict=False)
    ]
    listed = [Shown(failure, name_of(failure.conditions), []) for failure in report.failures[len(pictured) :]]
    return Failures(pictured, listed, _why(len(pictured), len(pictures)) if listed else "")


def _pictures(found: "Pictures") -> list[tuple[str, str]]:
    shown = [("Original", found.original), ("Under the condition", found.changed), ("Activation", found.activation)]
    return [(title, picture) for title, picture in shown if picture is not None]


def _why(shown: int, given: int) -> str:
    if shown < given:
        return "No pictures of these: the page would grow beyond 5 MB."
    if given:
        return "No pictures of these: only the first were drawn."
    return "No pictures: the images were not at hand when this page was written, as with stored predictions."
