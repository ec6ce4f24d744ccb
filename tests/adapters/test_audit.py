"""The audit log: on disk before the answer, whole after a kill at any moment, and any change of it shows."""

import asyncio
import json
import random
import subprocess
import sys
import threading
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from imaging_ft.adapters import audit
from imaging_ft.adapters.audit import AuditLog, check_audit
from imaging_ft.errors import InputError, ServiceError

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no forkserver and no limits of a process")
KILLS = 24


def write_for_ever(path: Path, told: Connection, turn: int, size: int) -> None:
    """Four threads that tell of each record once it is said to be on disk."""
    log = AuditLog.open(path)
    speaking = threading.Lock()

    def work(place: int) -> None:
        for number in range(1 << 30):
            name = f"{turn}-{place}-{number}"
            log.append({"request": name, "reason": "é" * size}).result()
            with speaking:
                told.send(name)

    for place in range(4):
        threading.Thread(target=work, args=(place,)).start()


def write_past_a_limit(path: Path, told: Connection) -> None:
    """A file that may grow by half a record is what a full disk is."""
    import resource

    log = AuditLog.open(path)
    log.append({"request": "before"}).result(20)
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 60, most))
    failed = [log.append({"request": f"lost {number}"}) for number in range(3)]
    told.send([str(future.exception(20)) for future in failed])
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    log.append({"request": "after"}).result(20)
    log.close()
    told.send("done")


def requests(path: Path) -> list[str]:
    return [json.loads(line)["request"] for line in path.read_text(encoding="utf-8").splitlines()[1:]]


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


@posix
@pytest.mark.parametrize("size", [20, 60_000])
def test_kills_at_any_moments_lose_no_record_that_was_acknowledged(size: int, tmp_path: Path) -> None:
    path, random_ = tmp_path / "a.jsonl", random.Random(size)
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    acknowledged: list[str] = []
    for turn in range(KILLS):
        told, tell = context.Pipe(duplex=False)
        process = context.Process(target=write_for_ever, args=(path, tell, turn, size))
        process.start()
        tell.close()
        wanted = random_.choice((0, 1, random_.randint(2, 60)))
        got = 0
        while True:
            if got == wanted:
                process.kill()
            try:
                acknowledged.append(told.recv())
            except (EOFError, OSError):
                break
            got += 1
        process.join()
        assert process.exitcode == -9
    AuditLog.open(path).close()
    assert check_audit(path).problems == ()
    kept = requests(path)
    assert set(acknowledged) <= set(kept)
    assert len(set(kept)) == len(kept)
    for turn in range(KILLS):  # each writer's own records stand in their order
        for place in range(4):
            own = [name for name in kept if name.startswith(f"{turn}-{place}-")]
            assert own == [f"{turn}-{place}-{number}" for number in range(len(own))]


def test_what_a_kill_left_of_a_line_is_set_aside_wherever_it_tore(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = tmp_path / "whole.jsonl"
    filled(whole, 2).close()
    data = whole.read_bytes()
    ends = [place + 1 for place, byte in enumerate(data) if byte == ord("\n")]
    near = {end + by for end in ends for by in (-2, -1, 0, 1)}
    for cut in sorted({*range(1, len(data), 11), *near} & {*range(1, len(data))}):
        path, aside = tmp_path / "a.jsonl", tmp_path / "a.jsonl.torn"
        path.write_bytes(data[:cut])
        caplog.clear()
        log = AuditLog.open(path)
        log.append({"request": "after"}).result(20)
        log.close()
        kept = max((end for end in ends if end <= cut), default=0)
        assert path.read_bytes().startswith(data[:kept])
        assert check_audit(path).problems == ()
        assert requests(path) == [f"r{number}" for number in range(ends.index(kept) if kept else 0)] + ["after"]
        if cut in ends:
            assert not aside.exists()
            assert not caplog.records
        else:
            assert aside.read_bytes() == data[kept:cut] + b"\n"
            assert [record.levelname for record in caplog.records] == ["WARNING"]
            aside.unlink()


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


@pytest.mark.parametrize(
    "line",
    [b'{"request":"mine","chain":"" }', b"[" * 100_000, b'{"request":1,"chain":"\\ud800"}', b"\xff\xfe", b"", b"{}"],
)
def test_a_line_put_in_is_the_only_one_that_is_named(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    filled(path).close()
    lines = path.read_bytes().splitlines(keepends=True)
    for place in (4, len(lines)):
        path.write_bytes(b"".join([*lines[:place], line + b"\n", *lines[place:]]))
        assert check_audit(path).problems == (f"line {place + 1} is no record",)


def test_a_log_that_was_changed_is_left_as_it_is_with_its_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    filled(path).close()
    changed = path.read_bytes().replace(b'"r2"', b'"r9"')[:-5]
    path.write_bytes(changed)
    with pytest.raises(InputError, match="not continued: line 4"):
        AuditLog.open(path)
    assert path.read_bytes() == changed
    assert [problem[:6] for problem in check_audit(path).problems] == ["line 4", "line 7"]


def test_records_cut_off_at_the_end_are_seen_from_a_chain_that_was_noted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    filled(path).close()
    noted = check_audit(path).chain
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-2]))
    found = check_audit(path)
    assert found.problems == ()  # the chain alone can't show it
    assert found.chain != noted


def test_two_processes_never_write_one_log_under_whatever_name(tmp_path: Path) -> None:
    log = AuditLog.open(tmp_path / "a.jsonl")
    names = [tmp_path / "a.jsonl"]
    if sys.platform != "win32":
        names.append(tmp_path / "link")
        names[-1].symlink_to(names[0])
    for name in names:
        with pytest.raises(InputError, match="another process writes this audit log"):
            AuditLog.open(name)
    log.close()
    AuditLog.open(names[-1]).close()
    assert check_audit(tmp_path / "a.jsonl").problems == ()


