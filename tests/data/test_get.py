"""`data get` puts a data set where `train` finds it, once, whatever happens on the way."""

import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from imaging_ft.data import load, prepare
from imaging_ft.data.fetch import Patience
from imaging_ft.data.get import RECEIPT, get, plan_get
from imaging_ft.errors import DataError

HURRY = Patience(attempts=2, timeout=5, wait=0.001)


def archive_of_images(make: Any) -> bytes:
    """Return a zip of twelve images in two class folders, one folder deep."""
    make.folder({"cat": 6, "dog": 6})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(make.root.rglob("*.png")):
            archive.write(path, f"pets-v1/{path.relative_to(make.root)}")
    return buffer.getvalue()


def npz_bytes(seed: int = 0) -> bytes:
    rng = np.random.default_rng(seed)
    arrays = {}
    for split, count in (("train", 12), ("val", 4), ("test", 4)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 9, 9), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % 2).astype(np.uint8)[:, None]
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def write_card(path: Path, server: Any, content: bytes, file: str = "pets.zip", **fields: Any) -> Path:
    """Write a card called pets that downloads one file."""
    remote = {"url": server.url(file), "sha256": hashlib.sha256(content).hexdigest()}
    remote |= {"unpack": "zip"} if file.endswith(".zip") else {}
    card = {"name": "pets", "download": [remote], "licence": "CC0-1.0", "citation": "Nobody, 2024.", **fields}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(card))
    return path


@pytest.fixture
def pets(server: Any, make: Any, tmp_path: Path) -> str:
    """A card whose archive the server has."""
    content = archive_of_images(make)
    server.serve("pets.zip", content)
    return str(write_card(tmp_path / "cards" / "pets.yaml", server, content, subfolder="pets-v1"))


def run(*arguments: str | Path, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "imaging_ft", "data", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "80", **variables},
    )


def test_before_it_is_got_every_command_names_the_remedy(pets: str, home: Path) -> None:
    with pytest.raises(DataError) as caught:
        prepare(pets)
    assert f"get them with: imaging-ft data get {pets}" in str(caught.value)
    assert str(home / "pets") in str(caught.value)


def test_what_was_got_is_found_by_name_and_nothing_else_is_left(pets: str, home: Path) -> None:
    plan = plan_get(pets)
    assert (plan.there, plan.root, plan.is_found) == (False, home / "pets", True)
    assert get(plan, patience=HURRY) == home / "pets"
    assert prepare(pets).labels == ("cat", "dog")
    assert sorted(path.name for path in home.iterdir()) == [".pets.lock", "pets"]
    assert "CC0-1.0" in (home / "pets" / RECEIPT).read_text()


def test_a_second_call_downloads_nothing(pets: str, home: Path, server: Any) -> None:
    get(plan_get(pets), patience=HURRY)
    again = plan_get(pets)
    assert again.there
    get(again, patience=HURRY)
    assert len(server.asked) == 1


def test_another_folder_is_left_alone(pets: str, home: Path) -> None:
    (home / "pets").mkdir(parents=True)
    (home / "pets" / "mine.txt").touch()
    with pytest.raises(DataError, match="was not downloaded by this command; move"):
        plan_get(pets)
    assert [path.name for path in (home / "pets").iterdir()] == ["mine.txt"]


def test_a_newer_version_is_not_taken_for_the_old(pets: str, home: Path, server: Any, tmp_path: Path) -> None:
    get(plan_get(pets), patience=HURRY)
    write_card(Path(pets), server, b"other")
    with pytest.raises(DataError, match="holds another version than the card names"):
        plan_get(pets)


def test_into_names_the_folder_of_folders(pets: str, home: Path, tmp_path: Path, monkeypatch: Any) -> None:
    plan = plan_get(pets, into=tmp_path / "disk")
    assert get(plan, patience=HURRY) == tmp_path / "disk" / "pets"
    assert not plan.is_found
    with pytest.raises(DataError, match="imaging-ft data get"):
        load(pets)
    monkeypatch.setenv("IMAGING_FT_DATA", str(tmp_path / "disk"))
    assert len(load(pets).samples) == 12


def test_without_the_variable_it_lies_in_the_users_data_folder(pets: str, home: Path, monkeypatch: Any) -> None:
    monkeypatch.delenv("IMAGING_FT_DATA")
    assert get(plan_get(pets), patience=HURRY) == home.parent / "own" / "imaging_ft" / "pets"
    monkeypatch.setenv("IMAGING_FT_DATA", str(home))
    assert len(load(pets).samples) == 12


