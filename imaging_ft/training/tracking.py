"""A training's figures in TensorBoard or MLflow, from the extra `track`.

They come on top of `history.csv` and `summary.json`, which hold everything in any case. So a tracker that fails, such
as a server that can't be reached, costs a warning and never the training.
"""

import math
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from imaging_ft.config import reason
from imaging_ft.errors import ConfigError
from imaging_ft.types import Json

Kind = Literal["none", "tensorboard", "mlflow"]
Say = Callable[[str], None]

EXPERIMENT = "imaging_ft"
"""MLflow's experiment where MLFLOW_EXPERIMENT_NAME names no other."""

_MLFLOW_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # importing it would otherwise start reporting its use to its makers
    "MLFLOW_ALLOW_FILE_STORE": "true",  # a folder needs no database library; MLflow asks for this word to allow it
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # by default, a server that is away holds a training up for four minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
_MLFLOW_LENGTH = 6000
"""The longest value of a parameter that MLflow takes."""


class Tracker(Protocol):
    """Takes the figures of a training."""

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Take the figures of a step or an epoch; what is no finite number is left out."""
        ...

    def close(self, summary: Json | None) -> None:
        """Take the summary (None where the training broke off) and end."""
        ...


def open_tracker(
    kind: Kind, run_path: Path, settings: Json, *, resume: bool = False, say: Say = lambda _: None
) -> Tracker:
    """Return the tracker of a run; one that fails later warns once through `say`, and raises nothing.

    TensorBoard's files lie in `RUN/tensorboard`. MLflow goes where MLFLOW_TRACKING_URI says, else into the folder
    `RUN/mlflow`. With `resume`, the figures of the run that was broken off are continued.

    Raises ConfigError where the tracker's package is missing or can't be loaded.
    """
    if kind == "none":
        return _Off()
    try:
        if kind == "tensorboard":
            return _Guarded(_TensorBoard(run_path / kind, settings, resume=resume), kind, say)
        return _Guarded(_MLflow(run_path / kind, run_path.resolve().name, settings, resume=resume), kind, say)
    except ImportError as error:
        raise ConfigError(
            f"track {kind}: can't be loaded ({reason(error)}); pip install 'imaging-ft[track]', or choose track none"
        ) from error


class _Off:
    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Do nothing."""

    def close(self, summary: Json | None) -> None:
        """Do nothing."""


class _Guarded:
    """Keeps a tracker's failures from the training: it warns once, and offers what is missing again at the end."""

    def __init__(self, tracker: Tracker, kind: Kind, say: Say) -> None:
        self._tracker = tracker
        self._kind = kind
        self._say = say
        self._missing: list[tuple[int, dict[str, float]]] = []
        self._failed = False

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        self._missing.append((step, _numbers(values)))
        if not self._failed:
            self._try(self._send, "the training goes on, and what is missing is sent once more at its end")

    def close(self, summary: Json | None) -> None:
        figures = None if summary is None else _numbers(summary)

        def finish() -> None:
            self._send()
            self._tracker.close(figures)

        self._try(finish, "it lacks the last figures; history.csv and summary.json hold them all")

    def _send(self) -> None:
        while self._missing:
            self._tracker.log(*self._missing[0])
            del self._missing[0]

    def _try(self, action: Callable[[], None], outcome: str) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001 - whatever a client library raises, the training is worth more
            self._failed = True
            self._say(f"warning: track {self._kind}: {_short(reason(error))}; {outcome}")


