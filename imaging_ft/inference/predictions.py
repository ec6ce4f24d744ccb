"""Predictions of files, as rows: CSV, JSON lines or Parquet. One bad image is a row with its error, not the end."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import polars as pl

from imaging_ft.bundle import SEPARATOR
from imaging_ft.config import reason
from imaging_ft.errors import ImageError, InputError
from imaging_ft.image import may_be_image, read_image
from imaging_ft.inference.ahead import ahead
from imaging_ft.inference.runner import Runner
from imaging_ft.types import Pixels, Track, silent

_CHUNK = 32
FORMATS = {".csv": "CSV", ".jsonl": "JSON lines", ".ndjson": "JSON lines", ".parquet": "Parquet"}


@dataclass(frozen=True)
class Prediction:
    """What the model says of one image."""

    image: str
    status: Literal["ok", "rejected", "error"]
    label: str | None = None
    """The class; of a multi-label task every class that is said to be there, joined by `|`, or an empty text."""
    probability: float | None = None
    """That class's; of a multi-label task the largest of those said to be there, or of all where none is."""
    probabilities: tuple[float, ...] | None = None
    reason: str | None = None
    """Why there is no label, where there is none."""

    def row(self, labels: list[str], sha256: str) -> dict[str, Any]:
        """Return the prediction as a row of the table; columns are the same for every row."""
        values: Sequence[float | None] = self.probabilities or [None] * len(labels)
        return {
            "image": self.image,
            "status": self.status,
            "label": self.label,
            "probability": self.probability,
            **{f"p_{label}": value for label, value in zip(labels, values, strict=True)},
            "reason": self.reason,
            "model_sha256": sha256,
        }


def find_images(paths: Iterable[Path]) -> list[Path]:
    """Return the image files that paths name: files as given, folders searched through, in a stable order.

    In a folder, files that may be images by their names are taken; hidden ones are not. Raises InputError where
    a path doesn't exist or a folder holds no image.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(
                file
                for file in path.rglob("*")
                if file.is_file()
                and may_be_image(file)
                and not any(part.startswith(".") for part in file.relative_to(path).parts)
            )
            if not inside:
                raise InputError(f"{path}: no images in this folder")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise InputError(f"{path}: no such file or folder")
    return list(dict.fromkeys(found))


def predict_files(runner: Runner, paths: Iterable[Path], *, track: Track = silent) -> Iterator[Prediction]:
    """Yield a prediction for each file, in order; a file that can't be read gives a row with its error."""
    files = list(paths)
    # At most a chunk ahead: a folder may hold more images than fit in memory.
    images = zip(files, ahead(_read, files, workers=2, most=_CHUNK), strict=True)
    for chunk in _batched(track(images, "predicting", len(files)), _CHUNK):
        yield from _predict_chunk(runner, chunk)


def _predict_chunk(runner: Runner, chunk: list[tuple[Path, Pixels | ImageError]]) -> Iterator[Prediction]:
    images = [image for _, image in chunk if not isinstance(image, ImageError)]
    probabilities = runner.predict(images)
    rows = iter(zip(probabilities, runner.bundle.decide(probabilities), strict=True))
    names = runner.bundle.names
    for path, image in chunk:
        if isinstance(image, ImageError):
            yield Prediction(str(path), "error", reason=str(image))
            continue
        values, said = next(rows)
        label = SEPARATOR.join(name for name, there in zip(names, said.tolist(), strict=True) if there)
        probability = float((values[said] if said.any() else values).max())
        yield Prediction(str(path), "ok", label, probability, tuple(values.tolist()))


def check_table(path: Path) -> None:
    """Raise InputError where predictions can't be written to a path, before the work is done."""
    if path.suffix not in FORMATS:
        raise InputError(f"{path}: unknown kind {path.suffix!r}; end it in {', '.join(FORMATS)}")
    if path.is_dir():
        raise InputError(f"{path}: a folder stands where the table should be")


def write_predictions(rows: list[dict[str, Any]], path: Path) -> None:
    """Write rows as CSV, JSON lines or Parquet, by the file's suffix; raises InputError where it can't be written."""
    check_table(path)
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if FORMATS[path.suffix] == "JSON lines":
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            temporary.write_text(lines, encoding="utf-8")
        else:
            table = pl.DataFrame(rows, schema_overrides=_schema(rows), infer_schema_length=None)
            if path.suffix == ".csv":
                table.write_csv(temporary)
            else:
                table.write_parquet(temporary)
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"{path}: can't be written: {reason(error)}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _schema(rows: list[dict[str, Any]]) -> dict[str, type[pl.DataType]]:
    """Return the columns' types, which a column of nulls alone would not tell."""
    text = {"image", "status", "label", "reason", "model_sha256"}
    return {key: pl.String if key in text else pl.Float64 for key in rows[0]} if rows else {}


def _read(path: Path) -> Pixels | ImageError:
    try:
        return read_image(path)
    except ImageError as error:
        return error


def _batched(
    pairs: Iterable[tuple[Path, Pixels | ImageError]], size: int
) -> Iterator[list[tuple[Path, Pixels | ImageError]]]:
    iterator = iter(pairs)
    while chunk := list(islice(iterator, size)):
        yield chunk
