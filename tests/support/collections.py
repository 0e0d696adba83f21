"""Miniatures of collections: tiny drawn images, with folders, names and columns as their publishers have them.

Each function fills a folder and returns it. Every patient has two images unless the collection knows no patients, and
classes are large enough for two folds.
"""

import gzip
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from tests.support.images import make_dicom

N_PATIENTS = 12
"""Half of them with the finding."""


def draw(seed: int, *, is_sick: bool = False) -> np.ndarray:
    """Return an image unlike that of any other seed, shape (72, 64), brighter in its middle where it is sick."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.uniform(40, 150, (9, 8)).astype(np.uint8))
    pixels = np.asarray(coarse.resize((64, 72), Image.Resampling.BICUBIC), float) + generator.normal(0, 8, (72, 64))
    pixels[24:48, 20:44] += 70 * is_sick
    return pixels.clip(0, 255).astype(np.uint8)


def write(path: Path, seed: int, *, is_sick: bool = False, **tags: str) -> None:
    """Write an image in the format of its suffix; tags are those of a DICOM file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = draw(seed, is_sick=is_sick)
    if path.suffix in (".dcm", ".dicom"):
        path.write_bytes(make_dicom(pixels, **tags))
    else:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG" if path.suffix == ".png" else "JPEG")
        path.write_bytes(stream.getvalue())


def nih(root: Path) -> Path:
    """Two folders of images, a table with several findings in a cell and a comma in a column's name, two lists."""
    lines = [
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
    ]
    names = []
    for k in range(2 * N_PATIENTS):
        patient, is_sick = k // 2, k // 2 % 2 == 0
        name = f"{patient + 1:08d}_{k % 2:03d}.png"
        write(root / f"images_{1 + k % 2:03d}" / "images" / name, k, is_sick=is_sick)
        findings = ("Pneumonia|Edema" if k % 4 == 0 else "Pneumonia") if is_sick else "No Finding"
        sex, view = "MF"[patient // 2 % 2], ("PA", "AP")[k % 2]
        lines.append(f"{name},{findings},{k % 2},{patient + 1},{20 + 5 * patient},{sex},{view},64,72,0.14,0.14,")
        names.append(name)
    (root / "Data_Entry_2017.csv").write_text("\n".join(lines) + "\n")
    (root / "test_list.txt").write_text("\n".join(names[-8:]) + "\n")
    (root / "train_val_list.txt").write_text("\n".join(names[:-8]) + "\n")
    return root


def rsna(root: Path) -> Path:
    """DICOM files whose PatientID is their own name; up to two rows an image; test images without rows."""
    lines, classes = ["patientId,x,y,width,height,Target"], ["patientId,class"]
    for k in range(2 * N_PATIENTS):
        name, is_sick = f"{k:04d}cfab-14fd-4e49-80ba-63a80b6bddd6", k % 2 == 0
        write(root / "stage_2_train_images" / f"{name}.dcm", k, is_sick=is_sick, PatientID=name, ViewPosition="PA")
        boxes = ["1,2,3,4", "5,6,7,8"] if k % 4 == 0 else ["1,2,3,4"] if is_sick else [",,,"]
        lines += [f"{name},{box},{int(is_sick)}" for box in boxes]
        classes += [f"{name},{'Lung Opacity' if is_sick else 'Normal'}"] * len(boxes)
    for k in range(3):
        write(root / "stage_2_test_images" / f"test-{k}.dcm", 100 + k, PatientID=f"test-{k}")
    (root / "stage_2_train_labels.csv").write_text("\n".join(lines) + "\n")
    (root / "stage_2_detailed_class_info.csv").write_text("\n".join(classes) + "\n")
    return root


CHEXPERT = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,"
    "Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices"
)


