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
import io
import logging
import multiprocessing
import random
import resource
import shutil
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image

from benchmarks.results import keep
from cxr.config import DataConfig, Execution, TrainConfig
from cxr.dataset.layout import list_images
from cxr.dataset.manifest import build_manifest
from cxr.errors import CxrError, UnreadableError
from cxr.export.build import make_package
from cxr.images.dicom.patient import hash_patient
from cxr.images.reading import read
from cxr.images.source import open_source
from cxr.images.synthetic import draw_images
from cxr.pipeline import cross_validate
from cxr.serving.package import load_package
from cxr.storage.model_folder import ModelFolder, PackageFolder
from cxr.training.run import load_run

PLANTED = "SECRET^PATIENT"
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
Attempt = Callable[[bytes], str]
"""Reads a mutant; returns how it ended in a word, and raises CxrError where it is refused."""


@dataclasses.dataclass(frozen=True)
class Target:
    """What is fuzzed: good files, and how the program reads one."""

    seeds: list[bytes]
    attempt: Attempt


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


def _read_image(data: bytes) -> str:

    reading = read(data, 224)
    if reading.refused is not None:
        raise reading.refused
    return f"!leak: {reading.header}" if PLANTED in str(reading.header) else "ok"


def _read_dicom(data: bytes) -> str:

    outcome = _read_image(data)
    patient = hash_patient(data, b"key")
    return f"!leak: {patient}" if PLANTED in str(patient) else outcome


def _read_zip(data: bytes, scratch: Path) -> str:
    file = scratch / "mutant.zip"
    file.write_bytes(data)
    source = open_source(str(file))
    manifest = build_manifest(source, list_images(source), DataConfig(data=str(file)), scratch / "cache")
    return f"ok, {(manifest['status'] != 'unreadable').sum()} of {len(manifest)} images"


def _radiograph(seed: int, side_px: int = 160) -> Image.Image:
    noise = np.random.default_rng(seed).normal(0, 12, (side_px, side_px))
    x, y = np.meshgrid(np.linspace(-1, 1, side_px), np.linspace(-1, 1, side_px))
    return Image.fromarray((128 + 90 * np.sin(3 * x) * np.cos(2 * y) + noise).clip(0, 255).astype(np.uint8))


def _saved(image: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def _jpeg(scratch: Path) -> Target:
    grey, colour = _radiograph(0), _radiograph(1).convert("RGB")
    plain = [_saved(image, "JPEG", quality=quality) for image in (grey, colour) for quality in (40, 90)]
    progressive = [_saved(image, "JPEG", progressive=True) for image in (grey, colour)]
    restarts = [_saved(grey, "JPEG", restart_marker_rows=1), _saved(colour, "JPEG", restart_marker_blocks=3)]
    return Target([*plain, *progressive, *restarts], _read_image)


def _png(scratch: Path) -> Target:
    grey = _radiograph(0)
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    modes = [_saved(grey.convert(mode), "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")]
    return Target([*modes, _saved(deep, "PNG")], _read_image)


def _dicom(scratch: Path) -> Target:
    paths = sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm"))
    planted = (_plant(path) for path in paths if path.stat().st_size < 300_000)
    return Target([data for data in planted if data], _read_dicom)


def _plant(path: Path) -> bytes | None:
    """Return a DICOM file with a patient's name planted; None for those that pydicom itself cannot read or write."""
    stream = io.BytesIO()
    try:
        dataset = pydicom.dcmread(path)
        dataset.PatientName = dataset.PatientID = dataset.StudyDescription = PLANTED
        dataset.Modality = "DX"
        dataset.save_as(stream)
    except Exception:  # pydicom raises many kinds
        return None
    return stream.getvalue()


def _zip(scratch: Path) -> Target:
    seeds = []
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", compression) as archive:
            for k in range(6):
                label = ("NORMAL", "PNEUMONIA")[k % 2]
                archive.writestr(f"set/train/{label}/{k}.jpeg", _saved(_radiograph(k), "JPEG"))
            archive.writestr("set/notes.txt", "not an image")
        seeds.append(stream.getvalue())
    return Target(seeds, lambda data: _read_zip(data, scratch))


def _package(scratch: Path) -> Target:
    """Mutants are a package's small files one after the other, each with its name before it."""

    folder = _make_package(scratch)
    good = scratch / "good"
    if not good.exists():
        shutil.copytree(folder, good)
    names = sorted(file.name for file in good.iterdir() if file.stat().st_size < 1_000_000)
    mutants = [f"{name}\n".encode() + (good / name).read_bytes() for name in names if name != "SHA256SUMS"]

    def attempt(data: bytes) -> str:
        name, _, content = data.partition(b"\n")
        file = folder / name.decode(errors="replace")
        if file.name not in names:
            return "no file of the package"
        file.write_bytes(content)
        _write_sums(folder)
        try:
            package = load_package(PackageFolder(folder))
            package.images()
            _ = package.networks
            return "ok"
        finally:
            shutil.copyfile(good / file.name, file)
            shutil.copyfile(good / "SHA256SUMS", folder / "SHA256SUMS")

    return Target(mutants, attempt)


def _write_sums(folder: Path) -> None:
    """Make the checksums those of the mutant, so that what it says is read."""
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    changed = []
    for line in lines:
        name = line[66:]
        is_small = (folder / name).stat().st_size < 1_000_000
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest() if is_small else line[:64]
        changed.append(f"{digest}  {name}\n")
    (folder / "SHA256SUMS").write_text("".join(changed))


def _make_package(scratch: Path) -> Path:
    """Return the folder of a package of a tiny run, made once."""

    model = ModelFolder.named(scratch / "models", "tiny")
    made = scratch / "models" / "tiny" / "1"
    if not made.exists():
        draw_images(scratch / "drawn", n_images=40, seed=0)
        config = TrainConfig(data=str(scratch / "drawn"), weights="none", trainable="all", size=32, folds=2, epochs=1)
        execution = Execution(experiments=scratch / "experiments", cache=scratch / "cache", devices="cpu", run_id="run")
        make_package(load_run(cross_validate(config, execution)), model)
    return made


TARGETS: dict[str, Callable[[Path], Target]] = {
    "jpeg": _jpeg,
    "png": _png,
    "dicom": _dicom,
    "zip": _zip,
    "package": _package,
}

if __name__ == "__main__":
    main()
