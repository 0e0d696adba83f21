"""What a file of a data set is, by its name and, where that leaves it open, by its first bytes.

A name that ends as JPEG, PNG or DICOM is taken at its word, so that a damaged file is a row with a reason. Any other
file is an image if it begins as one that is read, whatever its name says, or without a suffix.
"""

from pathlib import PurePosixPath

from cxr.dataset.listing.class_folders import is_in_mask_folder
from cxr.images import jpeg_scans, png
from cxr.images.dicom.file import PREFIX, is_dicom
from cxr.images.source import Source, is_hidden, litter

PICTURE_SUFFIXES = (".jpeg", ".jpg", ".jpe", ".jfif", ".png")
DICOM_SUFFIXES = (".dcm", ".dicom")
OTHER_SUFFIXES = (".bmp", ".gif", ".heic", ".j2k", ".jp2", ".mha", ".nii", ".nii.gz", ".nrrd", ".tif", ".tiff", ".webp")
"""Of images in formats that are not read, if they hold what they say."""
OTHER_BEGINNINGS = (b"II*\0", b"MM\0*", b"BM", b"GIF8", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
"""TIFF, BMP, GIF and JPEG 2000; WebP begins as RIFF."""
HEAD_BYTES = 132
"""DICOM's preamble and its prefix."""
OTHER_FORMAT, NESTED, MASK = "image in another format", "nested copy", "mask or annotation"
NOT_NAMED = "image outside the class folders"
"""Left aside because `--class-folder` names others."""
MADE_BY_SYSTEMS = frozenset({"macOS copy", "folder settings", "system folder", "DICOM directory", NESTED, NOT_NAMED})
"""Kinds of files that nobody misses among the images."""


def kind_of(key: str, source: Source) -> str | None:
    """Return why a file is left aside; None for an image."""
    path = PurePosixPath(key)
    if kind := litter(path):
        return kind
    if is_hidden(path):
        return "hidden folder" if is_hidden(path.parent) else "hidden file"
    name = path.name.lower()
    if name == "dicomdir":
        return "DICOM directory"
    if name.endswith((*PICTURE_SUFFIXES, *DICOM_SUFFIXES)):
        return _kind_of_image(path)
    head = _head(key, source)
    return _kind_of_image(path) if _begins_as_image(path, head) else _kind_of_other(path, head)


def _kind_of_image(path: PurePosixPath) -> str | None:
    return MASK if is_in_mask_folder(path) else None


def needs_pydicom(path: str) -> bool:
    """Return whether an image is DICOM, as far as its name says."""
    return not path.lower().endswith((*PICTURE_SUFFIXES, *OTHER_SUFFIXES))


def _begins_as_image(path: PurePosixPath, head: bytes) -> bool:
    if head[PREFIX] == b"DICM":
        return True
    may_be_image = path.name.lower().endswith(OTHER_SUFFIXES) or _has_no_suffix(path)
    return may_be_image and (head.startswith((jpeg_scans.START, png.SIGNATURE)) or is_dicom(head))


def _kind_of_other(path: PurePosixPath, head: bytes) -> str:
    """Return the kind of a file that is not read; images are counted by their suffix."""
    suffix = next((suffix for suffix in OTHER_SUFFIXES if path.name.lower().endswith(suffix)), None)
    if suffix is not None:
        return f"{OTHER_FORMAT} ({suffix})"
    is_image = head.startswith(OTHER_BEGINNINGS) or (head[:4], head[8:12]) == (b"RIFF", b"WEBP")
    return f"{OTHER_FORMAT} (no suffix)" if is_image and _has_no_suffix(path) else "other file"


def _has_no_suffix(path: PurePosixPath) -> bool:
    """Return whether a name has no suffix, or ends in a number as the UIDs do that archives name DICOM files by."""
    return not path.suffix or path.suffix[1:].isdigit()


def _head(key: str, source: Source) -> bytes:
    try:
        return source.head(key, HEAD_BYTES)
    except Exception:  # OSError; from a damaged zip also BadZipFile, zlib.error, EOFError, struct.error, …
        return b""
