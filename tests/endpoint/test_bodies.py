import pytest
from fastapi import HTTPException

from cxr.endpoint.bodies import Upload, body_of

FORM = "multipart/form-data; boundary=x"


def part(data: bytes, *options: str) -> bytes:
    disposition = "; ".join(["form-data", *options])
    return f"--x\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + data + b"\r\n"


def received(content_type: str, *pieces: bytes, most: int = 3) -> list[Upload]:
    body = body_of(content_type, "images", most)
    for piece in pieces:
        body.feed(piece)
    return body.finish()


def refused(content_type: str, *pieces: bytes) -> tuple[int, str]:
    with pytest.raises(HTTPException) as refusal:
        received(content_type, *pieces)
    return refusal.value.status_code, refusal.value.detail


def test_a_body_of_an_images_type_is_one_image_without_a_name() -> None:
    for content_type in ("image/png", "IMAGE/PNG", "application/dicom; x=1", "application/octet-stream"):
        assert received(content_type, b"ab", b"c") == [Upload("0", b"abc")]


def test_each_part_of_a_form_is_an_image_wherever_its_bytes_are_cut() -> None:
    data = b"\r\n--y\r\n\x00--x\r\n-"
    whole = part(data, 'name="images"', 'filename="a.png"') + part(b"2", 'name="images"', 'filename=""') + b"--x--\r\n"
    expected = [Upload("a.png", data), Upload("1", b"2")]
    assert received(FORM, whole) == expected
    for cut in range(1, len(whole)):
        assert received(FORM, whole[:cut], whole[cut:]) == expected
    assert received(FORM, *(whole[k : k + 1] for k in range(len(whole)))) == expected


def test_a_file_name_is_made_harmless() -> None:
    name = 'filename="\x1b[31m\xe9\\"é.png"'
    (upload,) = received(FORM, part(b"1", 'name="images"', name) + b"--x--\r\n")
    assert upload.name.startswith("\\x1b[31m")
    assert upload.name.isprintable()


@pytest.mark.parametrize(
    ("content_type", "pieces", "status", "sentence"),
    [
        ("text/plain", [b"1"], 415, "send an image as application/dicom, application/octet-stream, image/jpeg"),
        ("", [b"1"], 415, "or a form as multipart/form-data"),
        ("image/png", [], 400, "has no body"),
        ("multipart/form-data", [], 400, "has no boundary"),
        ("multipart/form-data; boundary=" + "x" * 500, [b"1"], 400, "the body is no multipart/form-data: Boundary"),
        (FORM, [b"no form"], 400, "the body is no multipart/form-data"),
        (FORM, [], 400, "ends before its last boundary"),
        (FORM, [part(b"1", 'name="images"', 'filename="a"')], 400, "ends before its last boundary"),
        (FORM, [part(b"1", 'name="image"') + b"--x--\r\n"], 400, "a part of the form is named 'image': name each"),
        (FORM, [b"--x\r\n\r\n1\r\n--x--\r\n"], 400, "a part of the form is named ''"),
        (FORM, [part(b"1", 'name="images"') + b"--x--\r\n"], 422, "is no file: send a file with its name"),
        (FORM, [part(b"1", 'name="images"', 'filename="a"') * 4 + b"--x--\r\n"], 422, "more than 3 images"),
    ],
)
def test_a_body_that_is_none_is_refused_in_a_sentence(
    content_type: str, pieces: list[bytes], status: int, sentence: str
) -> None:
    code, detail = refused(content_type, *pieces)
    assert code == status
    assert sentence in detail
    assert len(detail) < 300