def test_a_wrong_checksum_leaves_no_data_set(pets: str, home: Path, server: Any) -> None:
    server.serve("pets.zip", b"not the archive")
    with pytest.raises(DataError, match="SHA-256"):
        get(plan_get(pets), patience=HURRY)
    assert not (home / "pets").exists()


def test_an_archive_with_an_evil_name_leaves_no_data_set(home: Path, server: Any, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../evil.txt", "x")
    server.serve("pets.zip", buffer.getvalue())
    card = write_card(tmp_path / "pets.yaml", server, buffer.getvalue())
    with pytest.raises(DataError, match="leads out of the folder"):
        get(plan_get(str(card)), patience=HURRY)
    assert not (home / "pets").exists()
    assert not list(tmp_path.rglob("evil.txt"))


def test_several_files_are_taken_up_where_one_failed(home: Path, server: Any, make: Any, tmp_path: Path) -> None:
    images, table = archive_of_images(make), b"image,label\n"
    card = tmp_path / "pets.yaml"
    files = [("pets.zip", images, {"unpack": "zip"}), ("table.csv", table, {"into": "tables", "name": "labels.csv"})]
    download = [{"url": server.url(n), "sha256": hashlib.sha256(c).hexdigest(), **more} for n, c, more in files]
    card.write_text(yaml.safe_dump({"name": "pets", "download": download}))
    server.serve("pets.zip", images)
    with pytest.raises(DataError, match="404"):
        get(plan_get(str(card)), patience=HURRY)
    server.serve("table.csv", table)
    get(plan_get(str(card)), patience=HURRY)
    assert (home / "pets" / "tables" / "labels.csv").read_bytes() == table
    assert [path for path, _ in server.asked] == ["/pets.zip", "/table.csv", "/table.csv"]


def test_what_was_gathered_of_an_older_version_is_not_mixed_in(home: Path, server: Any, tmp_path: Path) -> None:
    card = write_card(tmp_path / "pets.yaml", server, b"old", "old.bin")
    fields = yaml.safe_load(card.read_text())
    gone = {"url": server.url("gone.bin"), "sha256": "0" * 64}
    card.write_text(yaml.safe_dump(fields | {"download": [*fields["download"], gone]}))
    server.serve("old.bin", b"old")
    with pytest.raises(DataError, match="404"):
        get(plan_get(str(card)), patience=HURRY)
    server.serve("new.bin", b"new")
    write_card(card, server, b"new", "new.bin")
    get(plan_get(str(card)), patience=HURRY)
    assert sorted(path.name for path in (home / "pets").iterdir()) == [RECEIPT, "new.bin"]


def test_what_is_left_of_a_call_that_died_at_its_end_does_no_harm(pets: str, home: Path) -> None:
    get(plan_get(pets), patience=HURRY)
    (home / ".pets.part").mkdir()
    (home / ".pets.part" / "done-0").touch()
    shutil.rmtree(home / "pets")
    get(plan_get(pets), patience=HURRY)
    assert len(load(pets).samples) == 12


def test_two_processes_at_once_download_it_once(pets: str, home: Path, server: Any) -> None:
    server.files["/pets.zip"].hold_after = 1000
    first = run("get", pets)
    until(lambda: bool(server.asked), "the first process asks")
    second = run("get", pets)
    assert second.stderr is not None
    lines = []
    while "waiting" not in "".join(lines):
        lines.append(second.stderr.readline())
        assert lines[-1], "".join(lines)
    server.files["/pets.zip"].released.set()
    for process in (first, second):
        out, error = process.communicate(timeout=60)
        assert process.returncode == 0, error
        assert out.strip() == str(home / "pets")
    assert len(server.asked) == 1
    assert len(load(pets).samples) == 12


def test_a_killed_download_goes_on_where_it_was(home: Path, server: Any, tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(3_000_000)
    served = server.serve("pets.bin", content, hold_after=2_000_000)
    card = write_card(tmp_path / "pets.yaml", server, content, "pets.bin")
    part = home / ".pets.part" / "0-pets.bin.part"
    process = run("get", card)
    until(lambda: part.exists() and part.stat().st_size > 1_900_000, "two thirds have arrived")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    served.hold_after = None
    assert not (home / "pets").exists()
    kept = part.stat().st_size
    process = run("get", card)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    assert (home / "pets" / "pets.bin").read_bytes() == content
    assert server.asked[-1][1] == f"bytes={kept}-"
    assert out.strip() == str(home / "pets")


def until(reached: Any, what: str) -> None:
    """Wait for another process, a minute at most."""
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline, f"never: {what}"
        threading.Event().wait(0.01)


def test_the_command_says_what_comes_under_which_licence_before_it_starts(pets: str, home: Path) -> None:
    process = run("get", pets)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    assert out.strip() == str(home / "pets")
    assert "licence: CC0-1.0" in error
    assert "citation: Nobody, 2024." in error
    assert f"next: imaging-ft data check {pets}" in error
    again = run("get", pets)
    assert "pets: already there" in again.communicate(timeout=60)[1]


def test_the_command_fails_with_one_line_and_code_2(home: Path, server: Any, tmp_path: Path) -> None:
    card = write_card(tmp_path / "pets.yaml", server, b"x")
    process = run("get", card)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "404 Not Found" in error.splitlines()[-1]
    assert "Traceback" not in error


def test_a_card_without_a_download_says_how_a_person_gets_the_images(home: Path) -> None:
    with pytest.raises(DataError) as caught:
        plan_get("chestxray14")
    assert "https://nihcc.app.box.com/v/ChestXray-NIHCC" in str(caught.value)
    assert str(home / "chestxray14") in str(caught.value)
    with pytest.raises(DataError, match=r"there is nothing to get; its images are at .* put them there by hand"):
        plan_get("baggage")

    card = home.parent / "bare.yaml"
    card.write_text("name: bare\nroot: nowhere\n")
    with pytest.raises(DataError, match=r"names no download\. Put the images into .* by hand, or write into the card"):
        plan_get(str(card))


def test_an_archive_that_is_refused_is_deleted_and_asked_for_again(home: Path, server: Any, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../evil.png", b"x")
    server.serve("pets.zip", buffer.getvalue())
    card = str(write_card(tmp_path / "pets.yaml", server, buffer.getvalue()))
    for asked in (1, 2):
        with pytest.raises(DataError, match="came as the card says, but is not unpacked: the entry") as caught:
            get(plan_get(card), patience=HURRY)
        assert "Mend the card's url, checksum or unpack" in str(caught.value)
        assert len(server.asked) == asked
        assert [path.name for path in (home / ".pets.part").rglob("*.zip*")] == []
    assert not list(tmp_path.rglob("evil*"))


def test_a_name_that_would_lead_elsewhere_is_refused(home: Path, server: Any, tmp_path: Path) -> None:
    card = write_card(tmp_path / "pets.yaml", server, b"x", name="../pets")
    with pytest.raises(DataError, match="can't be a folder's"):
        plan_get(str(card))


def test_an_npz_that_was_got_is_unpacked_and_used_by_name(home: Path, server: Any, tmp_path: Path) -> None:
    content = npz_bytes()
    server.serve("pets.npz", content)
    fields = {"layout": "npz", "npz": "pets.npz", "labels": ["cat", "dog"], "task": "binary"}
    card = str(write_card(tmp_path / "pets.yaml", server, content, "pets.npz", **fields))
    get(plan_get(card), patience=HURRY)
    assert len(list((home / ".unpacked").glob("*/train/*.png"))) == 12
    data = prepare(card)
    assert (data.labels, len(data.samples), data.declared) == (("cat", "dog"), 20, True)


def test_a_variant_is_a_data_set_of_its_own(home: Path, server: Any, tmp_path: Path) -> None:
    small, large = npz_bytes(0), npz_bytes(1)
    server.serve("pets.npz", small)
    server.serve("pets_64.npz", large)
    variant = {"url": server.url("pets_64.npz"), "sha256": hashlib.sha256(large).hexdigest()}
    fields = {"layout": "npz", "npz": "pets.npz", "labels": ["cat", "dog"]}
    fields["variants"] = {"64": {"npz": "pets_64.npz", "download": [variant]}}
    card = str(write_card(tmp_path / "pets.yaml", server, small, "pets.npz", **fields))
    assert get(plan_get(f"{card}@64"), patience=HURRY) == home / "pets@64"
    assert load(f"{card}@64").card.name == "pets@64"
    with pytest.raises(DataError, match="data get"):
        load(card)