def chexpert(root: Path) -> Path:
    """A folder for each patient and study, two tables with a leading folder in their paths; 1, 0, -1 and blank."""
    tables = {"train": [CHEXPERT], "valid": [CHEXPERT]}
    for patient in range(N_PATIENTS):
        split = "valid" if patient >= N_PATIENTS - 2 else "train"
        for view, position in enumerate(("Frontal", "Lateral"), 1):
            study = f"{split}/patient{patient + 1:05d}/study1/view{view}_{position.lower()}.jpg"
            write(root / study, 2 * patient + view, is_sick=patient % 2 == 0)
            pneumonia = "-1.0" if patient == 0 else ["1.0", "0.0", "1.0", ""][patient % 4]
            orientation = "AP" if view == 1 else ""
            others = ",".join([""] * 6)
            row = f"CheXpert-v1.0-small/{study},{('Male', 'Female')[patient // 2 % 2]},{40 + patient},{position},"
            tables[split].append(f"{row}{orientation},,{others},{pneumonia},{others}")
    for split, lines in tables.items():
        (root / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return root


def mimic(root: Path) -> Path:
    """Three compressed tables: labels by study, view and split by image; one study has no labels."""
    labels, metadata, splits = [], [], []
    for patient in range(N_PATIENTS + 1):
        subject, study = 10000032 + patient, 50414267 + patient
        for view in ("PA", "LATERAL"):
            dicom = f"{patient:08x}-{len(metadata):08x}-fbaef2be"
            write(root / f"files/p10/p{subject}/s{study}/{dicom}.jpg", len(metadata), is_sick=patient % 2 == 0)
            metadata.append({"dicom_id": dicom, "subject_id": subject, "study_id": study, "ViewPosition": view})
            split = ("train", "validate", "test")[max(0, patient - N_PATIENTS + 3)] if patient < N_PATIENTS else "train"
            splits.append({"dicom_id": dicom, "study_id": study, "subject_id": subject, "split": split})
        if patient < N_PATIENTS:
            value = 1.0 if patient % 2 == 0 else 0.0 if patient % 4 == 1 else None
            others = dict.fromkeys(("Atelectasis", "Cardiomegaly", "No Finding", "Support Devices"))
            labels.append({"subject_id": subject, "study_id": study, **others, "Pneumonia": value})
    for name, rows in (("chexpert", labels), ("metadata", metadata), ("split", splits)):
        data = pd.DataFrame(rows).to_csv(index=False).encode()
        (root / f"mimic-cxr-2.0.0-{name}.csv.gz").write_bytes(gzip.compress(data, mtime=0))
    return root


def vindr(root: Path) -> Path:
    """Files called .dicom, three readers for each training image who do not agree, one row for each test image."""
    train, test = [], []
    for k in range(2 * N_PATIENTS):
        name, is_sick = f"{k:032x}", k % 2 == 0
        split = "test" if k >= 2 * N_PATIENTS - 4 else "train"
        write(root / split / f"{name}.dicom", k, is_sick=is_sick, PatientID="")
        if split == "test":
            test.append(f"{name},{int(is_sick)},{int(not is_sick)}")
        else:
            votes = (1, 0, 1) if is_sick else (0, 0, int(k == 1))
            train += [f"{name},R{reader},{vote},{1 - vote}" for reader, vote in enumerate(votes, 8)]
    (root / "image_labels_train.csv").write_text("\n".join(["image_id,rad_id,Pneumonia,No finding", *train]) + "\n")
    (root / "image_labels_test.csv").write_text("\n".join(["image_id,Pneumonia,No finding", *test]) + "\n")
    return root


def shenzhen(root: Path) -> Path:
    """The label is the last digit of the name; readings as text, and masks."""
    for k in range(2 * N_PATIENTS):
        name = f"CHNCXR_{k + 1:04d}_{k % 2}"
        write(root / "CXR_png" / f"{name}.png", k, is_sick=k % 2 == 1)
        (root / "ClinicalReadings").mkdir(exist_ok=True)
        (root / "ClinicalReadings" / f"{name}.txt").write_text("male 45yrs\nnormal\n")
        write(root / "mask" / f"{name}_mask.png", 200 + k)
    return root


def montgomery(root: Path) -> Path:
    """As Shenzhen, with masks that have the images' names."""
    for k in range(2 * N_PATIENTS):
        name = f"MCUCXR_{k + 1:04d}_{k % 2}.png"
        write(root / "CXR_png" / name, k, is_sick=k % 2 == 1)
        for side in ("left", "right"):
            write(root / "ManualMask" / f"{side}Mask" / name, 300 + 2 * k + (side == "left"))
    return root


def padchest(root: Path) -> Path:
    """Numbered folders; a table with a nameless first column and a Python list in each cell."""
    rows = []
    for k in range(2 * N_PATIENTS):
        name, patient, is_sick = f"{216840 + k}_{k:03d}.png", k // 2, k // 2 % 2 == 0
        write(root / ("0", "1", "54")[k % 3] / name, k, is_sick=is_sick)
        labels = "['pneumonia', 'pleural effusion']" if k % 4 == 0 else "['pneumonia']" if is_sick else "['normal']"
        facts = {
            "ImageID": name,
            "PatientID": f"8{patient:07d}",
            "Projection": "PA",
            "PatientSex_DICOM": "MF"[k // 4 % 2],
        }
        rows.append(facts | {"Labels": labels})
    table = pd.DataFrame(rows)
    table.to_csv(root / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", index_label="")
    return root


def covidx(root: Path) -> Path:
    """Folders train and test; lists without a line of names, separated by blanks."""
    lines: dict[str, list[str]] = {"train": [], "test": []}
    for k in range(3 * N_PATIENTS):
        split = "test" if k >= 3 * N_PATIENTS - 6 else "train"
        finding = ("normal", "pneumonia", "COVID-19")[k // 2 % 3]
        write(root / split / f"image-{k}.png", k, is_sick=finding != "normal")
        lines[split].append(f"{k // 2} image-{k}.png {finding} rsna")
    for split, rows in lines.items():
        (root / f"{split}.txt").write_text("\n".join(rows) + "\n")
    return root


def kermany(root: Path) -> Path:
    """The Mendeley set, version 3, with images of OCT beside the radiographs."""
    for k in range(2 * N_PATIENTS):
        patient, is_sick = 1008000 + k // 2, k // 2 % 2 == 0
        disease = ("BACTERIA", "VIRUS")[k // 4 % 2] if is_sick else "NORMAL"
        split = "test" if k >= 2 * N_PATIENTS - 4 else "train"
        label = "PNEUMONIA" if is_sick else "NORMAL"
        name = f"{disease}-{patient}-{1 + k % 2:04d}.jpeg"
        write(root / "CellData" / "chest_xray" / split / label / name, k, is_sick=is_sick)
    for k in range(3):
        write(root / "CellData" / "OCT" / "train" / "NORMAL" / f"NORMAL-{1008000 + k}-{k}.jpeg", 400 + k)
    return root


def cohen(root: Path) -> Path:
    """A metadata table with CT and lateral views among the images, and annotations beside them."""
    rows = []
    for k in range(2 * N_PATIENTS):
        is_sick = k // 2 % 2 == 0
        name = f"image {k}.jpeg"
        write(root / "images" / name, k, is_sick=is_sick)
        finding = ("Pneumonia/Viral/COVID-19" if k % 4 else "Pneumonia/Bacterial") if is_sick else "No Finding"
        rows.append([k // 2, "MF"[k // 4 % 2], 30 + k, finding, ("PA", "AP Supine")[k % 2], "X-ray", name])
    write(root / "images" / "lateral.jpeg", 500)
    write(root / "images" / "todo.jpeg", 501)
    write(root / "annotations" / "image 0-mask.png", 502)
    rows += [
        [90, "M", 60, "Pneumonia", "L", "X-ray", "lateral.jpeg"],
        [91, "M", 60, "todo", "PA", "X-ray", "todo.jpeg"],
        [92, "F", 61, "Pneumonia/Viral/COVID-19", "Axial", "CT", "volume.nii.gz"],
    ]
    columns = ["patientid", "sex", "age", "finding", "view", "modality", "filename"]
    pd.DataFrame(rows, columns=columns).to_csv(root / "metadata.csv", index=False)
    return root


def tbx11k(root: Path) -> Path:
    """Folders health, sick and tb, and test images that have no label."""
    for k in range(3 * N_PATIENTS):
        write(root / "imgs" / ("health", "sick", "tb")[k % 3] / f"{'hst'[k % 3]}{k:04d}.png", k, is_sick=k % 3 == 2)
    for k in range(3):
        write(root / "imgs" / "test" / f"test_{k:08d}.png", 600 + k)
    (root / "lists").mkdir()
    (root / "lists" / "TBX11K_train.txt").write_text("health/h0000.png\n")
    return root


def covid19(root: Path) -> Path:
    """A folder for each class with images and masks of the same names."""
    for k in range(4 * 8):
        label = ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")[k % 4]
        for kind, seed in (("images", k), ("masks", 700 + k)):
            write(root / label / kind / f"{label}-{1 + k // 4}.png", seed, is_sick=k % 4 == 0)
        (root / f"{label}.metadata.xlsx").write_bytes(b"PK\x03\x04")
    return root


def huggingface(root: Path) -> Path:
    """Folders train and test with the same names, each with a table beside its images."""
    for split, n_images, first in (("train", 16, 0), ("test", 8, 100)):
        rows = []
        for k in range(n_images):
            write(root / split / f"{k:04d}.png", first + k, is_sick=k % 2 == 0)
            rows.append({"file_name": f"{k:04d}.png", "label": ("PNEUMONIA", "NORMAL")[k % 2], "objects": {"bbox": []}})
        text = pd.DataFrame(rows).to_json(orient="records", lines=True)
        (root / split / "metadata.jsonl").write_text(text)
    return root


MINIATURES: dict[str, Callable[[Path], Path]] = {
    made.__name__: made
    for made in (
        nih,
        rsna,
        chexpert,
        mimic,
        vindr,
        shenzhen,
        montgomery,
        padchest,
        covidx,
        kermany,
        cohen,
        tbx11k,
        covid19,
        huggingface,
    )
}
"""What fills an empty folder with a miniature, by the name of the set's description."""
