"""TensorBoard and MLflow: what they get, and that their failures never reach the training."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from imaging_ft.errors import ConfigError
from imaging_ft.training import tracking
from imaging_ft.training.tracking import Kind, open_tracker

SETTINGS = {"epochs": 3, "model": "timm/resnet18", "class_weights": {"ring": 2.0}}
ROWS = [
    {"epoch": 0, "phase": "probe", "train_loss": None, "val_loss": 0.9, "sensitivity[ring]": 0.5},
    {"epoch": 1, "phase": "fine-tune", "train_loss": 0.7, "val_loss": float("nan"), "sensitivity[ring]": 0.75},
]
SUMMARY = {"model": "timm/resnet18", "interrupted": False, "validation": {"accuracy": 0.8, "n": 40, "split": "drawn"}}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in tracking._MLFLOW_ENVIRONMENT.items():  # so that they are gone after the test
        monkeypatch.setenv(variable, value)


def need(kind: str) -> None:
    pytest.importorskip(kind, reason=f"{kind} is not installed: pip install 'imaging-ft[track]'")


def track(kind: Kind, run: Path, rows: list[dict[str, Any]], summary: Any = SUMMARY, **options: Any) -> list[str]:
    said: list[str] = []
    tracker = open_tracker(kind, run, SETTINGS, say=said.append, **options)
    for row in rows:
        tracker.log(row["epoch"], row)
    tracker.close(summary)
    return said


def tensorboard(run: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(run / "tensorboard")).Reload()


def scalars(run: Path, name: str) -> list[tuple[int, Any]]:
    return [(event.step, pytest.approx(event.value)) for event in tensorboard(run).Scalars(name)]


def mlflow_runs(uri: str, experiment: str = tracking.EXPERIMENT) -> tuple[Any, list[Any]]:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return client, list(client.search_runs([found.experiment_id]))


def test_tensorboard_gets_every_finite_number_by_epoch(tmp_path: Path) -> None:
    need("tensorboard")
    assert track("tensorboard", tmp_path, ROWS) == []
    assert set(tensorboard(tmp_path).Tags()["scalars"]) == {"epoch", "train_loss", "val_loss", "sensitivity/ring"}
    assert scalars(tmp_path, "sensitivity/ring") == [(0, 0.5), (1, 0.75)]
    assert scalars(tmp_path, "val_loss") == [(0, 0.9)]
    texts = {name: tensorboard(tmp_path).Tensors(name) for name in tensorboard(tmp_path).Tags()["tensors"]}
    written = "".join(str(events[0].tensor_proto.string_val[0], "utf-8") for events in texts.values())
    assert "timm/resnet18" in written
    assert "validation/accuracy | 0.8" in written


def test_tensorboard_voids_the_epochs_that_a_resumed_run_repeats(tmp_path: Path) -> None:
    need("tensorboard")
    track("tensorboard", tmp_path, [{"epoch": step, "loss": step} for step in range(4)], None)
    track("tensorboard", tmp_path, [{"epoch": step, "loss": step + 0.5} for step in range(2, 5)], resume=True)
    assert scalars(tmp_path, "loss") == [(0, 0), (1, 1), (2, 2.5), (3, 3.5), (4, 4.5)]


def test_tensorboard_drops_the_figures_of_a_run_that_is_replaced(tmp_path: Path) -> None:
    need("tensorboard")
    track("tensorboard", tmp_path, [{"epoch": step, "loss": step} for step in range(4)])
    track("tensorboard", tmp_path, [{"epoch": 0, "loss": 7}])
    assert scalars(tmp_path, "loss") == [(0, 7)]


def test_mlflow_gets_settings_figures_and_summary_in_the_run_folder(tmp_path: Path) -> None:
    need("mlflow")
    assert track("mlflow", tmp_path / "round one", ROWS) == []
    client, (run,) = mlflow_runs((tmp_path / "round one" / "mlflow").as_uri())
    assert run.info.run_name == "round one"
    assert run.info.status == "FINISHED"
    assert run.data.params == {name: str(value) for name, value in SETTINGS.items()}
    assert run.data.metrics["summary/validation/accuracy"] == 0.8
    assert "summary/interrupted" not in run.data.metrics
    history = client.get_metric_history(run.info.run_id, "sensitivity/ring")
    assert [(metric.step, metric.value) for metric in history] == [(0, 0.5), (1, 0.75)]


def test_mlflow_goes_on_with_the_run_that_was_broken_off(tmp_path: Path) -> None:
    need("mlflow")
    uri = (tmp_path / "mlflow").as_uri()
    track("mlflow", tmp_path, ROWS[:1], None)
    assert [run.info.status for run in mlflow_runs(uri)[1]] == ["KILLED"]
    assert track("mlflow", tmp_path, ROWS[1:], resume=True) == []
    client, (run,) = mlflow_runs(uri)
    assert run.info.status == "FINISHED"
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "sensitivity/ring")] == [0, 1]
    track("mlflow", tmp_path, ROWS)
    assert len(mlflow_runs(uri)[1]) == 2


def test_mlflow_honours_its_own_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("mlflow")
    uri = (tmp_path / "elsewhere").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "baggage")
    track("mlflow", tmp_path / "run", ROWS)
    assert len(mlflow_runs(uri, "baggage")[1]) == 1
    assert [path.name for path in (tmp_path / "run" / "mlflow").iterdir()] == ["run_id.txt"]


def test_mlflow_takes_many_and_long_settings_and_any_name(tmp_path: Path) -> None:
    need("mlflow")
    settings = {f"key{number}": "x" * 7000 for number in range(205)}
    said: list[str] = []
    tracker = open_tracker("mlflow", tmp_path, settings, say=said.append)
    tracker.log(0, {"loss[a,b]": 1.0})
    tracker.close({})
    _, (run,) = mlflow_runs((tmp_path / "mlflow").as_uri())
    assert (said, len(run.data.params), run.data.metrics) == ([], 205, {"loss/a_b": 1.0})


def test_mlflow_is_told_not_to_report_its_use_to_its_makers(tmp_path: Path) -> None:
    """In a process of its own: it starts doing so when it's imported."""
    need("mlflow")
    code = (
        "import sys; from pathlib import Path; from imaging_ft.training.tracking import open_tracker;"
        "open_tracker('mlflow', Path(sys.argv[1]), {});"
        "from mlflow.telemetry.client import get_telemetry_client as client; sys.exit(client() is not None)"
    )
    variables = {"PATH": "", "PYTHONPATH": str(Path(__file__).parents[2])}  # no CI's, which turns it off as well
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=variables, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-500:]


