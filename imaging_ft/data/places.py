"""Where data sets lie on this machine, and where what is downloaded or unpacked is put."""

import os
from pathlib import Path

from imaging_ft.config import reason
from imaging_ft.data.card import Card
from imaging_ft.errors import DataError

DATA_VARIABLE = "IMAGING_FT_DATA"


def in_words(size: float) -> str:
    """Return a number of bytes for a person: in GB, or below one in MB."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{max(0.0, size) / 1e6:.1f} MB"


def homes() -> tuple[Path, ...]:
    """Return the folders that hold data sets by name: $IMAGING_FT_DATA if it is set, then the user's own.

    The user's own is $XDG_DATA_HOME/imaging_ft, which is ~/.local/share/imaging_ft where that isn't set.
    """
    shared = os.environ.get(DATA_VARIABLE)
    base = os.environ.get("XDG_DATA_HOME")
    own = (Path(base) if base else Path.home() / ".local" / "share") / "imaging_ft"
    return (Path(shared).expanduser().absolute(), own) if shared else (own,)


def writable_home() -> Path:
    """Return the first of the homes that can be written to, made if need be; raises DataError where none can."""
    failures: list[str] = []
    for home in homes():
        try:
            home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            failures.append(f"{home} ({reason(error)})")
            continue
        if os.access(home, os.W_OK | os.X_OK):
            return home
        failures.append(f"{home} (not writable)")
    raise DataError(f"no place for data sets: {', '.join(failures)}; set {DATA_VARIABLE} to a folder of yours")


def folder_name(card: Card) -> str:
    """Return the name of a card's folder in a home; raises DataError where the card's name can't be one."""
    if card.name != Path(card.name).name or card.name.startswith(".") or "\\" in card.name:
        raise DataError(f"the card's name {card.name!r} can't be a folder's; take letters, digits, _ and -")
    return card.name


def find_root(card: Card, card_path: Path, argument: str) -> Path:
    """Return the folder that holds a card's images.

    Raises DataError, with every place that was looked at and the remedy, where it isn't there.
    """
    to_get = bool(card.download or card.get)
    places: list[Path] = []
    if card.root is not None or not to_get:
        places.append((card_path.parent / Path(card.root or ".").expanduser()).resolve())
        if places[0].is_dir():
            return places[0]
    places += [home / folder_name(card) / card.subfolder for home in homes()]
    for place in places:
        if place.is_dir():
            return place
    looked = " or ".join(str(place) for place in places)
    missing = f"the images of dataset {card.name!r} are not at {looked}"
    if to_get:
        how = "get them with" if card.download else "for how to get them see"
        raise DataError(f"{missing}; {how}: imaging-ft data get {argument}")
    raise DataError(f"{missing}; put them there, or set {DATA_VARIABLE} to the folder that holds {card.name}/")
