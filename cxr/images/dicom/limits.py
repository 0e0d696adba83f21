"""How much of a DICOM file is parsed.

An element or an item of a sequence takes eight bytes of a file, and hundreds of bytes and microseconds of a parser. So
the steps in which pydicom reads a file are counted, and values that are wanted, other than pixels, are short: a
radiograph has some hundred elements, and look-up tables of 128 KiB.
"""

import io
from typing import TYPE_CHECKING

from cxr.errors import UnreadableError

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_READS = 200_000
"""pydicom reads once or up to three times for an element, and twice for a fragment of pixels."""
MAX_VALUE_BYTES = 2**16
MAX_SEQUENCE_BYTES = 2**21
"""Eight look-up tables of 65,536 entries and more."""
CHARACTER_SET = 0x00080005
PIXEL_DATA = 0x7FE00010
TABLE = 0x00283006
"""LUTData."""
ITEM = b"\xfe\xff\x00\xe0"
MAX_FRAGMENTS = 100_000


class CountedReads(io.BytesIO):
    """The bytes of a file, which can be read `MAX_READS` times."""

    n_reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes.

        Raises:
            UnreadableError: the file has been read too often.
        """
        self.n_reads += 1
        if self.n_reads > MAX_READS:
            raise too_many_parts()
        return super().read(size)


def too_many_parts() -> UnreadableError:
    """Return the error for a file of too many elements, items or fragments."""
    return UnreadableError("too_complex", f"DICOM of so many elements or items that it takes {MAX_READS:,} reads")


def refuse_long_character_set(tag: int, _vr: str | None, length: int) -> bool:
    """Return False, so that pydicom goes on reading; it converts the one value that this looks at while it reads.

    Raises:
        UnreadableError: (0008,0005) is very long.
    """
    if tag == CHARACTER_SET and length > MAX_VALUE_BYTES:
        raise _too_long(tag, MAX_VALUE_BYTES)
    return False


def require_short_values(dataset: "Dataset") -> None:
    """Raise UnreadableError where a value, other than pixels, would take long to convert; none is converted yet."""
    from pydicom.dataelem import RawDataElement

    for tag in list(dataset.keys()):
        element = dataset.get_item(tag)
        if isinstance(element, RawDataElement):
            most = MAX_SEQUENCE_BYTES if tag == TABLE or _is_sequence(tag, element.VR) else MAX_VALUE_BYTES
            if tag != PIXEL_DATA and len(element.value or b"") > most:
                raise _too_long(tag, most)
        elif element is not None and element.VR == "SQ":  # without a stated length, so that it has been read
            for item in element.value:
                require_short_values(item)


def _is_sequence(tag: int, representation: str | None) -> bool:
    from pydicom.datadict import dictionary_has_tag, dictionary_VR

    return representation == "SQ" or (dictionary_has_tag(tag) and dictionary_VR(tag) == "SQ")


def _too_long(tag: int, most: int) -> UnreadableError:
    return UnreadableError(
        "too_complex", f"DICOM with a value of over {most:,} bytes in ({tag >> 16:04X},{tag & 0xFFFF:04X})"
    )


def require_few_fragments(dataset: "Dataset") -> None:
    """Raise UnreadableError where compressed pixels are in very many fragments.

    Where the file states no length for them, they have been counted when it was read.
    """
    if not dataset["PixelData"].is_undefined_length and dataset.PixelData.count(ITEM) > MAX_FRAGMENTS:
        raise UnreadableError("too_complex", f"DICOM whose pixels are in over {MAX_FRAGMENTS:,} fragments")
