"""What is computed, and where: frozen dataclasses that check every field when they are made.

`TrainConfig` holds what changes a run's numbers. `Execution` holds where the work is done and kept (devices, folders,
run id), which is not part of a run's identity: a run begun on one machine can be finished on another.

Each field's sentence under `Attributes` is the one that `--help` and the form in the Prefect UI show.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from cxr.errors import ConfigError
from cxr.labelling import LABELLING, Labelling
from cxr.recipe import Recipe

LabelFrom = Literal["folder", "subtype"]
Task = Literal["single", "multi"]
LeaveOut = Literal["patient", "cluster"]
Arithmetic = Literal["fp32", "bf16", "int8"]
ScorePrecision = Literal["auto", "fp32", "bf16", "int8"]
Compile = Literal["auto", "on", "off"]
FoldsPerDevice = int | Literal["auto"]
Runner = Literal["local", "workers", "ray"]
ScoreRunner = Literal["local", "ray"]
OperatingPoint = Literal["half", "balanced", "youden", "sensitivity_95", "specificity_95"]

BLANK_CONTRAST = 4.0
"""An image whose grey levels spread less is blank; real images spread 20 to 87 levels."""
PHOTOGRAPH_CHROMA = 8.0
"""Levels from grey above which an image is a colour photograph; radiographs saved as RGB stay under 1."""
ADDED: dict[str, Any] = {
    "leave_out": "patient",
    "task": "single",
    "class_folder": (),
    "test_views": "none",
    "progressive": 0.0,
    "zero_init_residual": False,
    "describe": None,
    **LABELLING,
}
"""Fields that older configs lack, and what those mean. The value is not written down, so that a run that was begun
without the field keeps its identity and its name."""
KAGGLE = "kaggle"
"""What `--data` takes for the Kaggle set, which is then downloaded."""
KAGGLE_PATIENT = r"^(person\d+|(?:NORMAL2-)?IM-\d+)(?=[-_.])"
"""The default, which stands for any of the known patterns: `cxr.dataset.patients` takes the one that fits the files."""


@dataclass(frozen=True, kw_only=True)
class ImagesConfig:
    """Which images there are, and how they are split into folds.

    Attributes:
        data: Folder, .zip, .tar or .tar.gz laid out as ROOT/[split/]CLASS/image.(jpeg|jpg|png|dcm), or in any way with
            tables of labels; or the word kaggle.
        folds: Number of cross-validation folds, 2 to 20.
        leave_out: What each fold leaves out: patients at random, or a cluster of images acquired alike.
        seed: Seed of the folds, the initial weights, the order of images and the augmentation.
        task: One label for each image (single), or several findings, each of them present, absent or unknown (multi).
        label_from: The class is the image's folder, or the subtype in its file name (NORMAL / bacteria / virus);
            with --task multi, bacteria and virus are two findings.
        positive: Positive class, where there are two; by default PNEUMONIA if the data has it. With tables of
            labels, the finding that is positive against the rest.
        holdout: Split of the archive that cross-validation never sees, such as test.
        patient_pattern: Regular expression whose first group, searched in the file name or else in the path, is the
            patient id; by default that of the known collection whose names the files have.
        class_folder: Folder that is a class, where not all are; images elsewhere are left aside. Repeatable.
    """

    data: str
    folds: int = 5
    leave_out: LeaveOut = "patient"
    seed: int = 0
    task: Task = "single"
    label_from: LabelFrom = "folder"
    positive: str | None = None
    holdout: str | None = None
    patient_pattern: str = KAGGLE_PATIENT
    class_folder: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require_choice("task", self.task, ("single", "multi"))
        object.__setattr__(self, "class_folder", tuple(self.class_folder))  # a list, if it was read from JSON
        _require_choice("label-from", self.label_from, ("folder", "subtype"))
        _require_choice("leave-out", self.leave_out, ("patient", "cluster"))
        _require_range("folds", self.folds, 2, 20)
        _require_range("seed", self.seed, 0, 2**31 - 1)
        try:
            n_groups = re.compile(self.patient_pattern).groups
        except re.error as error:
            raise ConfigError(
                f"--patient-pattern {self.patient_pattern!r} is not a regular expression: {error}."
            ) from error
        if n_groups < 1:
            raise ConfigError(f"--patient-pattern needs a group for the patient id, got {self.patient_pattern!r}.")
        self._require_task()

    def _require_task(self) -> None:
        """Raise ConfigError if an option makes no sense where images have several findings."""
        if self.has_findings and self.positive is not None:
            raise ConfigError(
                f"--positive {self.positive} is for two classes, and with --task multi each finding is one against its "
                "own absence: leave it out."
            )
        if self.has_findings and self.leave_out == "cluster":
            raise ConfigError(
                "--leave-out cluster compares images of one class, and with --task multi an image may have several "
                "findings: leave it out."
            )

    @property
    def has_findings(self) -> bool:
        """Return whether an image may have several findings."""
        return self.task == "multi"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the config whose fields `as_dict` returned; a field in ADDED that it lacks means what it did."""
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**({name: value for name, value in ADDED.items() if name in names} | dict(values)))

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, ready for JSON; those in ADDED only if they differ from it."""
        fields = {name: value for name, value in dataclasses.asdict(self).items() if (name, value) not in ADDED.items()}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    @property
    def default_run_id(self) -> str:
        """A readable name that follows from the parameters, so that the same command resumes the same run."""
        digest = hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()
        return f"{self._kind}-{digest[:8]}"

    @property
    def _kind(self) -> str:
        return "images"


@dataclass(frozen=True, kw_only=True)
class DataConfig(Labelling, ImagesConfig):
    """Which images there are, how they are labelled, and how they are split into folds."""

    def __post_init__(self) -> None:
        Labelling.__post_init__(self)  # a description may say which class is positive, and where patients are
        ImagesConfig.__post_init__(self)
        if self.reads_tables and self.label_from != "folder":
            raise ConfigError(f"--label-from {self.label_from} is for labels in folders: leave it out, or --labels.")
        if len(self.label_columns) == 1 and self.positive is None:
            object.__setattr__(self, "positive", self.label_columns[0])


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Recipe, DataConfig):
    """One cross-validated training run: which images, and how the network is trained on them.

    Each field is checked where the config is made: a value out of range raises a `CxrError`.

    Example:
        >>> config = cxr.TrainConfig(data="chest_xray", folds=3)
        >>> config.weights, config.size
        ('imagenet-v1', 224)
    """

    def __post_init__(self) -> None:
        DataConfig.__post_init__(self)
        Recipe.__post_init__(self)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, ready for JSON, without the preset, whose values they have."""
        return {name: value for name, value in super().as_dict().items() if name != "preset"}

    @property
    def _kind(self) -> str:
        return f"{self.trainable}-{self.size}px"


