"""The files of a form, out of a body that is in memory already: nothing of an image goes into a temporary file."""

from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from imaging_ft.adapters.body import BodyError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MOST_FIELDS = 16
"""Parts of a form that are no files, at most: they are allowed, and not read."""
_DISPOSITION = b"content-disposition"


def files_of(body: bytes, content_type: str, *, most: int) -> list[bytes]:
    """Return the files in a body, in their order; its content type names the boundary.

    Raises BodyError where the form can't be read, holds no file, or more than `most`.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise BodyError(400, "the form can't be read: its content-type names no boundary")
    form = _Form(most)
    try:
        parser = MultipartParser(boundary, form.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise BodyError(400, f"the form can't be read: {error}") from error
    if not form.ended:
        raise BodyError(400, "the form can't be read: it is cut short")
    if not form.files:
        raise BodyError(400, "the form holds no file; send the image's as 'image'")
    return form.files


class _Form:
    """What a parser tells of a form; it tells a header or a file in pieces where it likes."""

    def __init__(self, most: int) -> None:
        self.files: list[bytes] = []
        self.ended = False
        self._most = most
        self._fields = 0
        self._name = self._value = self._disposition = b""
        self._file: list[bytes] | None = None
        """Slices of the file that is being read; None in a field."""

    def callbacks(self) -> "MultipartCallbacks":
        """Return what python_multipart calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._take_name,
            "on_header_value": self._take_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._decide,
            "on_part_data": self._take,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._disposition, self._file = b"", None

    def _take_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _take_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._name.lower() == _DISPOSITION:
            self._disposition = self._value
        self._name = self._value = b""

    def _decide(self) -> None:
        if b"filename" in parse_options_header(self._disposition)[1]:
            if len(self.files) == self._most:
                raise BodyError(400, f"the form holds over {self._most} files; send fewer at once")
            self._file = []
            return
        self._fields += 1
        if self._fields > MOST_FIELDS:
            raise BodyError(400, f"the form holds over {MOST_FIELDS} fields that are no files; leave them out")

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.append(data[start:end])

    def _end_part(self) -> None:
        if self._file is not None:
            self.files.append(b"".join(self._file))

    def _end(self) -> None:
        self.ended = True
