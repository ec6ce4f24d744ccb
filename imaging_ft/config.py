"""Settings and files that cross the boundary: frozen models, read from YAML with errors that name the place."""

from pathlib import Path
from typing import Any, Self, cast

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from imaging_ft.errors import ConfigError

_MOST_SHOWN = 500


class Frozen(BaseModel):
    """A value read from outside: unknown keys are refused, and nothing changes after it was read."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @classmethod
    def checked(cls, values: dict[str, Any], *, where: str) -> Self:
        """Return the model built from `values`; raises ConfigError naming `where` and the key."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(f"{where}: {_first_problem(error, list(cls.model_fields))}") from error

    @classmethod
    def from_yaml(cls, path: Path) -> Self:
        """Return the model that a YAML file describes; raises ConfigError naming the file and the key."""
        return cls.checked(read_yaml(path), where=str(path))


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file (empty for an empty file).

    Raises ConfigError where the file is missing, isn't YAML, or holds something else than a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read: {reason(error)}") from error
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date such as 2024-13-45
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds a {type(values).__name__}, but a mapping (key: value) is expected")
    return cast("dict[str, Any]", values)


def to_yaml(model: BaseModel) -> str:
    """Return a model as YAML, in the order of its fields."""
    return yaml.safe_dump(model.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """Return `["epochs=3", "size=160"]` as `{"epochs": 3, "size": 160}`; values are read as YAML."""
    values: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {assignment!r} is not KEY=VALUE; write for example --set epochs=3")
        try:
            values[key.strip()] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError) as error:
            raise ConfigError(f"--set {assignment!r}: the value is not YAML") from error
    return values


def reason(error: BaseException) -> str:
    """Return an operating-system error's own words without its number and path, or the error's first line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _first_problem(error: ValidationError, known: list[str]) -> str:
    from imaging_ft.catalog import suggest

    problem = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in problem["loc"]) or "the whole"
    if problem["type"] == "extra_forbidden":
        hint = suggest(str(problem["loc"][-1]), known) if len(problem["loc"]) == 1 else "it is not known here"
        return f"unknown key {place!r}; {hint}"
    if problem["type"] == "missing":
        return f"the key {place!r} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if not problem["loc"]:
        return message
    got = repr(problem["input"])
    return f"{place}: {message} (got {got if len(got) <= _MOST_SHOWN else got[:_MOST_SHOWN] + '…'})"
