"""Rounds of training side by side, from the files of their run folders; nothing is trained or measured here."""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from imaging_ft.config import read_yaml, reason
from imaging_ft.errors import ConfigError, RunError
from imaging_ft.types import Json

Rows = dict[str, tuple[Any, ...]]
"""What stands in a section: by name, a value for each run; None where a run has none."""


@dataclass(frozen=True)
class Comparison:
    """Runs beside each other."""

    runs: tuple[str, ...]
    """Their folders, as given."""
    sections: dict[str, Rows]
    """`data`, `training`, `settings` (those that differ), `validation`, `augmented validation`, `cost`, and from
    reports `clean`, `mean` and `worst`; an interval is `[low, high]`."""
    warnings: tuple[str, ...]
    """Why figures can't be compared, where they can't."""

    def as_json(self) -> Json:
        """Return what `--json` prints."""
        sections = {
            title: {name: list(values) for name, values in rows.items()} for title, rows in self.sections.items()
        }
        return {"runs": list(self.runs), **sections, "warnings": list(self.warnings)}


@dataclass(frozen=True)
class _Run:
    path: Path
    config: Json
    dataset: Json
    summary: Json
    epochs: list[dict[str, str]]
    """Rows of `history.csv` but the probe's."""
    report: Json | None


def compare(paths: Sequence[Path]) -> Comparison:
    """Return two or more finished runs side by side.

    A report that lies in `RUN/report` is taken in too. Raises RunError where a folder is no finished run, or is
    given twice, or a file of it is damaged.
    """
    if len(paths) < 2:
        raise RunError("compare needs two or more run folders: imaging-ft compare runs/a runs/b")
    for index, path in enumerate(paths):
        if path.resolve() in {other.resolve() for other in paths[:index]}:
            raise RunError(f"{path}: given twice; compare it with another run")
    runs = [_read(path) for path in paths]
    sections = {
        "data": _rows(runs, _data),
        "training": _rows(runs, _training),
        "settings": _differing([run.config for run in runs]),
        "validation": _rows(runs, lambda run: _scalars(_at(run.summary, "validation") or {})),
        "augmented validation": _rows(runs, lambda run: _scalars(_at(run.summary, "judged") or {})),
        "cost": _rows(runs, _cost),
        "clean": _rows(runs, _clean),
        "mean": _rows(runs, lambda run: _plain(run.report["mean"]) if run.report else {}),
        "worst": _rows(runs, _worst),
    }
    kept = {title: rows for title, rows in sections.items() if rows}
    return Comparison(tuple(str(path) for path in paths), kept, tuple(_warnings(runs)))


def _read(path: Path) -> _Run:
    if not path.is_dir():
        raise RunError(f"{path}: no such run folder")
    if not (path / "config.yaml").is_file():
        raise RunError(f"{path}: not a run folder (it holds no config.yaml); give the --out of a training")
    if not (path / "summary.json").is_file():
        raise RunError(f"{path}: the run is not finished (it holds no summary.json); finish it, or train again")
    try:
        config = read_yaml(path / "config.yaml")
    except ConfigError as error:
        raise RunError(str(error)) from error
    report = path / "report" / "report.json"
    return _Run(
        path,
        config,
        _json(path / "dataset.json"),
        _json(path / "summary.json"),
        _history(path / "history.csv"),
        _report(report) if report.is_file() else None,
    )


def _json(path: Path) -> Json:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: can't be read: {reason(error)}; train again") from error
    if not isinstance(values, dict):
        raise RunError(f"{path}: not what a training writes; train again")
    return values


def _report(path: Path) -> Json:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: can't be read: {reason(error)}; report again") from error
    if not str(_at(values, "schema")).startswith("imaging_ft.report/1"):
        raise RunError(f"{path}: not a report of this version; report again")
    return values


