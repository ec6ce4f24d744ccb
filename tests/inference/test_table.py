"""A table in parts: a kill loses little, a second run does the rest, and what is of something else is not used."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from imaging_ft.cli.app import app
from imaging_ft.errors import InputError
from imaging_ft.inference import table as tables
from imaging_ft.inference.table import open_table
from tests.inference.nets import LINEAR, make, noise

ABOUT = {"model_sha256": "a" * 64}


def row(name: str, status: str = "ok") -> dict[str, Any]:
    said = (
        {"label": "a", "probability": 0.5, "p_a": 0.5}
        if status == "ok"
        else {"label": None, "probability": None, "p_a": None}
    )
    return {"image": name, "status": status, **said, "reason": None, "model_sha256": "a" * 64}


def paths(*names: str) -> list[Path]:
    return [Path(name) for name in names]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_what_was_kept_is_not_done_again(suffix: str, tmp_path: Path) -> None:
    out = tmp_path / f"p{suffix}"
    with open_table(out, ABOUT) as table:
        assert list(table.left(paths("1", "2", "3"))) == paths("1", "2", "3")
        table.add(row("1"))
        table.keep()
        table.add(row("2", "error"))
        table.keep()
        table.add(row("3"))  # in memory alone: lost
    assert not out.exists()
    with open_table(out, ABOUT) as table:
        assert table.stored == 2
        assert list(table.left(paths("1", "2", "3"))) == paths("3")
        table.add(row("3"))
        assert table.finish() == {"ok": 2, "rejected": 0, "error": 1}
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    found = {".parquet": pl.read_parquet, ".csv": pl.read_csv, ".jsonl": pl.read_ndjson}[suffix](out)
    assert found["image"].cast(pl.String).to_list() == ["1", "2", "3"]


def test_files_that_came_or_went_meanwhile_are_seen_from_where_they_stand(tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    with open_table(out, ABOUT) as table:
        for name in ("1", "2", "3"):
            table.add(row(name))
            table.keep()
    with open_table(out, ABOUT) as table:
        assert list(table.left(paths("1", "1b", "2", "3"))) == paths("1b", "2", "3")
        for name in ("1b", "2", "3"):
            table.add(row(name))
        table.finish()
    assert pl.read_csv(out)["image"].to_list() == ["1", "1b", "2", "3"]


def test_parts_of_another_model_are_thrown_away(tmp_path: Path) -> None:
    with open_table(tmp_path / "p.csv", ABOUT) as table:
        table.add(row("1"))
        table.keep()
    with open_table(tmp_path / "p.csv", {"model_sha256": "b" * 64}) as table:
        assert list(table.left(paths("1"))) == paths("1")
        assert table.stored == 0


def test_two_runs_never_write_one_table(tmp_path: Path) -> None:
    refused = pytest.raises(InputError, match="another run is writing it")
    with open_table(tmp_path / "p.csv", ABOUT), refused, open_table(tmp_path / "p.csv", ABOUT):
        pass


def test_a_part_is_written_when_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "PART_ROWS", 2)
    with open_table(tmp_path / "p.csv", ABOUT) as table:
        for name in ("1", "2", "3"):
            table.add(row(name))
        assert table.stored == 2


KILLED = """
import os, signal, sys
from imaging_ft.inference import predictions, table
from imaging_ft.__main__ import main
table.PART_ROWS = 4
real = predictions.decided
count = 0
def decided(*given):
    global count
    count += 1
    if count > 10:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*given)
predictions.decided = decided
predictions.CHUNK = 2
sys.argv = ["imaging-ft", "predict", *sys.argv[1:]]
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
def test_a_killed_command_goes_on_where_it_stopped(tmp_path: Path) -> None:
    import cv2

    made = make(LINEAR["pool, flatten, gemm"], tmp_path / "m.onnx")
    images = tmp_path / "images"
    images.mkdir()
    for index in range(14):
        cv2.imwrite(str(images / f"{index:02}.png"), noise((30, 40, 1), seed=index))
    (images / "03.png").write_bytes(b"broken")
    given = [str(made.path), str(images), "-o", str(tmp_path / "p.parquet")]
    done = subprocess.run([sys.executable, "-c", KILLED, *given], capture_output=True, text=True, env=os.environ)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "p.parquet").exists()
    again = CliRunner().invoke(app, ["predict", *given, "--json"])
    assert again.exit_code == 0
    assert "going on after 8 images" in again.stderr
    found = json.loads(again.stdout)
    assert (found["images"], found["rejected"], found["errors"]) == (14, 0, 1)
    whole = tmp_path / "whole.parquet"
    CliRunner().invoke(app, ["predict", *given[:3], str(whole)])
    assert pl.read_parquet(tmp_path / "p.parquet").equals(pl.read_parquet(whole))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "m.onnx", "p.parquet", "whole.parquet"]


def test_ray_gives_the_same_rows_in_the_same_order(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray (the scale extra) isn't installed")
    import cv2

    made = make(LINEAR["pool, flatten, gemm"], tmp_path / "m.onnx")
    images = tmp_path / "images"
    images.mkdir()
    for index in range(70):
        cv2.imwrite(str(images / f"{index:02}.png"), noise((30 + index % 7, 40, 1), seed=index))
    (images / "33.png").write_bytes(b"broken")
    given = ["predict", str(made.path), str(images), "-o"]
    local = CliRunner().invoke(app, [*given, str(tmp_path / "local.parquet")])
    there = CliRunner().invoke(app, [*given, str(tmp_path / "ray.parquet"), "--engine", "ray", "--workers", "2"])
    assert (local.exit_code, there.exit_code) == (0, 0), there.output
    assert pl.read_parquet(tmp_path / "ray.parquet").equals(pl.read_parquet(tmp_path / "local.parquet"))
