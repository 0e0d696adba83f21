"""What is in a package: each file, written in the order in which they need one another.

Everything that is chosen here is chosen on out-of-fold predictions.
"""

from collections.abc import Mapping
from typing import Any

from cxr.evaluation.out_of_fold import OutOfFold
from cxr.export.description import describe, package_facts
from cxr.export.int8_export import write_int8
from cxr.export.onnx_export import export_onnx
from cxr.export.reference import reference_of
from cxr.export.rounding import N_COMPARED, evenly_spread, measure_rounding
from cxr.export.weights import write_weights
from cxr.metrics.calibration import predict_labels
from cxr.serving.networks import PackagedNetworks
from cxr.storage import files, verified
from cxr.storage.model_folder import PackageFolder
from cxr.training.run import Run


def write_contents(folder: PackageFolder, run: Run, name: str, version: str, identity: Mapping[str, Any]) -> None:
    """Write every file of a package into its folder.

    Args:
        folder: empty.
        run: the finished run.
        name: of the model.
        version: of the package.
        identity: what is packaged, and how.

    Raises:
        PackageError: 8-bit integers move the probabilities too far.
    """
    predictions = verified.read_table(run.folder.predictions)
    out_of_fold = OutOfFold(predictions, run.classes)
    calibration = out_of_fold.calibration
    write_weights(folder, run)
    networks = PackagedNetworks(
        folder, len(run.classes), run.config.folds, run.config.trainable, "a package in the making"
    )
    int8 = {"int8": write_int8(networks, run, predictions, calibration)} if identity["int8"] else {}
    _write_reference(networks, run, out_of_fold, identity)
    if identity["onnx"]:
        models = [networks.model(fold) for fold in range(networks.n_folds)]
        export_onnx(folder.onnx, models, run.config.trainable, run.config.size, calibration)
    compared = run.squares(evenly_spread(predictions, N_COMPARED))
    bfloat16 = measure_rounding(networks, calibration, compared, run.cache)
    describe(folder, package_facts(run, out_of_fold, name, version, identity, bfloat16) | int8)


def _write_reference(networks: PackagedNetworks, run: Run, out_of_fold: OutOfFold, identity: Mapping[str, Any]) -> None:
    """Write the reference images, which drift is measured against, and the measure of novelty."""
    probability = out_of_fold.calibration.probability(out_of_fold.logits)
    images, novelty = reference_of(networks, run, out_of_fold.predictions, probability)
    threshold = out_of_fold.thresholds.get(identity["operating_point"], 0.5)
    predicted = predict_labels(probability, run.classes, threshold)
    files.write_table(networks.folder.images, images.assign(predicted_label=predicted))
    novelty.save(networks.folder.novelty)
