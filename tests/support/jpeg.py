"""JPEGs that no encoder here writes, made by hand: lossless with restarts or scans apart, 12 bits, colours apart."""

import re

import numpy as np

END = b"\xff\xd9"
MARKERS = re.compile(rb"\xff[\xc0-\xfe]")


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


def as_12_bits(frame: bytes) -> bytes:
    """Return a baseline or progressive JPEG of 8 bits with a header that says 12, and extended for baseline."""
    at = next(match.start() for match in MARKERS.finditer(frame) if frame[match.start() + 1] in (0xC0, 0xC2))
    process = 0xC1 if frame[at + 1] == 0xC0 else 0xC2
    return frame[: at + 1] + bytes([process]) + frame[at + 2 : at + 4] + b"\x0c" + frame[at + 5 :]


def lossless(pixels: np.ndarray, bits: int, *, restart_rows: int = 0, is_interleaved: bool = True) -> bytes:
    """Encode pixels, shape (rows, columns, samples), with predictor 1 and 17 Huffman codes of 5 bits (T.81 annex H)."""
    rows, columns, samples = pixels.shape
    numbers = list(range(1, samples + 1))
    size = rows.to_bytes(2, "big") + columns.to_bytes(2, "big")
    parts = [
        b"\xff\xd8",
        segment(0xC4, bytes([0, 0, 0, 0, 0, 17, *[0] * 11, *range(17)])),
        segment(0xC3, bytes([bits]) + size + bytes([samples, *(k for n in numbers for k in (n, 0x11, 0))])),
        segment(0xDD, (restart_rows * columns).to_bytes(2, "big")),
    ]
    for group in [numbers] if is_interleaved else [[number] for number in numbers]:
        parts.append(segment(0xDA, bytes([len(group), *(k for n in group for k in (n, 0)), 1, 0, 0])))
        chosen = pixels[..., group[0] - 1 : group[-1]].astype(int)
        step = restart_rows or rows
        for count, start in enumerate(range(0, rows, step)):
            parts.append(bytes([0xFF, 0xD0 + (count - 1) % 8]) if count else b"")
            parts.append(_interval(chosen[start : start + step], bits))
    return b"".join([*parts, END])


def _interval(pixels: np.ndarray, bits: int) -> bytes:
    predicted = np.full(pixels.shape, 1 << (bits - 1))
    predicted[1:, 0] = pixels[:-1, 0]
    predicted[:, 1:] = pixels[:, :-1]
    code = ""
    for difference in (pixels - predicted).ravel().tolist():
        length = abs(difference).bit_length()
        code += f"{length:05b}"
        if length:
            code += f"{difference if difference > 0 else difference + (1 << length) - 1:0{length}b}"
    code += "1" * (-len(code) % 8)
    return int(code, 2).to_bytes(len(code) // 8, "big").replace(b"\xff", b"\xff\x00")


def apart(planes: list[bytes]) -> bytes:
    """Return a sequential JPEG with a scan for each colour, from grey baseline JPEGs with the same tables."""
    first = planes[0]
    at, start = first.index(b"\xff\xc0"), first.index(b"\xff\xda")
    frame = segment(0xC0, first[at + 4 : at + 9] + bytes([3, *(k for n in (1, 2, 3) for k in (n, 0x11, 0))]))
    end = at + 2 + int.from_bytes(first[at + 2 : at + 4], "big")
    scans = [
        segment(0xDA, bytes([1, number, 0, 0, 63, 0])) + plane[plane.index(b"\xff\xda") + 10 : -2]
        for number, plane in enumerate(planes, 1)
    ]
    return first[:at] + frame + first[end:start] + b"".join(scans) + END


def cuts(frame: bytes, n: int = 30) -> list[bytes]:
    """Return frames that end early: anywhere, at markers, in the last bytes; as they are, ended, and filled with 0.

    Only where an eighth or more is missing is it filled: a few bytes that are 0 can be data as well as any others.
    """
    markers = [match.start() for match in MARKERS.finditer(frame)]
    anywhere = np.linspace(2, len(frame) - 1, n).astype(int).tolist()
    places = {*anywhere, *range(len(frame) - 8, len(frame)), *markers[1 :: len(markers) // n + 1]}
    return [
        frame[:place] + rest
        for place in sorted(places)
        for rest in (b"", END, *([bytes(len(frame) - place - 2) + END] if place < len(frame) * 7 // 8 else []))
        if frame[:place] + rest != frame
    ]
