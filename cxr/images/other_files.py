"""Files that are plainly no image: texts and tables, archives, documents, told by how they begin.

A list of labels beside the images is no damaged image, so scoring counts it apart. The content decides, with one
exception: a file that is named as an image and holds something else is an export or a download that failed, and stays
an image that cannot be read.
"""

import codecs
import re
from pathlib import PurePosixPath

from cxr.errors import Reason, UnreadableError

OTHER_FILE: Reason = "other_file"
IMAGE_SUFFIXES = frozenset(
    {
        *(".jpeg", ".jpg", ".jpe", ".jfif", ".png", ".dcm", ".dicom", ".dic", ".ima"),
        *(".bmp", ".gif", ".jp2", ".j2k", ".tif", ".tiff", ".webp"),
    }
)
"""In lower case."""
SIGNATURES = (
    (0, b"PK\x03\x04", "zip archive or Office document"),
    (0, b"PK\x05\x06", "zip archive"),  # an empty one
    (0, b"\x1f\x8b", "gzip archive"),
    (0, b"BZh", "bzip2 archive"),
    (0, b"\xfd7zXZ\x00", "xz archive"),
    (0, b"\x28\xb5\x2f\xfd", "Zstandard archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z archive"),
    (0, b"Rar!\x1a\x07", "RAR archive"),
    (257, b"ustar", "tar archive"),
    (0, b"%PDF-", "PDF document"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Office document"),
    (0, b"PAR1", "Parquet table"),
    (0, b"SQLite format 3\x00", "SQLite database"),
)
"""Where in a file, which bytes, and what that makes it."""
HEAD_BYTES = 8192
"""A file is text if this much of it is."""
CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
"""Bytes that no text has, in whatever 8-bit encoding."""
FOREIGN_SHARE = 1 / 3
"""Text of another encoding than UTF-8 has fewer bytes beyond ASCII; so a few random bytes are no text."""


def as_other_file(refused: UnreadableError, path: str, data: bytes) -> UnreadableError:
    """Return why a file was refused: as another file, if it is plainly one and does not claim to be an image.

    Args:
        refused: why the reader of images refused it.
        path: its path, for its suffix.
        data: its bytes.
    """
    if refused.reason != "not_an_image" or PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES:
        return refused
    kind = _kind(data)
    return refused if kind is None else UnreadableError(OTHER_FILE, kind)


def _kind(data: bytes) -> str | None:
    """Return what the bytes are, other than an image; None if they are nothing known."""
    for offset, signature, kind in SIGNATURES:
        if data.startswith(signature, offset):
            return kind
    return "text" if _is_text(data[:HEAD_BYTES]) else None


def _is_text(head: bytes) -> bool:
    if not head:
        return False
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _is_encoded(head, "utf-16")
    if CONTROL.search(head):
        return False
    n_foreign = sum(byte >= 0x80 for byte in head)
    return _is_encoded(head, "utf-8") or n_foreign < FOREIGN_SHARE * len(head)


def _is_encoded(head: bytes, encoding: str) -> bool:
    """Return whether bytes are text of an encoding; the last character may be cut off."""
    try:
        codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        return False
    return True
