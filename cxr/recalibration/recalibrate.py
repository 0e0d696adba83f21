"""From a version of a model and labelled images of another site to the next version: the same networks, recalibrated.

A recalibration always starts from a version that was made from a run: images that were fitted before would otherwise
count twice.
"""

import hashlib
import logging
from pathlib import Path
from typing import Any

from cxr.config import OperatingPoint
from cxr.errors import PackageError
from cxr.export.fitted import require_operating_point, require_prevalence
from cxr.export.versions import add_version, has_identity
from cxr.labelling import LabelTables
from cxr.recalibration.fit import fit_labelled
from cxr.recalibration.labelled_images import LabelledImages, predict_labelled
from cxr.recalibration.labels import Labels, read_labels
from cxr.recalibration.version import require_writable, write_recalibrated
from cxr.serving.origin import recalibrated_from
from cxr.serving.package import Package, load_package
from cxr.storage.model_folder import ModelFolder, PackageFolder

log = logging.getLogger(__name__)


def recalibrate_model(
    model: ModelFolder,
    package: Package,
    labelling: LabelTables,
    *,
    images: Path | None = None,
    operating_point: OperatingPoint | None = None,
    prevalence: float | None = None,
    device: str = "auto",
    cache: Path = Path("cache"),
) -> PackageFolder:
    """Write the next version of a model, with calibration and thresholds from labelled images; return its folder.

    The same labels, images and options give the same version.

    Args:
        model: the model.
        package: the version to start from; if it was recalibrated itself, the version that it was made from.
        labelling: the tables of labels, as for training.
        images: folder or archive that holds the images; None for the folder of the first table.
        operating_point: whose threshold decides the predicted class; None for the version's own.
        prevalence: of the positive class where the model will be used; None for that of the labelled images.
        device: cpu, cuda:<index>, or auto.
        cache: keeps compiled graphs, and the key of the patients' hashes.

    Raises:
        ConfigError: the prevalence is not between 0 and 1, a path is not usable, or an extra is missing.
        DataError: the labels or images are not usable, or too few.
        PackageError: more than two classes and an operating point other than youden, or a prevalence; or the version
            to start from is gone.
    """
    start = _made_from_a_run(model, package)
    point = operating_point or start.operating_point
    require_prevalence(prevalence, start.classes)
    require_operating_point(point, start.classes)
    require_writable(start)
    labels = read_labels(labelling, images, start.classes, cache)
    labelled = predict_labelled(start, labels, device=device, cache=cache)
    log.info("%d labelled images: %s", len(labelled.table), labelled.n_by_class(start.classes))
    identity = _identity(start, labels, labelled, point, prevalence)

    def write(folder: PackageFolder, version: str) -> None:
        fitted = fit_labelled(start, labels, labelled, prevalence)
        write_recalibrated(folder, version, start, fitted, labelled, identity, cache)

    return add_version(model, has_identity(identity), write)


def _made_from_a_run(model: ModelFolder, package: Package) -> Package:
    version = recalibrated_from(package.facts)
    if version is None:
        return package
    if "pulled" in package.facts:
        return _pulled_start(model, package, version)
    if version not in model.versions():
        raise PackageError(
            f"version {package.version} of {model.name} was recalibrated from version {version}, which is gone: "
            f"package its run again (`cxr package {package.facts['run_id']} --name {model.name}`) and recalibrate that."
        )
    log.info("version %s was itself recalibrated: this starts from version %s, as it did", package.version, version)
    return load_package(model.version(version))


def _pulled_start(model: ModelFolder, package: Package, version: str) -> Package:
    """Return the version that a pulled one was recalibrated from elsewhere, under whatever number it is here."""
    start = package.facts["thresholds_from"]["package"]
    for number in model.versions():
        own = load_package(model.version(number))
        if start in (own.file_hash, own.facts.get("pulled", {}).get("sha256sums")):
            return own
    raise PackageError(
        f"version {package.version} of {model.name} was pulled, and recalibrated where it was made from version "
        f"{version} there, which is not here: pull that too (`cxr package pull {package.facts['pulled']['from']} "
        f"--name {model.name} --version {version}`), and recalibrate it."
    )


def _identity(
    start: Package, labels: Labels, labelled: LabelledImages, point: OperatingPoint, prevalence: float | None
) -> dict[str, Any]:
    ids = "\n".join(sorted(labelled.table["image_id"]))
    recalibrated = {
        "package": start.file_hash,
        "labels": labels.identity,
        "images": hashlib.sha256(ids.encode()).hexdigest(),
        "prevalence": prevalence,
    }
    return start.facts["identity"] | {"operating_point": point, "recalibrated": recalibrated}
