"""What a manifest's row says about its image: one class, several, or a column for each class."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imaging_ft import catalog
from imaging_ft.data.card import LABEL_SEPARATOR, Card, LabelColumns
from imaging_ft.data.table import Row
from imaging_ft.errors import DataError
from imaging_ft.types import Task

ONE = "label"
SEVERAL = "labels"


@dataclass(frozen=True)
class Reading:
    """What a row's cells say: the label as `Sample.label` holds it, or why it can't be told."""

    label: str
    problem: str = ""


def spelled(text: str) -> str:
    """Return a label in one spelling: some systems store é as e and an accent."""
    return unicodedata.normalize("NFC", text.strip())


def joined(names: Sequence[str]) -> str:
    """Return classes as `Sample.label` holds them: sorted, each once, so that equal sets are equal texts."""
    return LABEL_SEPARATOR.join(sorted(set(names)))


def by_columns(card: Card, path: Path, columns: Sequence[str], *, bare: bool) -> Card:
    """Return the card with the task that the label column's name says, where no card said anything.

    A manifest alone (`bare`) with a column `labels` instead of `label` is of a multi-label task. Raises DataError
    where both stand there, or where a card and its manifest don't agree.
    """
    if card.task is Task.MULTILABEL or "label" in card.columns or SEVERAL not in columns or card.label_columns:
        return card
    if not bare:
        if ONE in columns:
            return card
        raise DataError(
            f"{path}: the column is 'labels' (several classes an image); write task: multilabel in the card"
        )
    if ONE in columns:
        raise DataError(
            f"{path}: has a column 'label' and a column 'labels'; keep 'label' for one class an image, or 'labels' for"
            " several joined by '|'"
        )
    return card.model_copy(update={"task": Task.MULTILABEL})


def label_column(card: Card, columns: Sequence[str]) -> str:
    """Return the name of the column that holds the label (or labels)."""
    if "label" in card.columns:
        return card.columns["label"]
    return SEVERAL if card.task is Task.MULTILABEL and (SEVERAL in columns or ONE not in columns) else ONE


def read_label(card: Card, row: Row, column: str) -> Reading:
    """Return what a row says, checked against the card's classes."""
    if card.label_columns is not None:
        reading = _from_columns(card, row)
    elif card.task is Task.MULTILABEL:
        reading = _from_names(card, row.cells.get(column, ""))
    else:
        reading = Reading(spelled(row.cells.get(column, "")))
    return reading if reading.problem else check_label(card, reading.label)


def check_label(card: Card, label: str) -> Reading:
    """Return the label, or what is wrong with it: empty, or not among the card's classes."""
    if card.task is not Task.MULTILABEL:
        if not label:
            return Reading(label, "the label is empty")
        names = [label]
    else:
        names = [name for name in label.split(LABEL_SEPARATOR) if name]
    for name in names:
        if card.labels is not None and name not in card.labels:
            return Reading(label, f"unknown label {name!r}; {catalog.suggest(name, list(card.labels))}")
    return Reading(label)


def _from_names(card: Card, cell: str) -> Reading:
    names = [spelled(name) for name in cell.split(LABEL_SEPARATOR) if name.strip()]
    if card.none is not None and card.none in names:
        if set(names) != {card.none}:
            return Reading(joined(names), f"says {card.none!r} beside {', '.join(n for n in names if n != card.none)}")
        names = []
    return Reading(joined(names))


def _from_columns(card: Card, row: Row) -> Reading:
    rule = card.label_columns or LabelColumns()
    shown: list[str] = []
    yes, no = ({cell.casefold() for cell in cells} for cells in (rule.shown, rule.not_shown))
    for name in card.labels or ():
        cell = row.cells.get(name, "")
        if cell.casefold() in yes:
            shown.append(name)
        elif cell.casefold() not in no:
            what = f"holds {cell!r}" if cell else "is empty"
            return Reading(joined(shown), f"column {name!r} {what}; expected {_or([*rule.shown, *rule.not_shown])}")
    if card.task is Task.MULTILABEL:
        return Reading(joined(shown))
    if len(shown) != 1:
        what = f"shows {len(shown)} classes ({', '.join(shown)})" if shown else "shows none of the classes"
        return Reading("", f"{what}, where one is expected; several need task: multilabel")
    return Reading(shown[0])


def _or(cells: Sequence[str]) -> str:
    named = [repr(cell) if cell else "an empty cell" for cell in cells]
    return f"{', '.join(named[:-1])} or {named[-1]}"
