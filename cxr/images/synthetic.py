"""Drawn chest images in the layout and naming of the Kaggle set, so that everything runs without real images.

All images of a patient show the same body. Bacterial pneumonia is one dense opacity in a lung, viral pneumonia faint
patches and a net in both lungs. Some are barely visible, and some healthy images have harmless shadows, so a model can
learn the signal, but not perfectly. How a chest is drawn is in `cxr.images.drawn_chest`.

Every image says SYNTHETIC in a corner and in its metadata; a text file beside the folders says so for the data set.
"""

import io
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cxr.errors import ConfigError
from cxr.images.drawn_chest import Body, Disease, draw_chest

MIN_IMAGES = 40
N_COPIES = 3
SPLIT_SHARE = {"train": 0.85, "test": 0.11, "val": 0.04}
SHARE_OF_PNEUMONIA = 0.7
SHARE_OF_VIRUS = 0.35
"""Among the patients with pneumonia."""
NOTICE = "SYNTHETIC images drawn by `cxr sample`: no patient, no clinical value, for trying the software only.\n"


@dataclass(frozen=True)
class _Patient:
    number: int
    disease: Disease | None
    split: str
    seed: int


def draw_images(out: Path, *, n_images: int, seed: int) -> None:
    """Draw `n_images` image files under `out`, including three byte-identical copies and a truncated file.

    Args:
        out: the folder to create.
        n_images: number of files, at least 40.
        seed: equal seeds draw equal files.

    Raises:
        ConfigError: `out` exists and is not an empty folder, or `n_images` is under 40.
    """
    if n_images < MIN_IMAGES:
        raise ConfigError(f"--images must be {MIN_IMAGES} or more, got {n_images}.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{str(out)!r} exists and is not an empty folder: give another, nothing is overwritten.")
    draft = out.with_name(f".{out.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    generator = np.random.default_rng(seed)
    originals: list[Path] = []
    for name, image in _images(n_images - N_COPIES - 1, generator):
        (draft / name).parent.mkdir(parents=True, exist_ok=True)
        (draft / name).write_bytes(image)
        originals.append(draft / name)
    train = [path for path in originals if path.parts[-3] == "train"]
    for index, original in enumerate(train[:: len(train) // N_COPIES][:N_COPIES]):
        shutil.copyfile(original, original.with_name(original.name.replace(".jpeg", f"{index + 1:02d}.jpeg")))
    sick = [path for path in train if path.parent.name == "PNEUMONIA"]
    whole = sick[-1].read_bytes()
    sick[-1].with_name("person9999_bacteria_9999.jpeg").write_bytes(whole[: len(whole) // 2])
    (draft / "SYNTHETIC.txt").write_text(NOTICE)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.exists():
        out.rmdir()
    draft.rename(out)


def draw_inbox(out: Path, *, n_images: int, seed: int) -> None:
    """Draw a batch of `n_images` images of other patients, and six files that are no radiographs, under `out`."""
    draft = out.with_name(f".{out.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    batch = draft / "ward-3"
    batch.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    images = [image for _, image in _images(n_images, generator)]
    for number, image in enumerate(images, start=1):
        (batch / f"image-{number:04d}.jpeg").write_bytes(image)
    (batch / "cut-short.jpeg").write_bytes(images[0][: len(images[0]) // 2])
    (batch / "empty.jpeg").touch()
    (batch / "letter.jpeg").write_text("Dear colleague, the image is attached.\n")
    colours = generator.integers(0, 255, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(colours).resize((320, 240)).save(batch / "photograph.jpeg")
    Image.new("L", (300, 300), 90).save(batch / "blank.png")
    Image.new("L", (300, 300), 90).save(batch / "scan.gif")
    draft.rename(out)


def draw_examples(seed: int = 60) -> dict[str, bytes]:
    """Return one image of each kind, as JPEG, by a description of the lungs; by default with opacities plain to see."""
    kinds: dict[str, Disease | None] = {
        "healthy lungs": None,
        "one dense patch": "bacteria",
        "faint patches on both sides": "virus",
    }
    generator = np.random.default_rng(seed)
    patients = {kind: _Patient(k, disease, "test", seed + k) for k, (kind, disease) in enumerate(kinds.items())}
    return {kind: _encode(_draw_image(patient, 0)[0], generator) for kind, patient in patients.items()}


def draw_with_opacities(n_images: int, seed: int) -> Iterator[tuple[bytes, NDArray[np.floating]]]:
    """Yield images with pneumonia, each as JPEG and with the density of its opacities.

    The density is square, of `cxr.images.drawn_chest.CANVAS_PX` pixels, and 0 where there is no opacity; stretched to a
    square, the image lies over it.
    """
    generator = np.random.default_rng(seed)
    for number in range(n_images):
        disease: Disease = "bacteria" if number % 2 else "virus"
        image, opacities = _draw_image(_Patient(number, disease, "test", int(generator.integers(2**32))), 0)
        yield _encode(image, generator), opacities


def _images(n_images: int, generator: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of each image, patient by patient."""
    drawn = 0
    for number in range(1, n_images + 1):
        patient = _draw_patient(number, generator)
        for view in range(min(1 + generator.geometric(0.6), 6)):
            if drawn == n_images:
                return
            drawn += 1
            yield _image_name(patient, view, drawn), _encode(_draw_image(patient, view)[0], generator)


def _draw_patient(number: int, generator: np.random.Generator) -> _Patient:
    disease: Disease | None = None
    if generator.random() < SHARE_OF_PNEUMONIA:
        disease = "virus" if generator.random() < SHARE_OF_VIRUS else "bacteria"
    split = generator.choice(list(SPLIT_SHARE), p=list(SPLIT_SHARE.values()))
    if number <= 2 * len(SPLIT_SHARE):  # every split has both classes
        split = list(SPLIT_SHARE)[(number - 1) // 2]
        disease = "bacteria" if number % 2 else None
    return _Patient(number, disease, str(split), int(generator.integers(2**32)))


def _image_name(patient: _Patient, view: int, serial: int) -> str:
    if patient.disease:
        return f"{patient.split}/PNEUMONIA/person{patient.number}_{patient.disease}_{serial}.jpeg"
    series = "NORMAL2-IM" if patient.number % 3 == 0 else "IM"
    return f"{patient.split}/NORMAL/{series}-{patient.number:04d}-{view + 1:04d}.jpeg"


def _draw_image(patient: _Patient, view: int) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return an image of a patient and where its opacities are, as `draw_chest` does."""
    body = Body.drawn_from(np.random.default_rng(patient.seed))
    return draw_chest(body, patient.disease, np.random.default_rng((patient.seed, view)))


def _encode(image: NDArray[np.floating], generator: np.random.Generator) -> bytes:
    """Return the image as JPEG of a random size, mode L or sometimes RGB, marked as synthetic, often with a side."""
    width = int(generator.integers(240, 520))
    size = width, int(width * generator.uniform(0.65, 0.95))
    picture = Image.fromarray((image * 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    draw.text((6, 4), "SYNTHETIC", fill=200)
    if generator.random() < 0.6:
        draw.text(
            (int(generator.integers(8, 24)), int(generator.integers(20, 40))), "R", fill=235, font_size=width // 22
        )
    if generator.random() < 0.05:
        picture = picture.convert("RGB")
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=88, comment=NOTICE.strip())
    return stream.getvalue()
