"""DICOM files as pixels: pydicom reads the data set, `_display` makes the values a viewer would show.

Not applied: overlays, display shutters, pixel padding, pixel aspect ratio, presentation states.
"""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread
from pydicom.filereader import read_dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from imaging_ft.errors import ImageError
from imaging_ft.image._display import Lut, Rescale, VoiFunction, Window, display_table
from imaging_ft.image._refusals import check_size
from imaging_ft.image._sniff import PREAMBLE
from imaging_ft.types import Pixels

_READABLE = {ImplicitVRLittleEndian, ExplicitVRLittleEndian}
_FUNCTIONS: dict[str, VoiFunction] = {
    "LINEAR": "LINEAR",
    "LINEAR_EXACT": "LINEAR_EXACT",
    "SIGMOID": "SIGMOID",
}
# The converter that undoes a transfer syntax, by the start of its UID; the first match counts.
_REMEDIES: dict[str, str] = {
    "1.2.840.10008.1.2.1.99": "dcmconv +te IN OUT",
    "1.2.840.10008.1.2.2": "dcmconv +te IN OUT",
    "1.2.840.10008.1.2.4.5": "dcmdjpeg IN OUT",
    "1.2.840.10008.1.2.4.70": "dcmdjpeg IN OUT",
    "1.2.840.10008.1.2.4.8": "dcmdjpls IN OUT",
    "1.2.840.10008.1.2.5": "dcmdrle IN OUT",
}


def decode_dicom(data: bytes) -> Pixels:
    """Return a DICOM file's one image: gray as uint16 [height, width, 1], RGB as uint8 [height, width, 3].

    Gray is the display value on the full 16-bit scale. Raises ImageError (without the path) for what is
    refused on purpose, and lets pydicom's exceptions pass.
    """
    start = PREAMBLE + 4 if data[PREAMBLE : PREAMBLE + 4] == b"DICM" else 0
    # The file meta group is read by itself, so that a compressed data set is refused before it is inflated.
    meta = read_dataset(
        io.BytesIO(data[start:]),
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=lambda tag, _vr, _length: tag >> 16 != 2,
    )
    _check_syntax(meta.get("TransferSyntaxUID"))
    dataset = dcmread(io.BytesIO(data), force=True)
    _check_supported(dataset)
    return _rgb(dataset) if dataset.PhotometricInterpretation == "RGB" else _gray(dataset)


def _check_syntax(syntax: object) -> None:
    if not syntax or syntax in _READABLE:
        return
    uid = UID(str(syntax))
    remedy = next((tool for start, tool in _REMEDIES.items() if uid.startswith(start)), "gdcmconv --raw IN OUT")
    raise ImageError(
        f"the transfer syntax {uid.name} ({uid}) is not supported yet; "
        f"convert it to Explicit VR Little Endian, for example: {remedy}"
    )


def _check_supported(dataset: Dataset) -> None:
    """Raise ImageError for a data set whose pixels aren't one uncompressed gray or RGB image."""
    if "PixelData" not in dataset:
        raise ImageError(
            "there is no PixelData in this DICOM file: it is not an image, or was cut off; "
            "leave it out, or get a fresh copy of it"
        )
    if dataset["PixelData"].is_undefined_length:
        raise ImageError(
            "the pixel data is compressed, but the transfer syntax says it is not; "
            "convert it to Explicit VR Little Endian, for example: gdcmconv --raw IN OUT"
        )
    if not dataset.original_encoding[1]:
        raise ImageError("big endian data are not supported yet; convert it, for example: dcmconv +te IN OUT")
    frames = _whole(dataset, "NumberOfFrames", default=1)
    if frames > 1:
        raise ImageError(f"a multi-frame DICOM ({frames} frames) is not supported yet; save one frame a file")
    if "SharedFunctionalGroupsSequence" in dataset:
        raise ImageError("an enhanced DICOM (functional groups) is not supported yet; convert it to a classic one")
    photometric = str(dataset.get("PhotometricInterpretation"))
    samples = _whole(dataset, "SamplesPerPixel", default=1)
    if (photometric, samples) not in {("MONOCHROME1", 1), ("MONOCHROME2", 1), ("RGB", 3)}:
        raise ImageError(
            f"the photometric interpretation {photometric} with {samples} samples a pixel "
            "is not supported yet; convert it to MONOCHROME2 or RGB"
        )
    check_size(_whole(dataset, "Columns"), _whole(dataset, "Rows"))


def _stored(dataset: Dataset) -> npt.NDArray[np.int32]:
    """Return the stored values in file order, unused bits masked and the sign extended (PS3.5, 8.1.1)."""
    allocated = _whole(dataset, "BitsAllocated")
    if allocated not in {8, 16}:
        raise ImageError(f"BitsAllocated {allocated} is not supported; convert it to 8 or 16")
    bits = _whole(dataset, "BitsStored", default=allocated)
    shift = _whole(dataset, "HighBit", default=bits - 1) + 1 - bits
    if not 1 <= bits <= allocated or not 0 <= shift <= allocated - bits:
        raise ImageError(f"BitsStored {bits} and HighBit {shift + bits - 1} don't fit {allocated}; correct the tags")
    samples = _whole(dataset, "SamplesPerPixel", default=1)
    count = _whole(dataset, "Rows") * _whole(dataset, "Columns") * samples
    data, size = dataset.PixelData, count * allocated // 8
    if len(data) < size:
        raise ImageError(
            f"the DICOM is truncated: the pixel data has {len(data)} bytes, and its header says {size}; "
            "get a fresh copy of it"
        )
    words = np.frombuffer(data, f"<u{allocated // 8}", count=count).astype(np.int32)
    values = (words >> shift) & ((1 << bits) - 1)
    if _signed(dataset):
        values -= (values >> (bits - 1)) << bits
    return values


