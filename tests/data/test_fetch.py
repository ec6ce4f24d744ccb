"""A download arrives whole or not at all, over any kind of connection."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from imaging_ft.config import Frozen
from imaging_ft.data.fetch import Patience, fetch
from imaging_ft.data.remote import Remote
from imaging_ft.errors import ConfigError, DataError

CONTENT = bytes(range(256)) * 4096  # 1 MiB
HURRY = Patience(attempts=3, timeout=5, wait=0.001)


def remote(server: Any, content: bytes = CONTENT, **fields: Any) -> Remote:
    digest = hashlib.sha256(content).hexdigest()
    return Remote.checked({"url": server.url("set.zip"), "sha256": digest, **fields}, where="card")


def part_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def test_a_file_arrives_under_its_name_and_leaves_nothing_beside_it(server: Any, tmp_path: Path) -> None:
    server.serve("set.zip", CONTENT)
    seen: list[tuple[str, int, int | None]] = []
    fetch(remote(server), tmp_path / "a.zip", on_bytes=lambda *step: seen.append(step))
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]
    assert seen[-1] == ("set.zip", len(CONTENT), len(CONTENT))
    fetch(remote(server), tmp_path / "a.zip")
    assert len(server.asked) == 1


def test_a_cut_connection_goes_on_where_it_broke(server: Any, tmp_path: Path) -> None:
    served = server.serve("set.zip", CONTENT, cut_after=[300_000, 300_000])
    fetch(remote(server), tmp_path / "a.zip", patience=HURRY)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == [None, "bytes=300000-", "bytes=600000-"]
    assert not served.cut_after


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(server: Any, tmp_path: Path) -> None:
    served = server.serve("set.zip", CONTENT, cut_after=[500_000, 0, 0, 0])
    with pytest.raises(DataError, match="500000 bytes are kept, the same command goes on from there"):
        fetch(remote(server), tmp_path / "a.zip", patience=HURRY)
    assert part_of(tmp_path / "a.zip").stat().st_size == 500_000
    served.cut_after.clear()
    fetch(remote(server), tmp_path / "a.zip", patience=HURRY)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert server.asked[-1][1] == "bytes=500000-"


def test_a_server_without_ranges_starts_again_and_the_file_is_right(server: Any, tmp_path: Path) -> None:
    server.serve("set.zip", CONTENT, ranges=False, cut_after=[700_000])
    fetch(remote(server), tmp_path / "a.zip", patience=HURRY)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


@pytest.mark.parametrize("etag", ['"2"', ""])
def test_a_file_that_changed_meanwhile_is_not_joined_to_the_old_piece(server: Any, tmp_path: Path, etag: str) -> None:
    old = server.serve("set.zip", b"x" * len(CONTENT), cut_after=[400_000, 0, 0, 0], etag='"1"' if etag else "")
    with pytest.raises(DataError):
        fetch(remote(server), tmp_path / "a.zip", patience=HURRY)
    old.cut_after.clear()
    server.serve("set.zip", CONTENT, etag=etag)
    before = len(server.asked)
    fetch(remote(server), tmp_path / "a.zip", patience=HURRY)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    # With an ETag the server sees the change; without one, the checksum shows it, and all is asked for again.
    assert len(server.asked) - before == (1 if etag else 2)


def test_a_weak_etag_is_no_proof_that_the_file_is_the_same(server: Any, tmp_path: Path) -> None:
    server.serve("set.zip", CONTENT, etag='W/"1"', cut_after=[100, 0, 0, 0])
    with pytest.raises(DataError):
        fetch(remote(server), tmp_path / "a.zip", patience=HURRY)
    state = json.loads((tmp_path / "a.zip.part.json").read_text())
    assert state["validator"] == ""


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_a_wrong_checksum_deletes_the_file_and_says_both(server: Any, tmp_path: Path, algorithm: str) -> None:
    server.serve("set.zip", CONTENT[:-1] + b"?")
    expected = hashlib.new(algorithm, CONTENT).hexdigest()
    card = Remote.checked({"url": server.url("set.zip"), algorithm: expected}, where="card")
    with pytest.raises(DataError) as caught:
        fetch(card, tmp_path / "a.zip", patience=HURRY)
    assert expected in str(caught.value)
    assert "the file was deleted" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert len(server.asked) == 1


def test_a_web_page_in_place_of_the_file_is_called_one(server: Any, tmp_path: Path) -> None:
    server.serve("set.zip", b"\n<!DOCTYPE html><html><body>Log in</body></html>")
    with pytest.raises(DataError, match="sends a web page, not the file"):
        fetch(remote(server), tmp_path / "a.zip", patience=HURRY)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_piece_of_an_earlier_call_costs_one_fresh_download(server: Any, tmp_path: Path) -> None:
    server.serve("set.zip", CONTENT)
    part_of(tmp_path / "a.zip").write_bytes(b"?" * 1000)
    fetch(remote(server), tmp_path / "a.zip", patience=HURRY)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_piece_that_is_whole_already_is_only_checked(server: Any, tmp_path: Path) -> None:
    server.serve("set.zip", CONTENT)
    part_of(tmp_path / "a.zip").write_bytes(CONTENT)
    fetch(remote(server), tmp_path / "a.zip", patience=HURRY)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == [f"bytes={len(CONTENT)}-"]


def test_a_length_that_the_body_does_not_reach_is_no_success(server: Any, tmp_path: Path) -> None:
    server.serve("set.zip", CONTENT[:1000], length=2000, ranges=False)
    with pytest.raises(DataError, match="ended after 1000 of 2000 bytes, 3 times in a row"):
        fetch(remote(server, CONTENT[:1000]), tmp_path / "a.zip", patience=HURRY)
    assert not (tmp_path / "a.zip").exists()


def test_a_size_that_is_not_the_cards_is_refused_before_the_body(server: Any, tmp_path: Path) -> None:
    server.serve("set.zip", CONTENT)
    with pytest.raises(DataError, match="the server's file has 1048576 bytes, but the card says 99"):
        fetch(remote(server, bytes=99), tmp_path / "a.zip", patience=HURRY)


def test_a_file_larger_than_the_disk_is_refused_before_it_fills_it(server: Any, tmp_path: Path) -> None:
    server.serve("set.zip", CONTENT, length=10**17)
    with pytest.raises(DataError, match=r"100000000.00 GB are still to come, but .* are free"):
        fetch(remote(server), tmp_path / "a.zip", patience=HURRY)
    assert not part_of(tmp_path / "a.zip").exists()


def test_a_busy_server_is_asked_again_and_a_refusal_is_not(server: Any, tmp_path: Path) -> None:
    served = server.serve("set.zip", CONTENT, statuses=[503, 429])
    fetch(remote(server), tmp_path / "a.zip", patience=HURRY)
    assert len(server.asked) == 3
    served.statuses = [403]
    with pytest.raises(DataError, match="the server says 403 Forbidden"):
        fetch(remote(server), tmp_path / "b.zip", patience=HURRY)
    assert len(server.asked) == 4


def test_a_silent_server_is_left_and_asked_again(server: Any, tmp_path: Path) -> None:
    served = server.serve("set.zip", CONTENT, hold_after=200_000)

    def release(_name: str, have: int, _total: int | None) -> None:
        if have == 200_000:
            served.hold_after = None

    fetch(remote(server), tmp_path / "a.zip", patience=Patience(3, timeout=0.2, wait=0.001), on_bytes=release)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert server.asked[1][1] == "bytes=200000-"


def test_a_redirect_is_followed_with_the_range(server: Any, tmp_path: Path) -> None:
    server.serve("set.zip", b"", moved_to=server.url("there.zip"))
    server.serve("there.zip", CONTENT, cut_after=[300_000])
    fetch(remote(server), tmp_path / "a.zip", patience=HURRY)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert ("/there.zip", "bytes=300000-") in server.asked


@pytest.mark.parametrize("place", ["http://example.org/set.zip", "file:///etc/passwd", "ftp://example.org/set.zip"])
def test_a_redirect_to_an_open_line_or_another_scheme_is_refused(server: Any, tmp_path: Path, place: str) -> None:
    server.serve("set.zip", b"", moved_to=place)
    with pytest.raises(DataError, match=r"(?i)redirect"):
        fetch(remote(server), tmp_path / "a.zip", patience=HURRY)
    assert list(tmp_path.iterdir()) == []


def test_no_server_at_all_is_one_line(server: Any, tmp_path: Path) -> None:
    card = remote(server)
    server.stop()
    with pytest.raises(DataError, match="no connection: Connection refused, 3 times in a row; try again later"):
        fetch(card, tmp_path / "a.zip", patience=HURRY)


def test_the_environments_proxy_is_used(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", f"http://{server.address}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    card = Remote(url="https://example.org/set.zip", sha256="0" * 64)
    with pytest.raises(DataError, match="403"):
        fetch(card, tmp_path / "a.zip", patience=HURRY)
    assert server.asked[0][0] == "example.org:443"


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"url": "http://example.org/a.zip", "md5": "0" * 32}, "write https://"),
        ({"url": "file:///etc/passwd", "md5": "0" * 32}, "no https:// URL"),
        ({"url": "https://me:secret@example.org/a.zip", "md5": "0" * 32}, "no place for secrets"),
        ({"url": "https://example.org/a.zip"}, "no sha256"),
        ({"url": "https://example.org/a.zip", "sha256": "abc"}, "sha256"),
        ({"url": "https://example.org/", "md5": "0" * 32}, "does not end in a file's name"),
        ({"url": "https://example.org/a.zip", "md5": "0" * 32, "into": "../x"}, "plain relative name"),
        ({"url": "https://example.org/a.zip", "md5": "0" * 32, "name": "/etc/passwd"}, "plain relative name"),
        ({"url": "https://example.org/%2e%2e%2fa.zip/..", "md5": "0" * 32}, "does not end in a file's name"),
    ],
)
def test_what_a_card_may_not_say_about_a_download(fields: dict[str, str], what: str) -> None:
    assert issubclass(Remote, Frozen)
    with pytest.raises(ConfigError, match=what) as caught:
        Remote.checked(fields, where="card")
    assert "\n" not in str(caught.value)
