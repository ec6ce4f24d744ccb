"""What is told before a rehearsal's minutes of work."""

from collections.abc import Callable
from pathlib import Path

import pytest

from imaging_ft.errors import RunError
from imaging_ft.training.rehearse import dry_run, rate_search
from imaging_ft.training.settings import TrainSettings


@pytest.mark.parametrize("rehearse", [dry_run, rate_search])
@pytest.mark.parametrize("out", [".", "..", "/"])
def test_a_folder_without_a_name_is_refused_before_the_data_is_read(rehearse: Callable[..., object], out: str) -> None:
    with pytest.raises(RunError, match=r"has no name to call a picture by; write for example --out runs/a"):
        rehearse("no such data", Path(out), TrainSettings())


@pytest.mark.parametrize("rehearse", [dry_run, rate_search])
def test_a_folder_that_cannot_be_written_is_told_before_the_data_is_read(
    rehearse: Callable[..., object], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    nobodys = [path for path in (Path("/proc"),) if path.is_dir()]  # not even the superuser writes there
    for parent in ("file", "file/inside", *nobodys):
        with pytest.raises(RunError, match=r"run\.(samples|rates)\.png: can't be written: "):
            rehearse("no such data", tmp_path / parent / "run", TrainSettings())
