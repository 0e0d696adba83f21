"""Fuzzing: damaged images, DICOM files, archives and packages, read as the program reads them.

    python -m benchmarks.fuzzing --seconds 600                         each kind for ten minutes
    python -m benchmarks.fuzzing --kind dicom --seconds 60 --seed 1

Each mutant is a good file with some bytes changed, cut out, doubled, swapped or taken from another file. Reading it has
to give an image, or one of the program's own errors, within 10 seconds and 2 GiB, and without the name of the patient
that was planted in it. What does not is kept in `fuzzing/`, and the exit code is 1. A child process does the reading,
so a crash or an endless loop ends that child alone.
"""

import argparse
import collections
import dataclasses
import hashlib
import logging
import multiprocessing
import random
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.fuzz_targets import PLANTED, TARGETS, Attempt
from benchmarks.results import keep
from cxr.errors import CxrError, UnreadableError

LIMIT_S = 10
LIMIT_BYTES = 2 * 2**30
START_S = 300
"""For a child to begin: it trains the run of which a package is made."""
FOLDER = Path("fuzzing")
INTERESTING = (
    b"\x00",
    b"\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x00",
    b"\xff\xd8",
    b"\xff\xd9",
)


@dataclasses.dataclass(frozen=True)
class Reading:
    """How reading a mutant ended."""

    outcome: str
    """A word; it begins with `!` where it should not have ended so."""
    seconds: float
    peak_bytes: float
    """Of the child, over all of its mutants."""
    mutant: bytes | None
    """None where all is right."""


def main() -> None:
    """Fuzz each kind for as long as asked; print and keep the counts; end with exit code 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=TARGETS, action="append")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    kinds = arguments.kind or list(TARGETS)
    figures = {kind: fuzz(kind, arguments.seconds, arguments.seed) for kind in kinds}
    if not arguments.kind:
        keep("fuzzing", {"seconds of each kind": arguments.seconds, **figures})
    sys.exit(any(figure["found"] for figure in figures.values()))


def fuzz(kind: str, seconds: float, seed: int) -> dict[str, object]:
    """Read mutants of a kind for some seconds; return counts, and the longest and largest reading."""
    ends = time.monotonic() + seconds
    outcomes: collections.Counter[str] = collections.Counter()
    found: list[str] = []
    slowest = peak = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        while time.monotonic() < ends:
            for reading in _watched(kind, seed + len(found), Path(scratch), ends):
                outcomes[reading.outcome.partition(":")[0]] += 1
                slowest, peak = max(slowest, reading.seconds), max(peak, reading.peak_bytes)
                if reading.mutant:
                    found.append(_keep(kind, reading))
    print(f"{kind}: {outcomes.total():,} mutants, {slowest:.1f} s and {peak / 2**20:,.0f} MiB at most")
    for outcome, n in outcomes.most_common():
        print(f"  {n:9,} {outcome}")
    sizes: dict[str, object] = {"slowest, s": round(slowest, 1), "peak, MiB": round(peak / 2**20)}
    return {"mutants": outcomes.total()} | sizes | {"found": found}


def _watched(kind: str, seed: int, scratch: Path, ends: float) -> Iterator[Reading]:
    """Yield how each mutant ended that a child reads, until the time is over or the child has died."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("spawn").Process(target=_read_mutants, args=(kind, seed, scratch, sender))
    child.start()
    sender.close()
    receiver.poll(START_S)  # the child imports, and makes its good files
    try:
        while time.monotonic() < ends:
            if not receiver.poll(LIMIT_S + 2):
                yield Reading(f"!slow: no end within {LIMIT_S} s", LIMIT_S, 0, (scratch / "mutant").read_bytes())
                return
            yield receiver.recv()
    except EOFError:
        child.join()
        yield Reading(f"!crash: exit code {child.exitcode}", 0, 0, (scratch / "mutant").read_bytes())
    finally:
        child.kill()
        child.join()


def _read_mutants(kind: str, seed: int, scratch: Path, sender: Connection) -> None:
    logging.disable()
    warnings.simplefilter("ignore")
    target = TARGETS[kind](scratch)
    draw = random.Random(f"{kind} {seed}")
    n_pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (n_pages * resource.getpagesize() + LIMIT_BYTES, resource.RLIM_INFINITY))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while True:
        mutant = mutate(draw, target.seeds)
        (scratch / "mutant").write_bytes(mutant)
        started = time.monotonic()
        outcome = _outcome(target.attempt, mutant)
        took = time.monotonic() - started
        if took > LIMIT_S:
            outcome = f"!slow: {took:.0f} s"
        peak = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        sender.send(Reading(outcome, took, peak, mutant if outcome.startswith("!") else None))


def _outcome(attempt: Attempt, mutant: bytes) -> str:
    try:
        return attempt(mutant)
    except (CxrError, UnreadableError) as error:
        reason, message = getattr(error, "reason", type(error).__name__), str(error)
        return f"!leak: {message}" if PLANTED in message else reason
    except MemoryError:
        return "!memory"
    except Exception as error:
        return f"!foreign: {type(error).__name__}: {error}"


def _keep(kind: str, reading: Reading) -> str:
    mutant = reading.mutant or b""
    name = f"{kind}-{hashlib.sha256(mutant).hexdigest()[:12]}"
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / name).write_bytes(mutant)
    print(f"found {FOLDER / name}: {reading.outcome}", flush=True)
    return f"{name} {reading.outcome}"


def mutate(draw: random.Random, seeds: list[bytes]) -> bytes:
    """Return one of the good files with one to eight changes, most of them near its start."""
    data = bytearray(draw.choice(seeds))
    for _ in range(draw.choice((1, 1, 1, 2, 4, 8))):
        at = min(int(len(data) * draw.random() ** draw.choice((1, 3, 8))), max(len(data) - 1, 0))
        n_bytes = draw.choice((1, 2, 4, 16, 256, 4096))
        other = draw.choice(seeds)
        from_other = draw.randrange(max(len(other), 1))
        match draw.randrange(7):
            case 0 if data:
                data[at] ^= 1 << draw.randrange(8)
            case 1:
                data[at : at + 1] = draw.randbytes(1)
            case 2:
                word = draw.choice(INTERESTING)
                data[at : at + len(word)] = word
            case 3:
                del data[at : at + n_bytes]
            case 4:
                data[at:at] = data[at : at + n_bytes]
            case 5:
                data[at : at + n_bytes] = other[from_other : from_other + n_bytes]
            case _:
                if draw.random() < 0.3:
                    del data[at:]
    return bytes(data)


if __name__ == "__main__":
    main()
