"""The files of a form, as clients write it."""

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging_ft.adapters.body import BodyError
from imaging_ft.adapters.form import MOST_FIELDS, files_of

KIND = "multipart/form-data; boundary=edge"


def part(content: bytes, disposition: str = 'form-data; name="image"; filename="a.png"') -> bytes:
    return f"--edge\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + content + b"\r\n"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=300) | st.text("-\r\nedge", max_size=60).map(str.encode), min_size=1, max_size=5))
def test_files_come_back_as_they_were_in_their_order(files: list[bytes]) -> None:
    sent = httpx.Request("POST", "http://here", files=[("image", (f"{n}.png", one)) for n, one in enumerate(files)])
    assert files_of(sent.read(), sent.headers["content-type"], most=5) == files


def test_what_is_no_file_is_allowed_and_not_read() -> None:
    field = part(b"7", 'form-data; name="study"')
    form = field + part(b"pixels") + field * (MOST_FIELDS - 1) + b"--edge--"
    assert files_of(form + b"\r\nafter it", KIND, most=1) == [b"pixels"]


def test_a_header_may_be_written_in_any_case_and_among_others() -> None:
    head = b'--edge\r\nX-One: 1\r\ncontent-DISPOSITION: form-data; name="i"; filename=""\r\nX-Two: 2\r\n\r\n'
    assert files_of(head + b"pixels\r\n--edge--\r\n", KIND, most=1) == [b"pixels"]


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (part(b"1") + b"--edge--", "multipart/form-data", "names no boundary"),
        (b"no form", KIND, "can't be read"),
        (b"", KIND, "cut short"),
        (part(b"1")[:-5], KIND, "cut short"),
        (part(b"1") + b"--edge", KIND, "cut short"),
        (part(b"1", 'form-data; name="study"') + b"--edge--", KIND, "holds no file"),
        (part(b"1") * 3 + b"--edge--", KIND, "over 2 files"),
        (part(b"1", 'form-data; name="study"') * (MOST_FIELDS + 1) + part(b"1") + b"--edge--", KIND, "no files"),
        (b"--edge\r\nno header\r\n\r\n1\r\n--edge--", KIND, "can't be read"),
        (b"--edge\r\n\r\npixels\r\n--edge--", KIND, "holds no file"),
    ],
)
def test_a_form_that_can_t_be_read_says_why(body: bytes, kind: str, message: str) -> None:
    with pytest.raises(BodyError, match=message) as raised:
        files_of(body, kind, most=2)
    assert raised.value.code == 400