def test_a_server_that_is_away_costs_one_warning_and_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    said = track("mlflow", tmp_path, ROWS)
    assert len(said) == 2, "one when it fails, one at the end"
    assert said[0].startswith("warning: track mlflow: ")
    assert "127.0.0.1" in said[0]
    assert "the training goes on" in said[0]
    assert "history.csv" in said[1]


def test_what_a_server_missed_is_sent_once_it_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("mlflow")
    said: list[str] = []
    tracker = open_tracker("mlflow", tmp_path, SETTINGS, say=said.append)
    (tmp_path / "mlflow").write_text("a file where the folder should be")
    for row in ROWS:
        tracker.log(row["epoch"], row)
    (tmp_path / "mlflow").unlink()
    tracker.close(SUMMARY)
    assert len(said) == 1
    client, (run,) = mlflow_runs((tmp_path / "mlflow").as_uri())
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "sensitivity/ring")] == [0, 1]
    assert run.data.params["model"] == "timm/resnet18"


def test_a_folder_that_cannot_be_written_costs_no_training(tmp_path: Path) -> None:
    need("tensorboard")
    (tmp_path / "run").write_text("a file")
    assert track("tensorboard", tmp_path / "run", ROWS)[0].startswith("warning: track tensorboard: ")


@pytest.mark.parametrize("kind", ["tensorboard", "mlflow"])
def test_a_missing_package_ends_in_one_line_with_the_remedy(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if kind in name.split(".")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(ConfigError, match=rf"track {kind}: .*pip install 'imaging-ft\[track\]'") as caught:
        open_tracker(kind, tmp_path, SETTINGS)
    assert "\n" not in str(caught.value)


def test_without_a_tracker_nothing_is_loaded_or_written(tmp_path: Path) -> None:
    assert track("none", tmp_path, ROWS) == []
    assert list(tmp_path.iterdir()) == []
    heavy = "{'mlflow', 'torch', 'tensorboard'}"
    code = f"import sys, imaging_ft.training.tracking; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_numbers_are_taken_out_of_nested_values() -> None:
    values: Mapping[str, Any] = {
        "a": {"b": 1, "c": {"recall[x]": 0.5}},
        "d": True,
        "e": None,
        "f": float("inf"),
        "g": 2,
    }
    assert tracking._numbers(values) == {"a/b": 1, "a/c/recall/x": 0.5, "g": 2}
