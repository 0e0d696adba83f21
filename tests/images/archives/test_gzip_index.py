import gzip
import random
import tracemalloc
import zlib
from pathlib import Path

import pytest

from cxr.images.archives import gzip_index
from cxr.images.archives.gzip_index import GzipIndex, OnePass


def indexed(path: Path) -> tuple[GzipIndex, bytes]:
    """The index after one pass, and what the pass has read."""
    index = GzipIndex(path)
    with path.open("rb") as file:
        content = OnePass(file, index, 2**40)
        parts = list(iter(lambda: content.read(100_001), b""))
    return index, b"".join(parts)


def mixed(n_bytes: int) -> bytes:
    """Bytes of which every second block can be compressed and the others cannot."""
    generator = random.Random(0)
    return b"".join(generator.randbytes(5000) + bytes(5000) for _ in range(n_bytes // 10_000))


@pytest.mark.parametrize("n_members", [1, 3])
def test_any_bytes_are_read_as_gzip_itself_unpacks_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_members: int
) -> None:
    monkeypatch.setattr(gzip_index, "FIRST_DISTANCE", 10_000)
    monkeypatch.setattr(gzip_index, "MAX_CHECKPOINTS", 16)
    data = mixed(600_000)
    step = len(data) // n_members
    members = [gzip.compress(data[start : start + step]) for start in range(0, len(data), step)]
    (tmp_path / "x.gz").write_bytes(b"".join(members) + bytes(700))
    index, passed = indexed(tmp_path / "x.gz")
    assert passed == gzip.decompress((tmp_path / "x.gz").read_bytes()) == data
    generator = random.Random(1)
    for _ in range(60):
        offset = generator.randrange(len(data))
        n_bytes = generator.choice([0, 1, 512, 70_000])
        assert index.read_at(offset, n_bytes) == data[offset : offset + n_bytes]
    assert index.read_at(len(data), 5) == b""


def test_memory_does_not_grow_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gzip_index, "FIRST_DISTANCE", 2**16)
    monkeypatch.setattr(gzip_index, "MAX_CHECKPOINTS", 16)
    peaks = []
    for n_mib in (2, 16):
        with gzip.open(tmp_path / "x.gz", "wb", 1) as file:
            for _ in range(n_mib):
                file.write(random.Random(0).randbytes(1000) * 1048)
        tracemalloc.start()
        index = GzipIndex(tmp_path / "x.gz")
        with (tmp_path / "x.gz").open("rb") as file:
            content = OnePass(file, index, 2**40)
            assert content.seek(2**40) == n_mib * 1_048_000
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0]


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    whole = gzip.compress(mixed(30_000))
    for length in [*range(1, 40), *range(40, len(whole), 997), *range(len(whole) - 12, len(whole))]:
        (tmp_path / "x.gz").write_bytes(whole[:length])
        with pytest.raises(EOFError):
            indexed(tmp_path / "x.gz")


@pytest.mark.parametrize("place", [0.3, 0.9, 1.0])
def test_changed_bytes_are_noticed(tmp_path: Path, place: float) -> None:
    data = bytearray(gzip.compress(mixed(30_000)))
    data[min(int(place * len(data)), len(data) - 6)] ^= 1
    (tmp_path / "x.gz").write_bytes(data)
    with pytest.raises((zlib.error, EOFError)):
        indexed(tmp_path / "x.gz")


def test_content_that_is_larger_than_allowed_ends_the_pass(tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(gzip.compress(bytes(10**6)))
    with (tmp_path / "x.gz").open("rb") as file:
        content = OnePass(file, GzipIndex(tmp_path / "x.gz"), 10**5)
        with pytest.raises(OverflowError):
            content.seek(10**6)
        assert content.tell() < 2 * 10**5