@dataclass(frozen=True, kw_only=True)
class RunLocation:
    """Where a run is kept, which is not part of its identity.

    Attributes:
        run_id: Name of the run; by default it follows from the config, so that the same command resumes the run.
        experiments: Folder that holds all runs, or a URL such as s3://bucket/experiments.
        cache: Folder for prepared images; shared by all runs and safe to delete.
    """

    run_id: str | None = None
    experiments: Path = Path("experiments")
    cache: Path = Path("cache")


@dataclass(frozen=True, kw_only=True)
class Execution(RunLocation):
    """Where a run is kept and computed.

    Example:
        >>> cxr.Execution(run_id="first", devices="cpu").experiments.name
        'experiments'

    Attributes:
        runner: What trains the folds: this machine's devices (local), the workers of the pool cxr-gpu (workers), or the
            nodes of a Ray cluster (ray).
        devices: auto, cpu, cpu,cpu or cuda:0,cuda:1; folds wait for a free one. A worker uses the device that it finds
            (auto) or its CPU (cpu).
        folds_per_device: Folds on each device at a time, 1 to 20; auto chooses by memory and batch size.
        redo_fold: Finished folds to train again.
        compile: Compile the frozen layers: on, off, or if the number of images repays it (auto).
        mlflow: MLflow store that also gets the finished run, such as sqlite:///mlflow.db; needs the extra [mlflow].
        ray_address: Address of the cluster: HOST:PORT on one of its nodes, ray://HOST:PORT elsewhere, or auto.
        gpus_per_fold: GPUs for each fold on the cluster, 0 to 1; 0 for nodes without GPUs, 0.5 for two folds on each.
    """

    runner: Runner = "local"
    devices: str = "auto"
    folds_per_device: FoldsPerDevice = "auto"
    redo_fold: tuple[int, ...] = ()
    compile: Compile = "auto"
    mlflow: str | None = None
    ray_address: str | None = None
    gpus_per_fold: float = 1.0

    def __post_init__(self) -> None:
        if self.folds_per_device != "auto":
            _require_range("folds-per-device", self.folds_per_device, 1, 20)
        _require_choice("compile", self.compile, ("auto", "on", "off"))
        _require_choice("runner", self.runner, ("local", "workers", "ray"))
        if self.runner == "workers" and self.devices not in ("auto", "cpu"):
            raise ConfigError(
                f"--devices must be auto or cpu with --runner workers, got {self.devices!r}: each worker finds its own "
                "device, so start one for each."
            )
        _require_range("gpus-per-fold", self.gpus_per_fold, 0, 1)


