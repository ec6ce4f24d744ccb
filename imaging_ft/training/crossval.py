"""k-fold cross-validation: each fold a run of its own, and what they say together."""

import json
import math
from pathlib import Path
from statistics import mean, stdev

from imaging_ft.errors import RunError
from imaging_ft.training.checks import refuse_own_input
from imaging_ft.training.job import Say
from imaging_ft.training.run import RunFolder, plain, write_text
from imaging_ft.training.settings import TrainSettings, resumed_settings
from imaging_ft.training.team import is_lead
from imaging_ft.types import Json, Track

FILE = "folds.json"
METRICS = ("balanced_accuracy", "accuracy", "macro_f1", "auroc")


def cross_validate(
    dataset: str,
    out: Path,
    settings: TrainSettings,
    *,
    skip_bad: bool = False,
    overwrite: bool = False,
    resume: bool = False,
    track: Track,
    say: Say,
) -> Json:
    """Train each fold into `out/fold_1`, `out/fold_2` … and return what `out/folds.json` holds.

    Every training and validation image is validated on once; groups stay together. The spread is that between folds,
    which share most of their training images: it is no confidence interval. With `resume`, finished folds are left as
    they are. Raises what `train` raises, and RunError where `out` is something else.
    """
    from imaging_ft.training.train import finished_summary, train

    count = settings.folds or 2
    if out.exists() and not out.is_dir():
        raise RunError(f"{out}: a file stands where the folds should be; choose another --out")
    if (out / "config.yaml").exists():
        raise RunError(f"{out}: already holds a run; choose another --out for the folds")
    each = [_of_fold(out, settings, fold, resume=resume) for fold in range(1, count + 1)]
    if is_lead():  # what would be refused at a later fold is refused before the first one
        refuse_own_input(out, settings)
        for fold in range(1, count + 1):
            RunFolder.check_free(out / f"fold_{fold}", overwrite=overwrite or resume)
    runs: list[Json] = []
    for fold, asked in enumerate(each, 1):
        path = out / f"fold_{fold}"
        say(f"fold {fold} of {count}: {path}")
        done = finished_summary(path) if resume else None
        runs.append(
            done
            or train(
                dataset,
                path,
                asked,
                skip_bad=skip_bad,
                overwrite=overwrite,
                resume=resume and (path / "config.yaml").is_file(),
                track=track,
                say=say,
            )
        )
        if runs[-1]["interrupted"]:
            raise RunError(f"{path}: stopped; the same command with --resume goes on from there")
    found = plain(_together(runs))
    if is_lead():
        write_text(out / FILE, json.dumps(found, indent=2) + "\n")
    return found


def _of_fold(out: Path, settings: TrainSettings, fold: int, *, resume: bool) -> TrainSettings:
    """Return the settings of a fold; raises ConfigError where it is taken up again and was begun with others."""
    asked, path = settings.model_copy(update={"fold": fold}), out / f"fold_{fold}" / "config.yaml"
    return resumed_settings(path, asked.model_dump(exclude_unset=True)) if resume and path.is_file() else asked


def _together(runs: list[Json]) -> Json:
    metrics: Json = {}
    for name in METRICS:
        values = [run["validation"][name] for run in runs]
        known = [value for value in values if value is not None and not math.isnan(value)]
        if known:
            metrics[name] = {
                "mean": mean(known),
                "sd": stdev(known) if len(known) > 1 else None,
                "folds": values,
            }
    return {
        "folds": len(runs),
        "interrupted": False,
        "n": sum(run["validation"]["n"] for run in runs),
        "validation": metrics,
        "seconds": sum(run["cost"]["seconds"] for run in runs),
    }
