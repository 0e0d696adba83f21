"""The scans of a JPEG file: few enough to be decoded soon, and none missing.

libjpeg says nothing about a scan that is missing as a whole: it leaves a colour grey, or decodes a progressive image
from the bits that it has. The standard lets an encoder leave bits out (T.81 G.1.1), but none is known that does, and a
file that was cut off between two scans looks the same.

Source: ITU-T T.81 annex B (markers) and G (scans of a progressive image).
"""

import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from cxr.errors import UnreadableError

START = b"\xff\xd8\xff"
SCAN, END = b"\xff\xda", b"\xff\xd9"
FRAMES = {0xC0, 0xC1, 0xC2, 0xC3}
"""Baseline, extended, progressive and lossless."""
PROGRESSIVE = 0xC2
ARITHMETIC = {0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
MAX_SEGMENTS = 4096
"""Markers before the first scan, stray bytes included; a colour profile or a comment has some dozens at most."""
MAX_SCANS = 100
"""Encoders write up to about twenty."""
MAX_SCANNED_PIXELS = 3_000_000_000
"""In all scans together; libjpeg takes up to 1.2 ns for each, and some colours are decoded twice."""
WITHOUT_LENGTH = {0x00, 0x01, *range(0xD0, 0xDA), 0xFF}
"""Second bytes of markers that no length follows, and of those that are none."""
MARKER = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")
"""Of a segment; what stands in a scan's data (a stuffed zero, a restart) is none."""
COEFFICIENTS = 64
ALL_BITS = 16


class Scan(NamedTuple):
    """What a scan's header says."""

    components: bytes
    first: int
    """Of the coefficients that it holds."""
    last: int
    bits_left: int
    """Of each coefficient, for later scans."""
    end: int
    """Of the header, which is where the data begins."""


def segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each segment ahead of the first scan begins and ends; a stray byte is a segment too."""
    start = len(START) - 1
    while (marker := data[start : start + 2]) != SCAN and len(marker) == 2:
        is_stray = marker[0] != 0xFF or marker[1] in WITHOUT_LENGTH
        end = start + (1 if is_stray else 2 + int.from_bytes(data[start + 2 : start + 4], "big"))
        yield start, end
        start = end


def find_first(data: bytes) -> int:
    """Return where the first scan begins; the end of the data if there is none.

    Pillow takes the same steps, and would take millions of them.

    Raises:
        UnreadableError: there are too many segments before it, or it is coded in a way that may end anywhere.
    """
    found = list(islice(segments(data), MAX_SEGMENTS + 1))
    if len(found) > MAX_SEGMENTS:
        raise UnreadableError("too_complex", f"JPEG of over {MAX_SEGMENTS:,} segments before its first scan")
    if any(data[start] == 0xFF and data[start + 1] in ARITHMETIC for start, _ in found):
        raise UnreadableError(
            "unsupported_format", "JPEG with arithmetic coding, in which missing data looks like zeros"
        )
    return found[-1][1] if found else len(START) - 1


def require_few(data: bytes, start: int, n_pixels: int) -> None:
    """Raise UnreadableError where decoding would take very long for the size of the image, or there is no scan.

    Args:
        data: the file.
        start: of its first scan.
        n_pixels: of the image.
    """
    if data[start : start + len(SCAN)] != SCAN:
        raise UnreadableError("truncated", "JPEG that ends before its first scan")
    n_scans = _count(data, start)
    if n_scans > MAX_SCANS or n_scans * n_pixels > MAX_SCANNED_PIXELS:
        raise UnreadableError("too_complex", f"JPEG of {n_scans:,} scans, at most {MAX_SCANS}, fewer if it is large")


def _count(data: bytes, start: int) -> int:
    """Return how often the marker of a scan occurs from `start` on, in ten times the speed of bytes.count."""
    pairs = (np.frombuffer(data, "<u2", (len(data) - k) // 2, k) for k in (start, start + 1) if k < len(data))
    return sum(int(np.count_nonzero(pair == int.from_bytes(SCAN, "little"))) for pair in pairs)


def require_all(data: bytes) -> None:
    """Raise UnreadableError where a colour, or bits of a progressive image, are in none of its scans.

    Args:
        data: a file that libjpeg has decoded.
    """
    components, process, first_scan = b"", 0, len(START) - 1
    for start, end in segments(data):
        first_scan = end
        if data[start] == 0xFF and data[start + 1] in FRAMES:
            components, process = data[start + 10 : end : 3], data[start + 1]
    scans = _scans(data, first_scan)
    is_all_there = _has_all_bits(components, scans) if process == PROGRESSIVE else _has_all(components, scans)
    if not is_all_there:
        raise UnreadableError("truncated", "JPEG without its last scans")


def as_sequential(data: bytes) -> bytes:
    """Return a file whose scans say that they hold all coefficients, as those of a sequential image always do.

    Some encoders leave the fields empty, which libjpeg mentions in the place of what is worth mentioning.
    """
    corrected = bytearray(data)
    for scan in _scans(data, find_first(data)):
        corrected[scan.end - 3 : scan.end] = bytes([0, COEFFICIENTS - 1, 0])
    return bytes(corrected)


def _has_all(components: bytes, scans: Iterator[Scan]) -> bool:
    missing = set(components)
    for scan in scans:
        missing.difference_update(scan.components)
        if not missing:  # usually after the first
            return True
    return False


def _has_all_bits(components: bytes, scans: Iterator[Scan]) -> bool:
    bits_left = {component: [ALL_BITS] * COEFFICIENTS for component in components}
    for scan in scans:
        for component in scan.components:
            bits_left[component][scan.first : scan.last + 1] = [scan.bits_left] * (scan.last + 1 - scan.first)
    return not any(map(any, bits_left.values()))


def _scans(data: bytes, start: int) -> Iterator[Scan]:
    """Yield the scans from `start` on, up to the end of the image."""
    for _ in range(MAX_SEGMENTS):
        found = MARKER.search(data, start)
        if found is None or found[0] == END:
            return
        start = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
        if found[0] == SCAN:
            header = data[found.end() + 2 : start]
            yield Scan(header[1 : 1 + 2 * header[0] : 2], header[-3], header[-2], header[-1] & 0x0F, start)
    raise UnreadableError("too_complex", f"JPEG of over {MAX_SEGMENTS:,} segments between its scans")
