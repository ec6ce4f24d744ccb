"""Getting a data set: what its card names is downloaded, checked, unpacked, and put where `train NAME` finds it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from imaging_ft.config import reason
from imaging_ft.data.card import Card, open_card
from imaging_ft.data.fetch import OnBytes, Patience, fetch, no_bytes
from imaging_ft.data.lock import held
from imaging_ft.data.npz import unpack_npz
from imaging_ft.data.places import find_root, folder_name, homes, writable_home
from imaging_ft.data.remote import Remote
from imaging_ft.data.unpack import unpack
from imaging_ft.errors import ArchiveError, DataError
from imaging_ft.types import Json, Track, silent

RECEIPT = ".imaging_ft.json"
"""The file in a data set's folder that says what was downloaded; the folder is complete where it stands."""


@dataclass(frozen=True)
class Plan:
    """What is to be downloaded, and where it goes."""

    argument: str
    card: Card
    root: Path
    there: bool
    """Whether everything is there already."""

    @property
    def bytes(self) -> int | None:
        """How much is to be downloaded, where the card says so for every file."""
        sizes = [remote.bytes for remote in self.card.download]
        return sum(size or 0 for size in sizes) if all(size is not None for size in sizes) else None

    @property
    def is_found(self) -> bool:
        """Whether commands find the data there by the card's name."""
        return self.root.parent in homes()


def plan_get(argument: str, *, into: Path | None = None) -> Plan:
    """Return what `get` would do for a card (a built-in name, NAME@VARIANT, or a YAML file).

    The images go to <into>/<name>, else to $IMAGING_FT_DATA/<name>, else to the user's own data folder. Raises
    DataError where the card's images can't be downloaded (the line says how a person gets them), or where the folder
    is there and holds something else.
    """
    card, card_path = open_card(argument)
    if not card.download:
        raise DataError(_by_hand(argument, card, card_path))
    homes_to_search = (into.expanduser().absolute(),) if into else homes()
    for home in homes_to_search:
        root = home / folder_name(card)
        if root.is_dir() and any(root.iterdir()):
            _refuse_other(root, card, argument)
            return Plan(argument, card, root, there=True)
    home = homes_to_search[0] if into else writable_home()
    return Plan(argument, card, home / folder_name(card), there=False)


def get(
    plan: Plan,
    *,
    patience: Patience | None = None,
    on_bytes: OnBytes = no_bytes,
    track: Track = silent,
    waiting: Callable[[], None] = lambda: None,
) -> Path:
    """Download and unpack what a plan names, and return the folder; one that is complete is left as it is.

    Everything is gathered in <home>/.<name>.part and renamed when it is whole, so that a call that was killed leaves
    no half data set, and the next one goes on where it stopped. A second process waits for the first (`waiting` is
    called once). Raises DataError.
    """
    root = plan.root
    part = root.with_name(f".{root.name}.part")
    with held(root.with_name(f".{root.name}.lock"), waiting=waiting):
        if not (root / RECEIPT).is_file():
            try:
                _prepare_part(plan, part)
                for number, remote in enumerate(plan.card.download):
                    _get_one(remote, part, number, patience, on_bytes, track)
                _finish(plan, part)
            except OSError as error:
                raise DataError(f"{part}: can't be written: {reason(error)}; what is there is kept") from error
    if plan.card.npz is not None and plan.is_found:
        unpack_npz(root / plan.card.npz, track=track)
    return root


def _prepare_part(plan: Plan, part: Path) -> None:
    """Make the folder to gather in; what an earlier call gathered stays only where it's of the same version."""
    version = json.dumps(_receipt(plan.card))
    note = part / "version.json"
    same = (part / "data").is_dir() and note.is_file() and note.read_text() == version
    if part.is_dir() and not same:
        shutil.rmtree(part)
    (part / "data").mkdir(parents=True, exist_ok=True)
    note.write_text(version)


def _get_one(
    remote: Remote, part: Path, number: int, patience: Patience | None, on_bytes: OnBytes, track: Track
) -> None:
    """Bring one file of the card into the gathered data, unless an earlier call has."""
    done = part / f"done-{number}"
    if done.exists():
        return
    arrived = part / f"{number}-{remote.file_name}"
    fetch(remote, arrived, patience=patience, on_bytes=on_bytes)
    folder = part / "data" / remote.into
    folder.mkdir(parents=True, exist_ok=True)
    if remote.unpack == "none":
        arrived.replace(folder / remote.file_name)
    else:
        try:
            unpack(arrived, folder, remote.unpack, track=track)
        except ArchiveError as error:
            arrived.unlink()
            why = str(error).removeprefix(f"{arrived}: ").removesuffix("; get it again")
            raise DataError(
                f"{remote.url}: came as the card says, but is {why}; the file was deleted. Mend the card's url,"
                " checksum or unpack, or tell the publisher"
            ) from error
    done.touch()
    arrived.unlink(missing_ok=True)


def _finish(plan: Plan, part: Path) -> None:
    data = part / "data"
    (data / RECEIPT).write_text(json.dumps(_receipt(plan.card), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if plan.root.is_dir():
        plan.root.rmdir()  # an empty one; Windows doesn't rename over it
    data.replace(plan.root)
    shutil.rmtree(part)


def _receipt(card: Card) -> Json:
    files = [{"url": remote.url, "checksum": ":".join(remote.checksum)} for remote in card.download]
    return {"name": card.name, "files": files, "licence": card.licence, "citation": card.citation}


def _refuse_other(root: Path, card: Card, argument: str) -> None:
    """Raise DataError where a folder isn't what this card's download leaves."""
    remedy = f"move {root} away, or choose another place with --into, and run imaging-ft data get {argument} again"
    try:
        receipt = json.loads((root / RECEIPT).read_text(encoding="utf-8"))
        there = [entry["checksum"] for entry in receipt["files"]]
    except FileNotFoundError as error:
        raise DataError(f"{root}: is there, but was not downloaded by this command; {remedy}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{root / RECEIPT}: can't be read; {remedy}") from error
    if there != [":".join(remote.checksum) for remote in card.download]:
        raise DataError(f"{root}: holds another version than the card names; {remedy}")


def _by_hand(argument: str, card: Card, card_path: Path) -> str:
    """Return why nothing is downloaded, and what a person does instead."""
    where = homes()[0] / folder_name(card)
    try:
        root = find_root(card, card_path, argument)
    except DataError:
        if card.get:
            how = " ".join(card.get.split())
            return f"{argument}: can't be downloaded without you. {how} The data set's folder is {where}"
        return (
            f"{argument}: its card names no download. Put the images into {where} by hand, or write into the card where"
            " they are (root, or download with url and sha256)"
        )
    return (
        f"{argument}: its card names no download, so there is nothing to get; its images are at {root}. If any are"
        " missing, put them there by hand"
    )
