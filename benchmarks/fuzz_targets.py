"""What `benchmarks.fuzzing` changes and reads: good files of each kind, a name of a patient planted where one fits."""

import dataclasses
import hashlib
import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image

from cxr.config import DataConfig, Execution, TrainConfig
from cxr.dataset.listing.layout import list_images
from cxr.dataset.manifest import build_manifest
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
Attempt = Callable[[bytes], str]
"""Reads a mutant; returns how it ended in a word, and raises CxrError where it is refused."""


@dataclasses.dataclass(frozen=True)
class Target:
    """What is fuzzed: good files, and how the program reads one."""

    seeds: list[bytes]
    attempt: Attempt


def _read_image(data: bytes) -> str:

    reading = read(data, 224)
    if reading.refused is not None:
        raise reading.refused
    return f"!leak: {reading.header}" if PLANTED in str(reading.header) else "ok"


def _read_dicom(data: bytes) -> str:

    outcome = _read_image(data)
    patient = hash_patient(data, b"key")
    return f"!leak: {patient}" if PLANTED in str(patient) else outcome


def _read_archive(data: bytes, file: Path) -> str:
    file.write_bytes(data)
    source = open_source(str(file))
    manifest = build_manifest(source, list_images(source), DataConfig(data=str(file)), file.parent / "cache")
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
    return Target(seeds, lambda data: _read_archive(data, scratch / "mutant.zip"))


def _tar(scratch: Path) -> Target:
    """Mutants of tars of each format, plain and in gzip; one member has a name that needs headers of its own."""
    seeds = []
    for mode in ("w", "w:gz"):
        for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
            stream = io.BytesIO()
            with tarfile.open(fileobj=stream, mode=mode, format=form) as archive:
                for k, name in enumerate(("NORMAL/1.jpeg", "PNEUMONIA/2.jpeg", f"NORMAL/{'x' * 90}3.jpeg")):
                    data = _saved(_radiograph(k, 64), "JPEG")
                    info = tarfile.TarInfo(f"set/train/{name}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
            seeds.append(stream.getvalue())
    return Target(seeds, lambda data: _read_archive(data, scratch / "mutant.tar"))


def _package(scratch: Path) -> Target:
    """Mutants are a package's small files one after the other, each with its name after it."""

    folder = _make_package(scratch)
    good = scratch / "good"
    if not good.exists():
        shutil.copytree(folder, good)
    names = sorted(file.name for file in good.iterdir() if file.stat().st_size < 1_000_000)
    mutants = [(good / name).read_bytes() + f"\n{name}".encode() for name in names if name != "SHA256SUMS"]

    def attempt(data: bytes) -> str:
        content, _, name = data.rpartition(b"\n")
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
        config = TrainConfig(data=str(scratch / "drawn"), preset="quick", weights="none", size=32, folds=2, epochs=1)
        execution = Execution(experiments=scratch / "experiments", cache=scratch / "cache", devices="cpu", run_id="run")
        make_package(load_run(cross_validate(config, execution)), model)
    return made


TARGETS: dict[str, Callable[[Path], Target]] = {
    "jpeg": _jpeg,
    "png": _png,
    "dicom": _dicom,
    "zip": _zip,
    "tar": _tar,
    "package": _package,
}
