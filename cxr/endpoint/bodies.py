"""Images out of a request's body, in memory alone: the body is an image, or a form of which each part is one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from fastapi import HTTPException
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from cxr.wording import visible

IMAGE_TYPES = ("application/dicom", "application/octet-stream", "image/jpeg", "image/png")
"""The media types of a body that is an image; which kind of image it is, its content says."""
FORM_TYPE = "multipart/form-data"
Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class Upload:
    """A file as a request brought it."""

    name: str
    """As the client calls it, harmless to print; its position in the request if it has no name."""
    data: bytes


class Body(Protocol):
    """Takes a body piece by piece; both methods raise HTTPException with status 400 or 422."""

    def feed(self, piece: bytes) -> None:
        """Take the next bytes."""
        ...

    def finish(self) -> list[Upload]:
        """Return the files of the whole body; at least one."""
        ...


def body_of(content_type: str, field: str, most: int) -> Body:
    """Return what takes a body of a media type.

    Args:
        content_type: the header of the request.
        field: the name that each part of a form has.
        most: number of images, at most.

    Raises:
        HTTPException: 415 if no body of this type is taken, 400 if a form has no boundary.
    """
    kind, options = parse_options_header(content_type)
    media_type = kind.decode("latin-1")
    if media_type == FORM_TYPE:
        return FormBody(options.get(b"boundary", b""), field, most)
    if media_type in IMAGE_TYPES:
        return ImageBody()
    raise HTTPException(
        415, f"send an image as {', '.join(IMAGE_TYPES)}, or a form as {FORM_TYPE} (curl: --form {field}=@image.png)."
    )


class ImageBody:
    """A body that is an image."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, piece: bytes) -> None:
        """Take the next bytes."""
        self._data += piece

    def finish(self) -> list[Upload]:
        """Return the image."""
        if not self._data:
            raise HTTPException(400, "the request has no body: send an image.")
        return [Upload("0", bytes(self._data))]


class FormBody:
    """A form of which each part is a file: a part without a file name is text to every program, and is refused.

    Args:
        boundary: what separates the parts.
        field: the name that each part has.
        most: number of parts, at most.

    Raises:
        HTTPException: 400 if the boundary is missing or too long.
    """

    def __init__(self, boundary: bytes, field: str, most: int) -> None:
        if not boundary:
            raise HTTPException(400, f"the header Content-Type has no boundary, which {FORM_TYPE} needs.")
        self._field = field
        self._most = most
        self._files: list[Upload] = []
        self._is_whole = False
        self._header, self._value, self._disposition, self._data = (bytearray() for _ in range(4))
        self._name = ""
        self._parser = _parsed(
            lambda: MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._name_part,
                    "on_part_data": lambda data, start, end: self._data.extend(data[start:end]),
                    "on_part_end": lambda: self._files.append(Upload(self._name, bytes(self._data))),
                    "on_end": self._end,
                },
            )
        )

    def feed(self, piece: bytes) -> None:
        """Take the next bytes."""
        _parsed(lambda: self._parser.write(piece))

    def finish(self) -> list[Upload]:
        """Return the parts."""
        if not self._is_whole:
            raise HTTPException(400, "the form ends before its last boundary: send it whole.")
        if not self._files:
            raise HTTPException(400, f"the form has no image: send one or more as {self._field!r}.")
        return self._files

    def _begin_part(self) -> None:
        if len(self._files) == self._most:
            raise HTTPException(422, f"the request has more than {self._most} images: send them in several.")
        self._disposition, self._data = bytearray(), bytearray()

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header, self._value = bytearray(), bytearray()

    def _name_part(self) -> None:
        _, options = parse_options_header(bytes(self._disposition))
        field, name = (_text(options.get(key, b"")) for key in (b"name", b"filename"))
        if field != self._field:
            raise HTTPException(400, f"a part of the form is named {field!r}: name each image {self._field!r}.")
        if b"filename" not in options:
            raise HTTPException(
                422, f"a part of the form is no file: send a file with its name (curl: --form {field}=@image.png)."
            )
        self._name = name or str(len(self._files))

    def _end(self) -> None:
        self._is_whole = True


def _text(name: bytes) -> str:
    return visible(name.decode("utf-8", "backslashreplace"))


def _parsed(parse: Callable[[], Parsed]) -> Parsed:
    """Return what the parser returns; HTTPException where the form is none."""
    try:
        return parse()
    except FormParserError as error:
        raise HTTPException(400, f"the body is no {FORM_TYPE}: {visible(error)}.") from error