def _gray(dataset: Dataset) -> Pixels:
    stored = _stored(dataset)
    bits = _whole(dataset, "BitsStored", default=_whole(dataset, "BitsAllocated"))
    low = -(1 << (bits - 1)) if _signed(dataset) else 0
    table = display_table(
        low,
        low + (1 << bits) - 1,
        modality=_modality(dataset),
        voi=_voi(dataset),
        inverted=dataset.PhotometricInterpretation == "MONOCHROME1",
    )
    return table[stored - low].reshape(dataset.Rows, dataset.Columns, 1)


def _rgb(dataset: Dataset) -> Pixels:
    bits = (_whole(dataset, "BitsAllocated"), _whole(dataset, "BitsStored", default=8))
    if bits != (8, 8) or _signed(dataset):
        raise ImageError("RGB is supported with 8 unsigned bits a sample only; convert it to 8 bits")
    planar = _whole(dataset, "PlanarConfiguration", default=0)
    stored = _stored(dataset).astype(np.uint8)
    if planar == 1:
        planes = stored.reshape(3, dataset.Rows, dataset.Columns)
        return np.ascontiguousarray(np.moveaxis(planes, 0, 2))
    return stored.reshape(dataset.Rows, dataset.Columns, 3)


def _modality(dataset: Dataset) -> Rescale | Lut:
    if dataset.get("ModalityLUTSequence"):
        return _lut(dataset.ModalityLUTSequence[0], signed=_signed(dataset))
    return Rescale(
        _number(dataset, "RescaleSlope", default=1.0),
        _number(dataset, "RescaleIntercept", default=0.0),
    )


def _voi(dataset: Dataset) -> Window | Lut | None:
    """Return the VOI LUT, else the first window, else None."""
    if dataset.get("VOILUTSequence"):
        below_zero = _signed(dataset) or _number(dataset, "RescaleIntercept", default=0.0) < 0
        return _lut(dataset.VOILUTSequence[0], signed=below_zero)
    if _first(dataset, "WindowCenter") is None or _first(dataset, "WindowWidth") is None:
        return None
    named = str(dataset.get("VOILUTFunction") or "LINEAR")
    function = _FUNCTIONS.get(named)
    if function is None:
        raise ImageError(f"VOILUTFunction {named} is not known; it must be one of {', '.join(_FUNCTIONS)}")
    center, width = (_number(dataset, tag, default=0.0) for tag in ("WindowCenter", "WindowWidth"))
    return Window(center, width, function)


def _lut(item: Dataset, *, signed: bool) -> Lut:
    """Return a LUT item (C.11.1.1, C.11.2.1.1): LUTDescriptor is the entries, the first value, the bits."""
    entries, first, bits = (int(value) for value in item.LUTDescriptor)
    entries = (entries & 0xFFFF) or 65536
    # The descriptor's VR can't tell the sign of its own first value, so that -1 may arrive as 65535.
    first = first - 65536 if signed and first > 32767 else first
    raw = item.LUTData
    if isinstance(raw, bytes):
        table = np.frombuffer(raw, "u1" if bits <= 8 and len(raw) < 2 * entries else "<u2").astype(np.uint16)
    else:
        table = np.atleast_1d(np.asarray(raw)).astype(np.uint16)
    if len(table) < entries or not 1 <= bits <= 16:
        raise ImageError(f"a LUT has {len(table)} of {entries} entries at {bits} bits; correct or delete its sequence")
    return Lut(first=first, bits=bits, table=table[:entries])


def _signed(dataset: Dataset) -> bool:
    return _whole(dataset, "PixelRepresentation", default=0) == 1


def _first(dataset: Dataset, name: str) -> Any:
    """Return a tag's first value, None where the tag is missing or empty."""
    value = dataset.get(name)
    if value is None or isinstance(value, str | int | float):
        return None if value == "" else value
    return value[0] if len(value) else None


def _number(dataset: Dataset, name: str, *, default: float) -> float:
    value = _first(dataset, name)
    try:
        return default if value is None else float(value)
    except (TypeError, ValueError) as error:
        raise ImageError(f"{name} is {value!r}, which is not a number; correct the tag") from error


def _whole(dataset: Dataset, name: str, *, default: int | None = None) -> int:
    value = _first(dataset, name)
    if value is None:
        if default is None:
            raise ImageError(f"the DICOM tag {name} is missing; get a fresh copy of the file")
        return default
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ImageError(f"{name} is {value!r}, which is not a whole number; correct the tag") from error
