"""Image files written by Pillow, OpenCV and pydicom, for the tests of reading them."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20260401)


@pytest.fixture
def write_dicom(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes an array (gray or RGB) as a DICOM file with the tags given."""

    def write(pixels: Any, *, name: str = "x.dcm", **tags: Any) -> Path:
        path = tmp_path / name
        path.write_bytes(_dicom(pixels, **tags))
        return path

    return write


@pytest.fixture
def make_dicom() -> Callable[..., bytes]:
    """Return the function that gives an array as the bytes of a DICOM file."""
    return _dicom


@pytest.fixture
def lut_sequence() -> Callable[..., Sequence]:
    """Return a function that gives a modality or VOI LUT sequence of one item."""

    def make(first: int, bits: int, table: list[int], *, vr: str = "US") -> Sequence:
        item = Dataset()
        item.add_new("LUTDescriptor", vr, [len(table) % 65536, first, bits])
        item.add_new("LUTData", "US", table)
        return Sequence([item])

    return make


def _dicom(pixels: Any, *, syntax: str = ExplicitVRLittleEndian, **tags: Any) -> bytes:
    """Return a DICOM file's bytes; a tag given as None is left out."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3.4")
    dataset.SOPClassUID, dataset.SOPInstanceUID = DigitalXRayImageStorageForPresentation, "1.2.3.4"
    dataset.PatientID = "synthetic"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    dataset.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    dataset.BitsAllocated = dataset.BitsStored = pixels.dtype.itemsize * 8
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    data = pixels.tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OW" if pixels.dtype.itemsize == 2 else "OB"
    for tag, value in tags.items():
        if value is None:
            delattr(dataset, tag)
        else:
            setattr(dataset, tag, value)
    if "HighBit" not in dataset:
        dataset.HighBit = dataset.BitsStored - 1
    file = io.BytesIO()
    pydicom.dcmwrite(
        file,
        dataset,
        implicit_vr=UID(syntax).is_implicit_VR,
        little_endian=True,
        enforce_file_format=True,
    )
    return file.getvalue()
