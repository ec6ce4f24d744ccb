"""Which items of CLAIM 2024 and TRIPOD+AI the page answers, partly answers, or leaves to the authors of a study."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from imaging_ft.report.sections.checklist_items import CLAIM, TRIPOD_AI, Answer, Extent

_PART_OF = {"intended_use": "measured", "pictures": "failures"}
"""The part of the page that shows what is no part itself."""


@dataclass(frozen=True)
class Item:
    """An item of a checklist, and what the page says to it."""

    number: str
    title: str
    extent: Extent
    part: str | None
    """The id of the part that answers."""
    words: str


@dataclass(frozen=True)
class Checklist:
    """One checklist: the items that the page says something to, and those that it leaves to the authors."""

    name: str
    source: str
    said: list[Item]
    left: list[Item]
    total: int
    answered: int
    partly: int


def checklists(there: Iterable[str]) -> list[Checklist]:
    """Return both checklists for a page with the parts `there` (ids, and `intended_use`, `pictures`)."""
    shown = frozenset(there)
    return [
        _checklist("CLAIM 2024", "Tejani et al., Radiology: Artificial Intelligence 6(4), e240300", CLAIM, shown),
        _checklist("TRIPOD+AI", "Collins et al., BMJ 385, e078378, 2024", TRIPOD_AI, shown),
    ]


def _checklist(
    name: str, source: str, items: Mapping[str, tuple[str, tuple[Answer, ...]]], shown: frozenset[str]
) -> Checklist:
    found = [_item(number, title, answers, shown) for number, (title, answers) in items.items()]
    said = [item for item in found if item.extent != "authors"]
    answered = sum(item.extent == "answers" for item in said)
    left = [item for item in found if item.extent == "authors"]
    return Checklist(name, source, said, left, len(found), answered, len(said) - answered)


def _item(number: str, title: str, answers: tuple[Answer, ...], shown: frozenset[str]) -> Item:
    for answer in answers:
        if answer.needs in shown:
            return Item(number, title, answer.extent, _PART_OF.get(answer.needs, answer.needs), answer.words)
    return Item(number, title, "authors", None, "")