def _history(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [row for row in csv.DictReader(file) if row.get("epoch") != "0"]
    except (OSError, ValueError, csv.Error) as error:
        raise RunError(f"{path}: can't be read: {reason(error)}") from error


def _rows(runs: Sequence[_Run], part: Callable[[_Run], Json]) -> Rows:
    """Return a part of each run by name, in the order of the first run that has it."""
    parts = [part(run) for run in runs]
    rows = {name: tuple(values.get(name) for values in parts) for values in parts for name in values}
    return {name: values for name, values in rows.items() if any(value is not None for value in values)}


def _differing(configs: Sequence[Json]) -> Rows:
    names = dict.fromkeys(name for config in configs for name in config)
    rows = {name: tuple(config.get(name) for config in configs) for name in names}
    return {name: values for name, values in rows.items() if any(value != values[0] for value in values)}


def _data(run: _Run) -> Json:
    splits = _at(run.dataset, "splits") or {}
    return {
        "name": run.dataset.get("name"),
        "fingerprint": str(run.dataset.get("fingerprint", ""))[:12] or None,
        **{f"{split} images": _at(values, "n") for split, values in splits.items()},
    }


def _training(run: _Run) -> Json:
    summary = run.summary
    return {
        "model": summary.get("model"),
        "recipe": summary.get("recipe"),
        "epochs": summary.get("epochs"),
        "best epoch": summary.get("best_epoch"),
        "interrupted": summary.get("interrupted") or None,
        "batch norm": _at(summary, "batch_norm", "statistics"),
        "probe": _at(summary, "probe", "balanced_accuracy"),
        "temperature": _at(summary, "calibration", "temperature"),
    }


def _cost(run: _Run) -> Json:
    cost = _at(run.summary, "cost")
    seconds = [float(row["seconds"]) for row in run.epochs if _is_number(row.get("seconds"))]
    weights = run.path / "model.safetensors"
    return {
        "seconds": _at(cost, "seconds"),
        "seconds an epoch": round(median(seconds), 2) if seconds else None,
        "images trained": _at(cost, "images_trained"),
        "parameters": _at(cost, "parameters"),
        "weights (MiB)": round(weights.stat().st_size / 2**20, 1) if weights.is_file() else None,
        "peak memory (MiB)": _at(cost, "peak_memory_mib"),
        "energy (Wh)": _at(cost, "energy", "watt_hours"),
        "device": _at(cost, "device"),
        "mode": _at(cost, "mode"),
    }


def _clean(run: _Run) -> Json:
    if run.report is None:
        return {}
    leading = {f"sensitivity[{label}]" for label in run.report.get("positive", [])}
    return _evidence(run.report["overall"], also=leading)


def _worst(run: _Run) -> Json:
    cell = run.report.get("worst") if run.report else None
    if not cell:
        return {}
    condition = ", ".join(f"{name} {severity}" for name, severity in cell["conditions"].items())
    return {"condition": condition, **_evidence(cell)}


def _evidence(cell: Json, also: set[str] | frozenset[str] = frozenset()) -> Json:
    """Return a report's metrics, each with its interval on the next row; of those by class, the ones named."""
    found: Json = {"n": cell["n"]}
    for name, estimate in cell["metrics"].items():
        if "[" not in name or name in also:
            found |= {name: estimate["value"], f"{name} 95%": [estimate["low"], estimate["high"]]}
    return found


def _plain(metrics: Json) -> Json:
    return {name: value for name, value in metrics.items() if "[" not in name}


def _scalars(values: Json, prefix: str = "") -> Json:
    """Return the numbers in nested values, by dotted name."""
    found: Json = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _scalars(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{prefix}{name}"] = value
    return found


def _at(values: Any, *names: str) -> Any:
    """Return what stands under nested names, or None: runs of other versions have other keys."""
    for name in names:
        values = values.get(name) if isinstance(values, dict) else None
    return values


def _is_number(text: str | None) -> bool:
    try:
        float(text or "")
    except ValueError:
        return False
    return True


def _warnings(runs: Sequence[_Run]) -> list[str]:
    found: list[str] = []
    if _several(run.dataset.get("fingerprint") for run in runs):
        found.append("the data sets differ: no figure of one run can be compared with another's")
    elif _several(_validation_split(run) for run in runs):
        found.append("the validation splits differ: the validation figures can't be compared")
    elif _several(run.summary.get("recipe") for run in runs):
        found.append("the recipes differ, and so do the images of augmented validation: compare by the other figures")
    reported = [run for run in runs if run.report]
    if _several(_measured_on(run.report or {}) for run in reported):
        found.append("the reports measured other images or conditions: their figures can't be compared")
    if 0 < len(reported) < len(runs):
        lacking = next(run.path for run in runs if not run.report)
        found.append(f"{lacking} has no report: imaging-ft report MODEL.onnx DATASET --out {lacking / 'report'}")
    found += [line for run in reported if (line := _stale(run))]
    found += [f"{run.path}: was interrupted" for run in runs if run.summary.get("interrupted")]
    return found


def _several(values: Any) -> bool:
    return len({json.dumps(value, sort_keys=True) for value in values}) > 1


def _validation_split(run: _Run) -> Json:
    kept = {key: run.dataset.get(key) for key in ("labels", "split_method", "split_seed", "fold", "folds")}
    return {**kept, "val": _at(run.dataset, "splits", "val")}


def _measured_on(report: Json) -> Json:
    data = {key: report["dataset"].get(key) for key in ("fingerprint", "split", "n")}
    return {**data, "suite": report.get("suite"), "severities": report.get("severities")}


def _stale(run: _Run) -> str | None:
    """Return a warning where a report is of an earlier training in the same folder."""
    try:
        made = json.loads((run.path / "model.json").read_text(encoding="utf-8"))["provenance"]["created"]
        reported = (run.report or {})["created"]
        if datetime.fromisoformat(reported) >= datetime.fromisoformat(made):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # without both dates, nothing can be said
    return f"{run.path / 'report'}: older than the model; export and report again"
