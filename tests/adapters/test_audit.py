"""The audit log: on disk before the answer, whole after a kill at any moment, and any change of it shows."""

import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from imaging_ft.adapters import audit
from imaging_ft.adapters.audit import AuditLog, check_audit
from imaging_ft.errors import InputError, ServiceError

WRITER = """
import sys, threading
from pathlib import Path
from imaging_ft.adapters.audit import AuditLog
log = AuditLog.open(Path(sys.argv[1]))
print("open", flush=True)
def write(place):
    turn = 0
    while True:
        name = f"{place}-{turn}"
        log.append({"request": name, "reason": "é" * (turn % 50)}).result()
        sys.stdout.write(name + "\\n")
        sys.stdout.flush()
        turn += 1
for place in range(4):
    threading.Thread(target=write, args=(place,)).start()
"""


def filled(path: Path, count: int = 6) -> AuditLog:
    log = AuditLog.open(path)
    for future in [log.append({"request": f"r{number}", "label": "a\nb"}) for number in range(count)]:
        future.result(20)
    return log


def test_records_are_on_disk_once_they_are_said_to_be_and_the_chain_holds(tmp_path: Path) -> None:
    log = filled(tmp_path / "a.jsonl")
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 7
    log.close()
    found = check_audit(tmp_path / "a.jsonl")
    assert (found.records, found.problems) == (6, ())
    assert found.first is not None
    assert found.last is not None
    assert found.first <= found.last
    again = filled(tmp_path / "a.jsonl", 2)
    again.close()
    more = check_audit(tmp_path / "a.jsonl")
    assert (more.records, more.problems) == (8, ())
    assert more.chain != found.chain
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl"]


def test_each_log_begins_with_a_head_of_its_own(tmp_path: Path) -> None:
    for name in ("a", "b"):
        AuditLog.open(tmp_path / name).close()
    assert (tmp_path / "a").read_bytes() != (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("seed", range(6))
def test_a_kill_at_any_moment_loses_no_record_that_was_acknowledged(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    acknowledged = [process.stdout.readline().strip() for _ in range(random.Random(seed).randint(1, 200))]
    process.kill()
    acknowledged += [line.strip() for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    process.wait()
    size = path.stat().st_size
    with path.open("r+b") as file:  # and as if the kill had torn a line
        file.truncate(size - random.Random(seed).randint(0, 3) if seed % 2 else size)
    torn = not path.read_bytes().endswith(b"\n")
    log = AuditLog.open(path)
    log.append({"request": "after"}).result(20)
    log.close()
    found = check_audit(path)
    assert found.problems == ()
    kept = [json.loads(line)["request"] for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    assert kept[-1] == "after"
    missing = set(acknowledged) - set(kept)
    assert len(missing) <= (1 if torn else 0), "an acknowledged record is gone"
    assert (tmp_path / "a.jsonl.torn").exists() == torn
    for place in range(4):  # each writer's own records stand in their order
        own = [name for name in kept if name.startswith(f"{place}-")]
        assert own == [f"{place}-{turn}" for turn in range(len(own))]


@pytest.mark.parametrize("change", ["a value", "a line less", "a line twice", "two lines swapped", "a line put in"])
def test_any_change_shows_with_the_number_of_its_line(change: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    filled(path).close()
    lines = path.read_bytes().splitlines(keepends=True)
    if change == "a value":
        lines[3] = lines[3].replace(b'"r2"', b'"r9"')
    elif change == "a line less":
        del lines[3]
    elif change == "a line twice":
        lines.insert(3, lines[3])
    elif change == "two lines swapped":
        lines[3], lines[4] = lines[4], lines[3]
    else:
        lines.insert(3, b'{"request":"mine"}\n')
    path.write_bytes(b"".join(lines))
    found = check_audit(path)
    assert found.problems
    assert found.problems[0].startswith(("line 4", "line 5"))
    with pytest.raises(InputError, match="not continued: line"):
        AuditLog.open(path)


def test_records_cut_off_at_the_end_are_seen_from_a_chain_that_was_noted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    filled(path).close()
    noted = check_audit(path).chain
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-2]))
    found = check_audit(path)
    assert found.problems == ()  # the chain alone can't show it
    assert found.chain != noted


def test_two_processes_never_write_one_log(tmp_path: Path) -> None:
    log = AuditLog.open(tmp_path / "a.jsonl")
    with pytest.raises(InputError, match="another process writes this audit log"):
        AuditLog.open(tmp_path / "a.jsonl")
    log.close()
    AuditLog.open(tmp_path / "a.jsonl").close()


@pytest.mark.parametrize(("content", "message"), [(b"hello\n", "no audit log"), (b'{"a": 1}\n', "no audit log")])
def test_another_file_is_refused_and_left_alone(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(InputError, match=message):
        AuditLog.open(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == content
    with pytest.raises(InputError, match="can't be written"):
        AuditLog.open(tmp_path / "none" / "deep" / ".." / "a" / "b" if os.name == "nt" else Path("/proc/none/a"))


def test_what_the_disk_refuses_is_said_and_the_chain_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    log = filled(path, 2)
    real = audit._sync

    def full(file: object) -> None:
        file.flush()  # pyright: ignore[reportAttributeAccessIssue] - half of it gets there
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(audit, "_sync", full)
    with pytest.raises(ServiceError, match=r"can't be written \(No space left on device\), so nothing is predicted"):
        log.append({"request": "lost"}).result(20)
    monkeypatch.setattr(audit, "_sync", real)
    log.append({"request": "kept"}).result(20)
    log.close()
    found = check_audit(path)
    assert (found.records, found.problems) == (3, ())
    assert "lost" not in path.read_text()


def test_what_comes_at_once_shares_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog.open(tmp_path / "a.jsonl")
    real, count, go = audit._sync, [0], threading.Event()

    def slow(file: object) -> None:
        count[0] += 1
        assert go.wait(20)
        real(file)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(audit, "_sync", slow)
    futures = [log.append({"request": str(number)}) for number in range(100)]
    go.set()
    for future in futures:
        future.result(20)
    log.close()
    assert count[0] < 10
    assert check_audit(tmp_path / "a.jsonl").records == 100


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_the_command_tells_a_changed_log_by_its_exit_code(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    filled(path).close()
    path.write_bytes(path.read_bytes().replace(b'"r2"', b'"r9"'))
    command = [sys.executable, "-m", "imaging_ft", "serve", "--check-audit", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "line 4" in done.stderr
