"""Images that tests make: DICOM files, and a batch that the checks hold."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid


def draw_negatives(images: Path, batch: Path) -> None:
    """Make a batch that the checks hold: the images of another batch, inverted."""
    batch.mkdir()
    for image in images.glob("image-*.jpeg"):
        ImageOps.invert(Image.open(image).convert("L")).save(batch / image.name)


RAMP = np.linspace(0, 4095, 96 * 80).reshape(96, 80).astype(np.uint16)


def make_dicom(pixels: np.ndarray = RAMP, *, syntax: str = ExplicitVRLittleEndian, **tags: Any) -> bytes:
    """Return the bytes of a small DICOM image; tags replace the usual ones or add to them, None removes one."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    image = FileDataset("", {}, bytes(128), meta, syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian)
    usual = {
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "Modality": "DX",
        "PatientID": "SECRET-0815",
        "PatientName": "Doe^Jane",
        "PatientBirthDate": "19700101",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "SamplesPerPixel": 1 if pixels.ndim == 2 else 3,
        "PhotometricInterpretation": "MONOCHROME2" if pixels.ndim == 2 else "RGB",
        "PixelRepresentation": 0,
        "BitsAllocated": pixels.itemsize * 8,
        "BitsStored": 12 if pixels.itemsize == 2 else 8,
        "HighBit": 11 if pixels.itemsize == 2 else 7,
        "PixelData": pixels.tobytes(),
    }
    if pixels.ndim == 3:
        usual["PlanarConfiguration"] = 0
    for name, value in (usual | tags).items():
        if value is not None:
            setattr(image, name, value)
    stream = io.BytesIO()
    image.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def spread(values: np.ndarray) -> np.ndarray:
    """Values from 0, for the least, to 255, for the largest."""
    exact = values.astype(float)
    return ((exact - exact.min()) * 255 / (exact.max() - exact.min())).round().astype(int)


def colour(bits: int) -> np.ndarray:
    """A colour image of 64 × 64 pixels that uses all of its bits."""
    y, x = np.mgrid[:64, :64]
    most = 2**bits - 1
    exact = np.stack([x * most / 63, y * most / 63, (x + y) * most / 126], axis=-1)
    return exact.round().astype(np.uint8 if bits == 8 else np.uint16)
