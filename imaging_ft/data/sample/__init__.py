"""The sample data: radiographs of analytic phantoms, the same bytes each time they are written."""

from pathlib import Path

from imaging_ft.config import reason
from imaging_ft.errors import DataError


def write_samples(directory: Path) -> list[Path]:
    """Return the files written: `baggage/` (16-bit PNG), `chest/` (DICOM) and `README.md` in `directory`.

    Files of the same name are replaced. Raises DataError where the directory can't be written.
    """
    from imaging_ft.data.sample import baggage, chest, write

    try:
        for part in ("baggage", "chest"):
            (directory / part / "images").mkdir(parents=True, exist_ok=True)
        written = [directory / "README.md"]
        written[0].write_bytes((Path(__file__).parent / "README.md").read_bytes())
        views, films = list(baggage.views()), list(chest.films())
        for folder, columns, rows in (
            (directory / "baggage", baggage.COLUMNS, [view.row for view in views]),
            (directory / "chest", chest.COLUMNS, [film.row for film in films]),
        ):
            written.append(write.table(folder / "manifest.csv", columns, rows))
        for view in views:
            written.append(directory / "baggage" / view.row[0])
            written[-1].write_bytes(write.png(baggage.radiograph(view)))
        for film in films:
            written.append(directory / "chest" / film.row[0])
            written[-1].write_bytes(write.dicom(chest.radiograph(film), film))
    except OSError as error:
        raise DataError(f"{directory}: the sample data can't be written here: {reason(error)}") from error
    return written