@dataclass(frozen=True, kw_only=True)
class RetrainConfig:
    """Which model is trained again with the images that were labelled since, and when it becomes champion.

    Attributes:
        name: Name of the model; its champion's run is repeated on more images.
        share: Share of the patients labelled since that is set aside: neither model is trained on them, and both are
            compared on them.
        margin: How much lower the ROC-AUC of the new version may be, with 95% confidence, for it to become champion.
        out: Folder of the scores, beside which the labels are kept.
        models: Folder that holds all packaged models.
    """

    name: str
    share: float = 0.3
    margin: float = 0.01
    out: Path = Path("scores")
    models: Path = Path("models")

    def __post_init__(self) -> None:
        _require_range("share", self.share, 0.05, 0.95)
        _require_range("margin", self.margin, 0, 0.2)


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """Which model scores an inbox, how, and where the scores go.

    Example:
        >>> cxr.ScoreConfig(name="pneumonia", precision="fp32").models.name
        'models'

    Attributes:
        name: Name of the model; its champion scores.
        out: Folder of the scores.
        models: Folder that holds all packaged models.
        cache: Folder for compiled kernels; safe to delete.
        settle: Seconds that a file must have been unchanged for; other files wait for the next scoring run.
        force: Publish the batches that the checks would hold.
        device: auto, cpu, or cuda:N.
        precision: Arithmetic: fp32, bf16, int8, or what the package is for (auto): int8 if it was packaged with --int8,
            and no other then; else bf16 if the device has it and it moves no probability by more than 0.01.
        compile: Compile the network: on, off, or if the number of images repays it (auto).
        workers: Processes that decode ahead of the network; by default none for a CPU, all cores but one for a GPU.
        runner: Where a batch is scored: in this process (local), or on a Ray cluster (ray), where any CPU reads and
            decodes files, and the network runs on the nodes with a GPU.
        ray_address: Address of the cluster: HOST:PORT on one of its nodes, ray://HOST:PORT elsewhere, or auto.
        gpus_per_chunk: GPUs for each process of the cluster that holds the model, 0 to 1; 0 for nodes without GPUs.
        dicom_out: Folder for a Structured Report and a picture of each published image that came as DICOM.
        dicom_to: Node that they are also sent to, as AETITLE@HOST:PORT.
        dicom_as: AE title of this program, when it calls that node.
    """

    name: str
    out: Path = Path("scores")
    models: Path = Path("models")
    cache: Path = Path("cache")
    settle: float = 60.0
    force: bool = False
    device: str = "auto"
    precision: ScorePrecision = "auto"
    compile: Compile = "auto"
    workers: int | None = None
    runner: ScoreRunner = "local"
    ray_address: str | None = None
    gpus_per_chunk: float = 1.0
    dicom_out: Path | None = None
    dicom_to: str | None = None
    dicom_as: str = "CXR"

    def __post_init__(self) -> None:
        _require_choice("runner", self.runner, ("local", "ray"))
        _require_range("gpus-per-chunk", self.gpus_per_chunk, 0, 1)
        _require_range("settle", self.settle, 0, 86400)
        _require_range("workers", self.workers or 0, 0, 256)
        if self.runner == "ray" and self.workers is not None:
            raise ConfigError(
                f"--workers {self.workers} is for --runner local: on a Ray cluster every CPU reads files; leave it out."
            )
        _require_choice("precision", self.precision, ("auto", "fp32", "bf16", "int8"))
        _require_choice("compile", self.compile, ("auto", "on", "off"))
        require_ae_title("--dicom-as", self.dicom_as)
        if self.dicom_to is not None:
            DicomNode.parse(self.dicom_to)
            if self.dicom_out is None:
                raise ConfigError("--dicom-to sends what --dicom-out has written: give --dicom-out FOLDER too.")


AE_TITLE = r"(?! )[ -\[\]-~]{1,16}(?<! )"
"""Printable ASCII without a backslash; spaces around it mean nothing (DICOM PS3.8 section 9.3.2)."""


def require_ae_title(option: str, title: str) -> None:
    """Raise ConfigError unless a text is the AE title of a DICOM node."""
    if not re.fullmatch(AE_TITLE, title):
        raise ConfigError(
            f"{option} must have 1 to 16 ASCII characters, no backslash, no space at its ends, got {title!r}."
        )


@dataclass(frozen=True)
class DicomNode:
    """Where another DICOM node is reached, and what it is called."""

    ae_title: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the node of an address as `--dicom-to` has it.

        Raises:
            ConfigError: the text is no address.
        """
        parts = re.fullmatch(rf"({AE_TITLE})@([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):(\d{{1,5}})", text)
        if parts is None or not 1 <= int(parts[3]) <= 65535:
            raise ConfigError(f"--dicom-to must be AETITLE@HOST:PORT, such as PACS@10.0.0.5:104, got {text!r}.")
        return cls(parts[1], parts[2].strip("[]"), int(parts[3]))

    def __str__(self) -> str:
        return f"{self.ae_title}@{self.host}:{self.port}"


def _require_range(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ConfigError(f"--{name} must lie between {least:g} and {most:g}, got {value!r}.")


def _require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"--{name} must be one of {', '.join(choices)}, got {value!r}.")
