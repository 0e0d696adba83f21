"""Random access to what a gzip file holds: nothing is unpacked to a disk, and memory does not grow with the file.

One pass over the file checks its length and its checksum, and keeps copies of the inflater's state at even distances,
`MAX_CHECKPOINTS` at most: whenever there are more, every second one is forgotten and the distance doubles. Bytes are
then read from the last checkpoint before them.

Source: RFC 1952 (gzip); zlib's examples/zran.c, which keeps the window where this keeps a copy of the state.
"""

import zlib
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

MAGIC = b"\x1f\x8b"
PIECE_BYTES = 2**16
FIRST_DISTANCE = 2**20
MAX_CHECKPOINTS = 1024
"""A copy of the state takes some 50 KB."""
GZIP_FORMAT = 31
"""zlib's word for a gzip header and trailer, whose checksum it compares."""


@dataclass(frozen=True)
class Checkpoint:
    """A place in the unpacked bytes from which they can be unpacked further."""

    offset: int
    """In the unpacked bytes."""
    place: int
    """In the file."""
    inflater: Any
    """zlib's object, which is only ever copied."""


class Unpacking:
    """A gzip file's content from a checkpoint on, a piece at a time."""

    def __init__(self, file: BinaryIO, start: Checkpoint) -> None:
        file.seek(start.place)
        self.offset = start.offset
        """Of the next piece."""
        self._file = file
        self._place = start.place
        self._inflater = start.inflater.copy()
        self._input = b""

    def next_piece(self) -> bytes:
        """Return the next bytes, 64 KiB at most; empty at the end.

        Raises:
            EOFError: the file ends early.
            zlib.error: it is damaged.
        """
        piece = b""
        while not piece and not (self._inflater.eof and not self._begins_again()):
            self._input = self._input or self._file.read(PIECE_BYTES)
            is_at_end = not self._input
            piece = self._inflater.decompress(self._input, PIECE_BYTES)
            self._take(self._inflater.unused_data if self._inflater.eof else self._inflater.unconsumed_tail)
            if is_at_end and not piece and not self._inflater.eof:
                raise EOFError("it ends early")
        self.offset += len(piece)
        return piece

    def checkpoint(self) -> Checkpoint | None:
        """Return where the next piece begins; None between two gzip members."""
        return None if self._inflater.eof else Checkpoint(self.offset, self._place, self._inflater.copy())

    def _begins_again(self) -> bool:
        """Return whether another gzip member follows, after padding."""
        while not (rest := self._input.lstrip(b"\0")):
            self._take(b"")
            self._input = self._file.read(PIECE_BYTES)
            if not self._input:
                return False
        self._take(rest)
        self._inflater = zlib.decompressobj(GZIP_FORMAT)
        return True

    def _take(self, rest: bytes) -> None:
        """Go on with the rest of the input."""
        self._place += len(self._input) - len(rest)
        self._input = rest


class GzipIndex:
    """The checkpoints of a gzip file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._checkpoints = [Checkpoint(0, 0, zlib.decompressobj(GZIP_FORMAT))]
        self._distance = FIRST_DISTANCE

    @property
    def start(self) -> Checkpoint:
        """The beginning of the file."""
        return self._checkpoints[0]

    def pass_by(self, unpacking: Unpacking) -> None:
        """Keep a checkpoint if the last one is far enough behind."""
        if unpacking.offset - self._checkpoints[-1].offset < self._distance:
            return
        checkpoint = unpacking.checkpoint()
        if checkpoint is not None:
            self._checkpoints.append(checkpoint)
        if len(self._checkpoints) > MAX_CHECKPOINTS:
            del self._checkpoints[1::2]
            self._distance *= 2

    def read_at(self, offset: int, n_bytes: int) -> bytes:
        """Return bytes of the content; fewer at its end.

        Raises:
            EOFError: the file ends early.
            zlib.error: it is damaged.
        """
        data = bytearray()
        with self._path.open("rb") as file:
            unpacking = Unpacking(file, self._nearest(offset))
            while len(data) < n_bytes:
                skipped = max(0, offset - unpacking.offset)
                piece = unpacking.next_piece()
                if not piece:
                    break
                data += piece[skipped:]
        return bytes(data[:n_bytes])

    def _nearest(self, offset: int) -> Checkpoint:
        return self._checkpoints[bisect_right(self._checkpoints, offset, key=lambda checkpoint: checkpoint.offset) - 1]


class OnePass:
    """What a gzip file holds, from first to last, as a file that is read once; the index keeps its checkpoints.

    Args:
        file: the gzip file.
        index: gets the checkpoints.
        most: bytes that the content may have.
    """

    def __init__(self, file: BinaryIO, index: GzipIndex, most: int) -> None:
        self._unpacking = Unpacking(file, index.start)
        self._index = index
        self._most = most
        self._buffer = b""
        self._position = 0

    def tell(self) -> int:
        """Return how many bytes were read or passed over."""
        return self._position

    def seek(self, offset: int) -> int:
        """Pass over bytes, up to an offset that lies ahead or at the end of the content."""
        while self._position < offset and self._fill():
            self._skip(min(offset - self._position, len(self._buffer)))
        return self._position

    def read(self, n_bytes: int) -> bytes:
        """Return the next bytes; fewer at the end of the content.

        Raises:
            EOFError: the file ends early.
            OverflowError: the content has more bytes than it may have.
            zlib.error: the file is damaged.
        """
        parts: list[bytes] = []
        while n_bytes > 0 and self._fill():
            part = self._buffer[:n_bytes]
            parts.append(part)
            n_bytes -= len(part)
            self._skip(len(part))
        return b"".join(parts)

    def _fill(self) -> bool:
        """Return whether there is a next byte."""
        if not self._buffer:
            self._index.pass_by(self._unpacking)
            self._buffer = self._unpacking.next_piece()
            if self._unpacking.offset > self._most:
                raise OverflowError
        return bool(self._buffer)

    def _skip(self, n_bytes: int) -> None:
        self._buffer = self._buffer[n_bytes:]
        self._position += n_bytes
