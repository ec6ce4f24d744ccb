"""What a DICOM header records of how an image was taken, and nothing that tells who the patient is."""

import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING, cast

from imaging_ft.config import reason
from imaging_ft.errors import ImageError
from imaging_ft.image._read import one_line
from imaging_ft.image._sniff import PREAMBLE

if TYPE_CHECKING:
    from pydicom import FileDataset

TAGS: dict[str, str] = {
    "modality": "modality",
    "manufacturer": "manufacturer",
    "manufacturer_model": "manufacturer's model",
    "view_position": "view position",
    "body_part": "body part",
    "kvp": "tube voltage (kVp)",
    "exposure_mas": "exposure (mAs)",
    "sex": "patient's sex",
    "age_band": "patient's age (years)",
}
"""The columns that `read_tags` gives, with what they are and their unit."""

_NAMES = {"manufacturer": ("Manufacturer", 64), "manufacturer_model": ("ManufacturerModelName", 64)}
_CODES = {
    "modality": ("Modality", 16),
    "view_position": ("ViewPosition", 16),
    "body_part": ("BodyPartExamined", 16),
}
_SEXES = {"F", "M", "O"}
_AGE = re.compile(r"(\d{1,3})([DWMY])")
_UNITS_A_YEAR = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}
_BANDS = ((0, "0-17"), (18, "18-39"), (40, "40-59"), (60, "60-79"), (80, "80+"))
_OLDEST = 130
_DEFLATED = "1.2.840.10008.1.2.1.99"
_READ = [keyword for keyword, _ in (*_NAMES.values(), *_CODES.values())]
_READ += ["KVP", "Exposure", "ExposureInuAs", "PatientSex", "PatientAge"]


def read_tags(path: Path) -> dict[str, str]:
    """Return what a DICOM file's header says of how the image was taken, by the names of `TAGS`.

    Only these tags are read, and no pixels. A tag that is missing, empty or malformed is left out; of several values
    the first counts. The age is a band of years, and the sex F, M or O; names, dates, identifiers and the station
    are never read. Any other kind of file gives nothing; so does a data set without the DICOM preamble, and a
    deflated one, which is not inflated. Raises ImageError for a file that can't be read, or whose header is damaged.
    """
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError
    from pydicom.filereader import read_file_meta_info

    from imaging_ft.image._quiet import quiet

    if not _is_dicom(path):
        return {}
    try:
        with quiet():
            if read_file_meta_info(path).get("TransferSyntaxUID") == _DEFLATED:
                return {}
            return _columns(dcmread(path, stop_before_pixels=True, force=False, specific_tags=list(_READ)))
    except InvalidDicomError:
        return {}
    except Exception as error:
        # A damaged header makes pydicom raise nearly anything, from struct.error to RecursionError.
        cause = one_line(reason(error)) or type(error).__name__
        raise ImageError(f"{path}: the DICOM header is damaged ({cause}); get a fresh copy of the file") from error


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(PREAMBLE + 4)[PREAMBLE:] == b"DICM"
    except OSError as error:
        raise ImageError(f"{path}: can't be read ({reason(error)}); check the path and its permissions") from error


def _columns(dataset: "FileDataset") -> dict[str, str]:
    found = {name: _text(dataset, keyword, longest) for name, (keyword, longest) in _NAMES.items()}
    found |= {name: _text(dataset, keyword, longest).upper() for name, (keyword, longest) in _CODES.items()}
    sex = _text(dataset, "PatientSex", 16).upper()
    exposure = _number(dataset, "Exposure")
    found |= {
        "kvp": _digits(_number(dataset, "KVP")),
        # In whole mAs a low exposure is 0.
        "exposure_mas": _digits(exposure or _number(dataset, "ExposureInuAs") / 1000),
        "sex": sex if sex in _SEXES else "",
        "age_band": _band(_text(dataset, "PatientAge", 4).upper()),
    }
    return {name: found[name] for name in TAGS if found[name]}


def _text(dataset: "FileDataset", keyword: str, longest: int) -> str:
    """Return a tag's first value on one line; empty where there is none, or it is longer than its kind allows."""
    from pydicom.multival import MultiValue

    try:
        value = dataset.get(keyword)
    except (ValueError, TypeError, LookupError, NotImplementedError, struct.error):
        return ""
    if isinstance(value, MultiValue):
        value = next(iter(cast("MultiValue[object]", value)), None)
    text = one_line(value) if isinstance(value, str) else ""
    return text if len(text) <= longest else ""


def _number(dataset: "FileDataset", keyword: str) -> float:
    """Return a tag's first value as a number above 0, and 0 where it is none.

    It is read from the raw text: pydicom refuses the fractions that some makers write into whole numbers.
    """
    element = dataset.get_item(keyword)
    raw = element.value if element is not None else None
    try:
        number = float(raw.split(b"\\")[0].strip(b" \0")) if isinstance(raw, bytes) else 0.0
    except ValueError:
        return 0.0
    return number if 0 < number < float("inf") else 0.0


def _digits(number: float) -> str:
    return f"{number:.6g}" if number else ""


def _band(age: str) -> str:
    """Return the band of an age string (PS3.5, 6.2: `045Y`, `011M`), empty where it is malformed."""
    match = _AGE.fullmatch(age)
    if match is None:
        return ""
    years = int(match[1]) / _UNITS_A_YEAR[match[2]]
    return next(band for start, band in reversed(_BANDS) if years >= start) if years <= _OLDEST else ""
