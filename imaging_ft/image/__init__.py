"""Image files as pixels: PNG, JPEG, TIFF, BMP, WebP and DICOM, told apart by content.

One call reads any of them, and every failure is an ImageError of one line, `path: what is wrong; the remedy`:
no decoder's own exception, warning or output on stderr comes through. Importing this package is light; the
decoders are imported by the first image that needs them.
"""

from imaging_ft.image._read import decode_image, read_image
from imaging_ft.image._sniff import SUFFIXES, check_suffix, is_image_name, may_be_image, sniff
from imaging_ft.image._tags import TAGS, read_tags

__all__ = [
    "SUFFIXES",
    "TAGS",
    "check_suffix",
    "decode_image",
    "is_image_name",
    "may_be_image",
    "read_image",
    "read_tags",
    "sniff",
]
