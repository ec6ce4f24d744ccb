"""Requirements as text: the grammar of one expression, and files that hold several of them (`docs/gates.md`)."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import permutations
from pathlib import Path
from typing import Literal, cast

import yaml

from imaging_ft.catalog import suggest
from imaging_ft.config import reason
from imaging_ft.data.card import is_card
from imaging_ft.errors import ConfigError

Form = Literal["overall", "worst", "mean", "condition", "gap"]
Relation = Literal[">=", "<="]
Place = tuple[str, Mapping[str, int | str]]
"""What tells a cell from the others: its source and its conditions."""

EXAMPLE = "worst.accuracy >= 0.8"
_EXAMPLES = {
    "overall": "overall.accuracy >= 0.8",
    "worst": EXAMPLE,
    "mean": "mean.accuracy >= 0.8",
    "condition": "condition[low_dose@3].accuracy >= 0.8",
    "gap": "gap[site].accuracy <= 0.05",
    "against": "against.accuracy >= -0.01",
}
"""One of each form, by its first word."""
_EXPRESSION = re.compile(
    r"""^\s*(?:(?P<against>against)\.)?
        (?:(?:(?P<plain>overall|mean|worst)|(?P<place>condition|gap|worst)\[(?P<which>.+?)\])\.)?
        (?P<metric>[a-z0-9_]+(?:\[.+\])?)
        \s*(?P<relation>>=|<=)\s*(?P<threshold>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*$""",
    re.VERBOSE,
)
_FILES = frozenset({".yaml", ".yml", ".txt"})
_COMMENT = re.compile(r"(?:^|\s)#")
_IS_YAML = re.compile(r"-(\s|$)|\[|[^\W\d][\w ]*:(\s|$)|---")
"""How the first line of a YAML list or mapping begins, and no requirement."""


@dataclass(frozen=True)
class Parsed:
    """A requirement's parts."""

    against: bool
    """Whether it is about the difference from another model."""
    place: Form
    which: str | None
    """What stands in the brackets after the place."""
    metric: str
    relation: Relation
    threshold: float


def parse(expr: str, *, where: str = "--require") -> Parsed:
    """Return the parts of an expression; raises ConfigError, naming `where` and the nearest form, where it isn't one.

    Whether there is such a metric or such a cell isn't looked at. A threshold is within 0 and 1, of a difference or a
    gap within -1 and 1.
    """
    parsed = _parts(expr)
    if parsed is None:
        first = re.split(r"\W", expr.strip(), maxsplit=1)[0]
        (form,) = get_close_matches(first, _EXAMPLES, n=1) or ["worst"]
        raise ConfigError(f"{where} {expr!r}: not a requirement; write for example {_EXAMPLES[form]!r}")
    difference = parsed.against or parsed.place == "gap"
    lowest = -1 if difference else 0
    if not lowest <= parsed.threshold <= 1:
        why = "a difference of shares" if difference else "metrics are shares of 1"
        raise ConfigError(f"{where} {expr!r}: {parsed.threshold:g} is not within {lowest} to 1; {why}")
    return parsed


def read_requirements(path: Path) -> list[str]:
    """Return the expressions in a file: a YAML list, a YAML mapping with a list under `gates`, or one on each line.

    On lines of plain text, `#` begins a comment at the start or after a space. Raises ConfigError, naming the file and
    the line, where the file can't be read, holds none, or holds what `parse` doesn't take.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read: {reason(error)}") from error
    first = next((line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")), "")
    found = list(_from_yaml(text, path) if _IS_YAML.match(first.strip()) else _from_lines(text))
    if not found:
        raise ConfigError(f"{path}: holds no requirement; write for example {EXAMPLE!r}")
    for line, expr in found:
        parse(expr, where=f"{path}:{line}:")
    return [expr for _, expr in found]


def all_requirements(require: Sequence[str], *, beside: str, say: Callable[[str], None]) -> list[str]:
    """Return every expression that holds for a measurement: those given, and those in a file beside the data set.

    What is given is an expression or a file of them. Beside a card, a manifest or a table of predictions the file is
    `<name>.gates.yaml` or `gates.yaml`, in a folder of images `gates.yaml`; `say` is told which one was read, unless it
    was given as well. Raises ConfigError as `read_requirements` does.
    """
    found: list[str] = []
    read: set[Path] = set()
    for given in require:
        path = Path(given).expanduser()
        if _parts(given) is None and (path.suffix.lower() in _FILES or path.is_file()):
            found += read_requirements(path)
            read.add(path.resolve())
        else:
            found.append(given)
    for path in _beside(beside):
        if path.is_file():
            if path.resolve() not in read:
                say(f"gates: {path}")
                found += read_requirements(path)
            break
    return found


def _beside(argument: str) -> list[Path]:
    path = Path(re.sub(r"(\.ya?ml)@[^/\\]*$", r"\1", argument)).expanduser()  # a card's variant has its gates
    if is_card(argument) and path.suffix.lower() not in {".yaml", ".yml"}:
        return []  # a built-in card, and not a folder that has its name
    if path.is_dir():
        return [path / "gates.yaml"]
    return [path.with_name(f"{path.stem}.gates.yaml"), path.with_name("gates.yaml")]


def find_place(which: str, known: Sequence[Place]) -> int | None:
    """Return the position of the named cell; its parts may be named in any order."""
    wanted = tight(which)
    for position, place in enumerate(known):
        if any(tight(",".join(parts)) == wanted for parts in permutations(_marked(place))):
            return position
    return None


def _marked(place: Place) -> list[str]:
    source, conditions = place
    mark = "@" if source == "synthetic" else "="
    return [f"{name}{mark}{value}" for name, value in conditions.items()]


def tight(which: str) -> str:
    """Return what names a cell without the blanks around its marks, its parts joined by commas."""
    return re.sub(r"\s*[,×]\s*", ",", re.sub(r"\s*([@=])\s*", r"\1", which.strip()))


def names_in(which: str) -> list[str]:
    """Return the columns or conditions that stand between commas, sorted."""
    return sorted(tight(which).split(","))


def no_place(which: str, known: Sequence[Place]) -> str:
    """Return that there is no such cell, with the nearest, else the cells of one condition or column."""
    names = [",".join(_marked(place)) for place in known]
    close = get_close_matches(tight(which), names, n=1)
    if close:
        return f"no cell {which!r}; did you mean {close[0]!r}?"
    single = [name for name, (_, conditions) in zip(names, known, strict=True) if len(conditions) == 1]
    return f"no cell {which!r}; there are: {', '.join(single)}, and pairs such as roll@3,low_dose@5"


def _parts(expr: str) -> Parsed | None:
    match = _EXPRESSION.match(expr)
    if match is None:
        return None
    place, against = match["plain"] or match["place"], match["against"] is not None
    if (place is None and not against) or (against and place in {"overall", "mean", "gap"}):
        return None
    return Parsed(
        against,
        cast("Form", place or "overall"),
        match["which"],
        match["metric"],
        cast("Relation", match["relation"]),
        float(match["threshold"]),
    )


def _from_lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        # The shortest part that is a requirement: a recorded value may hold " #" itself.
        ends = [*(match.start() for match in _COMMENT.finditer(line)), len(line)]
        parts = [line[:end].strip() for end in ends]
        expr = next((part for part in parts if _parts(part) is not None), parts[0])
        if expr:
            yield number, expr


def _from_yaml(text: str, path: Path) -> Iterator[tuple[int, str]]:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark is not None else f"{path}"
        what = getattr(error, "problem", None) or " ".join(str(error).split())
        raise ConfigError(f"{place}: not YAML: {what}") from error
    if isinstance(root, yaml.MappingNode):
        for key, value in root.value:
            if key.value != "gates":
                raise ConfigError(
                    f"{path}:{key.start_mark.line + 1}: unknown key {key.value!r}; {suggest(str(key.value), ['gates'])}"
                )
            root = value
    if not isinstance(root, yaml.SequenceNode):
        raise ConfigError(f"{path}: holds no list of requirements; write '- {EXAMPLE}', or a list under gates:")
    for item in root.value:
        line = item.start_mark.line + 1
        if not isinstance(item, yaml.ScalarNode):
            raise ConfigError(f"{path}:{line}: a requirement is one text; write it in quotes")
        yield line, item.value.strip()
