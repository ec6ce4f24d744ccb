"""Files whose bytes depend on their content alone: PNG, DICOM, CSV."""

import csv
import io
import struct
import zlib
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from imaging_ft.data.sample.chest import Film

_BLOCK = 12_000
"""Bytes a deflate block, below the size at which some build of zlib would end one of its own accord."""

DIGITAL_X_RAY_FOR_PRESENTATION = UID("1.2.840.10008.5.1.4.1.1.1.1.1")

WINDOW = {"south": (1950, 3300), "north": (4096 - 1950, 3300)}
"""WindowCenter and WindowWidth: the same picture at both sites, once `north` has been inverted."""


def png(pixels: npt.NDArray[np.uint16]) -> bytes:
    """Return a 16-bit grayscale PNG of [height, width].

    Pillow's bytes depend on the zlib it was built with. Here each pixel is stored as the difference from the
    one to its left (filter 1, Sub), and deflated by Huffman codes alone in blocks of a fixed size:
    what zlib, zlib-ng and their versions have in common.
    """
    raw = pixels.astype(">u2").view(np.uint8)
    change = raw - np.pad(raw, ((0, 0), (2, 0)))[:, :-2]
    rows = np.insert(change, 0, 1, axis=1).tobytes()
    deflate = zlib.compressobj(6, zlib.DEFLATED, 15, 8, zlib.Z_HUFFMAN_ONLY)
    packed = b"".join(
        deflate.compress(rows[start : start + _BLOCK]) + deflate.flush(zlib.Z_FULL_FLUSH)
        for start in range(0, len(rows), _BLOCK)
    )
    height, width = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", packed + deflate.flush()), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def dicom(pixels: npt.NDArray[np.uint16], film: Film) -> bytes:
    """Return a Digital X-Ray Image (for presentation) file of 12-bit values [height, width].

    Stored values of `north` are MONOCHROME1, of `south` MONOCHROME2. Dates and UIDs are fixed: the UIDs are
    `2.25.` and a hash of what they name.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DIGITAL_X_RAY_FOR_PRESENTATION
    meta.MediaStorageSOPInstanceUID = uid("instance", film.name)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = uid("implementation")
    meta.ImplementationVersionName = "IMAGING_FT_1"
    image = Dataset()
    image.file_meta = meta
    _describe(image, film)
    inverted = film.site == "north"
    image.PresentationIntentType = "FOR PRESENTATION"
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    image.PresentationLUTShape = "INVERSE" if inverted else "IDENTITY"
    image.PixelIntensityRelationship = "LOG"
    image.PixelIntensityRelationshipSign = 1 if inverted else -1
    image.Rows, image.Columns = pixels.shape
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.RescaleIntercept, image.RescaleSlope, image.RescaleType = "0", "1", "US"
    image.WindowCenter, image.WindowWidth = (str(value) for value in WINDOW[film.site])
    image.BurnedInAnnotation = "NO"
    image.LossyImageCompression = "00"
    image.PixelData = pixels.astype("<u2").tobytes()
    buffer = io.BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def table(path: Path, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> Path:
    """Write a CSV file with Unix line ends and return its path."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def uid(*names: str) -> UID:
    """Return a UID under 2.25 (ITU-T X.667), from a hash of the names: the same ones give the same UID."""
    digest = sha256("/".join(("imaging_ft", "sample", *names)).encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")


def _describe(image: Dataset, film: Film) -> None:
    """Set who and what was imaged, when and how."""
    date, time = f"2024{film.number:02d}01", "120000"
    image.SpecificCharacterSet = "ISO_IR 192"
    image.ImageType = ["DERIVED", "PRIMARY"]
    image.SOPClassUID, image.SOPInstanceUID = DIGITAL_X_RAY_FOR_PRESENTATION, uid("instance", film.name)
    image.StudyInstanceUID, image.SeriesInstanceUID = uid("study", film.name), uid("series", film.name)
    image.StudyDate = image.AcquisitionDate = image.ContentDate = date
    image.StudyTime = image.AcquisitionTime = image.ContentTime = time
    image.StudyID, image.SeriesNumber, image.InstanceNumber = str(film.number), 1, 1
    image.AccessionNumber, image.ReferringPhysicianName = "", ""
    image.Modality = "DX"
    image.Manufacturer = "imaging_ft phantom"
    image.InstitutionName = film.site
    image.PatientName = f"Phantom^{film.group}"
    image.PatientID, image.PatientSex, image.PatientAge = film.group, film.sex, f"{film.age:03d}Y"
    image.PatientBirthDate = ""
    image.PatientComments = "Synthetic: an analytic phantom, not a person"
    image.ImageComments = "Synthetic radiograph of an analytic phantom; not for diagnosis"
    image.BodyPartExamined, image.ViewPosition, image.ImageLaterality = "CHEST", "PA", "U"
    image.PatientOrientation = ["L", "F"]
    image.KVP = "110"
    image.ExposureInuAs = str(round(2000 * film.exposure))
    image.DistanceSourceToDetector = "1800"
    image.ImagerPixelSpacing = ["3.3", "3.3"]
    image.DetectorType = "DIRECT"
    image.AcquisitionContextSequence = []
    image.AnatomicRegionSequence = [_code("816094009", "SCT", "Chest")]
    image.ViewCodeSequence = [_code("399348003", "SCT", "postero-anterior")]


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code