class _TensorBoard:
    def __init__(self, folder: Path, settings: Json, *, resume: bool) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._new_writer = SummaryWriter
        self._folder = folder
        self._settings = settings
        self._resume = resume
        self._writer: SummaryWriter | None = None

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        writer = self._open(step)
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    def close(self, summary: Json | None) -> None:
        if summary is not None:
            table = "\n".join(f"| {name} | {value:g} |" for name, value in summary.items())
            self._open(0).add_text("summary", f"| | |\n|---|---|\n{table}")
        if self._writer is not None:
            self._writer.close()

    def _open(self, step: int) -> Any:
        """Return the writer, opened at the first step: of a run that is resumed, what was logged from it on is void."""
        if self._writer is None:
            if not self._resume and self._folder.exists():
                shutil.rmtree(self._folder)  # of a run that `--overwrite` replaced
            self._writer = self._new_writer(str(self._folder), purge_step=step if self._resume else None)
            if not self._resume:
                table = "\n".join(f"| {name} | {value} |" for name, value in self._settings.items())
                self._writer.add_text("settings", f"| | |\n|---|---|\n{table}")
        return self._writer


class _MLflow:
    def __init__(self, folder: Path, name: str, settings: Json, *, resume: bool) -> None:
        for variable, value in _MLFLOW_ENVIRONMENT.items():
            os.environ.setdefault(variable, value)
        import mlflow  # pyright: ignore[reportMissingImports] - it comes with the extra `track`
        from mlflow.entities import Metric, Param  # pyright: ignore[reportMissingImports]

        self._mlflow = mlflow
        self._metric = Metric
        self._folder = folder
        self._name = name
        self._parameters = [Param(_legal(name), f"{value}"[:_MLFLOW_LENGTH]) for name, value in settings.items()]
        self._resume = resume
        self._client: Any = None
        self._run = ""

    @property
    def _note(self) -> Path:
        """Where the run's id stands, for a training that is taken up again."""
        return self._folder / "run_id.txt"

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        self._start()
        self._metrics(values, step)

    def close(self, summary: Json | None) -> None:
        self._start()
        if summary is not None:
            self._metrics({f"summary/{name}": value for name, value in summary.items()}, 0)
        self._client.set_terminated(self._run, "KILLED" if summary is None else "FINISHED")

    def _metrics(self, values: Mapping[str, float], step: int) -> None:
        now = round(time.time() * 1000)
        metrics = [self._metric(_legal(name), value, now, step) for name, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def _start(self) -> None:
        """Open the run, and send what settings it lacks; called again after a failure, it goes on where that came."""
        if not self._run:
            uri = os.environ.get("MLFLOW_TRACKING_URI") or self._folder.resolve().as_uri()
            self._client = self._mlflow.MlflowClient(uri)
            self._run = self._resumed() or self._created()
        if self._parameters:
            self._client.log_batch(self._run, params=self._parameters)
            self._parameters = []

    def _resumed(self) -> str | None:
        if not self._resume or not self._note.is_file():
            return None
        run = self._note.read_text(encoding="utf-8").strip()
        self._client.update_run(run, "RUNNING")
        self._parameters = []  # they stand there already, and MLflow refuses to change them
        return run

    def _created(self) -> str:
        run = self._client.create_run(self._experiment(), run_name=self._name).info.run_id
        self._folder.mkdir(parents=True, exist_ok=True)
        self._note.write_text(f"{run}\n", encoding="utf-8")
        return run

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return found.experiment_id
        try:
            return self._client.create_experiment(name)
        except self._mlflow.MlflowException:
            found = self._client.get_experiment_by_name(name)
            if found is None:
                raise
            return found.experiment_id  # another training made it in between


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the finite numbers in nested values; `{"a": {"b": 1}}` is `a/b`, and `sensitivity[x]` `sensitivity/x`."""
    found: dict[str, float] = {}
    for name, value in values.items():
        key = re.sub(r"\[(.*)\]$", r"/\1", name)
        if isinstance(value, Mapping):
            found |= {f"{key}/{inner}": number for inner, number in _numbers(value).items()}
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            found[key] = float(value)
    return found


def _legal(name: str) -> str:
    """Return a name that MLflow takes."""
    return re.sub(r"[^\w\-. :/]", "_", name)


def _short(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"