@pytest.mark.parametrize("content", [b"hello\n", b"hello", b'{"a": 1}\n', b"\x08\x07weights\nand more"])
def test_another_file_is_refused_and_left_alone(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(InputError, match="no audit log"):
        AuditLog.open(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    with pytest.raises(InputError, match="no audit log"):
        check_audit(tmp_path / "a")


def test_what_is_no_place_for_a_log_is_refused_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="an audit log is a file"):
        AuditLog.open(tmp_path)
    (tmp_path / "a").touch()
    with pytest.raises(InputError, match="can't be written"):
        AuditLog.open(tmp_path / "a" / "b")
    with pytest.raises(InputError, match="no whole line"):  # all of it was cut off
        check_audit(tmp_path / "a")


@posix
def test_a_full_disk_is_said_and_the_chain_goes_on_once_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    context = get_context("forkserver")
    told, tell = context.Pipe(duplex=False)
    process = context.Process(target=write_past_a_limit, args=(path, tell))
    process.start()
    tell.close()
    why = "the audit log can't be written (File too large), so nothing is predicted"
    assert told.recv() == [why] * 3
    assert told.recv() == "done"
    process.join()
    assert requests(path) == ["before", "after"]
    assert check_audit(path).problems == ()


def test_what_the_disk_refuses_to_keep_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.jsonl"
    log = filled(path, 2)

    def broken(descriptor: int) -> None:  # what fsync says of a disk that no test can break
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(audit, "_sync", broken)
        for _ in range(3):
            with pytest.raises(ServiceError, match=r"can't be written \(Input/output error\), so nothing is predicted"):
                log.append({"request": "lost"}).result(20)
        assert len(caplog.records) == 1
    log.append({"request": "kept"}).result(20)
    log.close()
    assert requests(path) == ["r0", "r1", "kept"]
    assert check_audit(path).problems == ()


@posix
def test_a_log_whose_file_was_moved_away_or_written_by_others_takes_no_record(tmp_path: Path) -> None:
    path, aside = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    log = filled(path, 1)
    path.rename(aside)
    with pytest.raises(ServiceError, match="its file was moved or removed"):
        log.append({"request": "lost"}).result(20)
    path.touch()
    with pytest.raises(ServiceError, match="its file was moved or removed"):
        log.append({"request": "lost"}).result(20)
    aside.rename(path)
    log.append({"request": "kept"}).result(20)
    assert requests(path) == ["r0", "kept"]
    with path.open("ab") as file:
        file.write(b"mine\n")
    with pytest.raises(ServiceError, match="another program changed its file"):
        log.append({"request": "lost"}).result(20)
    log.close()
    assert path.read_bytes().endswith(b"mine\n")


def test_a_request_that_is_given_up_is_recorded_and_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog.open(tmp_path / "a.jsonl")
    real, writing, go = audit._sync, threading.Event(), threading.Event()

    def slow(descriptor: int) -> None:
        writing.set()
        assert go.wait(20)
        real(descriptor)

    monkeypatch.setattr(audit, "_sync", slow)

    async def give_up() -> None:
        waiting = asyncio.ensure_future(asyncio.wrap_future(log.append({"request": "given up"})))
        await asyncio.to_thread(writing.wait, 20)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(give_up())
    go.set()
    log.append({"request": "next"}).result(20)
    log.close()
    assert requests(tmp_path / "a.jsonl") == ["given up", "next"]


def test_a_record_that_is_no_json_fails_alone(tmp_path: Path) -> None:
    log = AuditLog.open(tmp_path / "a.jsonl")
    with pytest.raises(TypeError):
        log.append({"request": object()})
    with pytest.raises(ValueError, match="not JSON compliant"):
        log.append({"probability": float("nan")})
    log.append({"request": "a file's name \udc80, and é"}).result(20)
    log.close()
    assert requests(tmp_path / "a.jsonl") == ["a file's name \udc80, and é"]
    assert check_audit(tmp_path / "a.jsonl").problems == ()


def test_what_was_given_before_the_end_is_written_and_nothing_after_it(tmp_path: Path) -> None:
    log = AuditLog.open(tmp_path / "a.jsonl")
    futures = [log.append({"request": str(number)}) for number in range(50)]
    log.close()
    log.close()
    assert all(future.done() for future in futures)
    assert len(requests(tmp_path / "a.jsonl")) == 50
    with pytest.raises(ServiceError, match="the service is stopping"):
        log.append({"request": "late"})


def test_what_comes_at_once_shares_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog.open(tmp_path / "a.jsonl")
    real, count, go = audit._sync, [0], threading.Event()

    def slow(descriptor: int) -> None:
        count[0] += 1
        assert go.wait(20)
        real(descriptor)

    monkeypatch.setattr(audit, "_sync", slow)
    futures = [log.append({"request": str(number)}) for number in range(100)]
    assert not any(future.done() for future in futures)  # before fsync
    go.set()
    for future in futures:
        future.result(20)
    log.close()
    assert 1 <= count[0] < 10
    assert check_audit(tmp_path / "a.jsonl").records == 100


def test_the_command_tells_a_changed_log_by_its_exit_code(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    filled(path).close()
    path.write_bytes(path.read_bytes().replace(b'"r2"', b'"r9"'))
    command = [sys.executable, "-m", "imaging_ft", "serve", "--check-audit", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "line 4" in done.stderr
