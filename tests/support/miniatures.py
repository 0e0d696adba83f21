"""Miniatures of collections that people hold: their folders and names, with drawn images of a few pixels.

Each is a mapping from a file's path to its bytes, as the fixture `tree` takes it.
"""

import io

import numpy as np
from PIL import Image

from tests.support.images import make_dicom

Files = dict[str, bytes]


def draw(seed: int, format: str = "PNG") -> bytes:
    """Return a small image that is like no other."""
    pixels = np.random.default_rng(seed).integers(0, 255, (48, 64), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format)
    return stream.getvalue()


def drawn(names: list[str], format: str = "PNG") -> Files:
    """Return an image for each name."""
    return {name: draw(seed, format) for seed, name in enumerate(names)}


def kermany(root: str = "chest_xray") -> Files:
    """Mendeley v3: disease, number of the patient, number of the image; 2 to 3 images of each of 12 patients."""
    diseases = {"NORMAL": "NORMAL", "BACTERIA": "PNEUMONIA", "VIRUS": "PNEUMONIA"}
    return drawn(
        [
            f"{root}/train/{folder}/{disease}-{1008087 + 11 * patient + k}-{view + 1:04d}.jpeg"
            for k, (disease, folder) in enumerate(diseases.items())
            for patient in range(4)
            for view in range(2 + patient % 2)
        ],
        "JPEG",
    )


def oct_beside_kermany() -> Files:
    """Mendeley v3 as it is packed: retinas beside the chests."""
    retinas = [f"CellData/OCT/{split}/CNV/CNV-{n}-1.jpeg" for split in ("train", "test") for n in range(4)]
    return drawn(retinas, "JPEG") | {f"CellData/{path}": data for path, data in kermany().items()}


def nih(folders: dict[str, list[str]]) -> Files:
    """NIH ChestX-ray14, sorted into folders by hand: number of the patient, number of the image."""
    return drawn([f"{folder}/{name}" for folder, names in folders.items() for name in names])


def chexpert() -> Files:
    """CheXpert's patients and studies, below class folders."""
    return drawn(
        [
            f"{label}/patient{10 * k + patient:05d}/study{study}/view1_frontal.jpg"
            for k, label in enumerate(("Edema", "None"))
            for patient in range(3)
            for study in (1, 2)
        ],
        "JPEG",
    )


def mimic() -> Files:
    """MIMIC-CXR's patients and studies, below class folders."""
    return drawn(
        [
            f"{label}/p1{k}/p1{k}00003{patient}/s5041{k}{patient}0{study}/{patient}{study}{k}ab-cd.jpg"
            for k, label in enumerate(("Edema", "None"))
            for patient in range(3)
            for study in (1, 2)
        ],
        "JPEG",
    )


def rsna() -> Files:
    """RSNA's DICOM, sorted into folders by hand: PatientID is the stem of the file, so no two are equal."""
    stems = [f"{label}_p{patient}-{view}" for label in ("Normal", "Opacity") for patient in (0, 1) for view in (1, 2)]
    pixels = np.random.default_rng(0).integers(0, 4095, (len(stems), 64, 64), dtype=np.uint16)
    return {f"{stem.split('_')[0]}/{stem}.dcm": make_dicom(pixels[k], PatientID=stem) for k, stem in enumerate(stems)}


def covid_radiography() -> Files:
    """COVID-19 Radiography: images and masks of the same name below each class."""
    names = [
        f"{label}/{kind}/{label}-{number}.png"
        for label in ("COVID", "Normal")
        for kind in ("images", "masks")
        for number in (1, 2)
    ]
    return drawn(names) | {"COVID.metadata.xlsx": b"-", "README.md.txt": b"-"}


def covidx() -> Files:
    """COVIDx: splits without classes; the labels are in lists."""
    names = [f"{split}/{split}-{number}.png" for split in ("train", "val", "test") for number in (1, 2)]
    return drawn(names) | {"train.txt": b"419639 train-1.png positive cohen\n"}


def padchest() -> Files:
    """PadChest: numbered folders that mean nothing."""
    return drawn([f"{folder}/2168_{number}.png" for folder in (0, 1, 2, 54) for number in (1, 2)])


def tbx11k() -> Files:
    """TBX11K: classes, and a folder of images whose labels were never published."""
    return drawn([f"imgs/{folder}/{folder[0]}{n}.png" for folder in ("health", "sick", "tb", "test") for n in (1, 2)])


def vindr() -> Files:
    """VinDr-CXR: DICOM with another suffix, sorted into folders by hand."""
    pixels = np.random.default_rng(0).integers(0, 4095, (4, 64, 64), dtype=np.uint16)
    return {
        f"{'AB'[k % 2]}/{k:032x}{suffix}": make_dicom(pixels[k], PatientID=None)
        for k, suffix in enumerate((".dicom", ".dicom", "", ""))
    }
