"""What is in a package: each file, written in the order in which they need one another.

Everything that is chosen here is chosen on out-of-fold predictions.
"""

from collections.abc import Mapping
from typing import Any

from cxr.export.description import describe, package_facts
from cxr.export.evaluated import in_float32
from cxr.export.fitted import fit
from cxr.export.int8.export import in_integers
from cxr.export.onnx_export import export_onnx
from cxr.export.reference import write_reference
from cxr.export.referral import fit_refer
from cxr.export.rounding import N_COMPARED, evenly_spread, measure_rounding
from cxr.export.weights import write_weights
from cxr.serving.networks import PackagedNetworks
from cxr.storage.model_folder import PackageFolder
from cxr.training.run import Run


def write_contents(
    folder: PackageFolder,
    version: str,
    *,
    run: Run,
    name: str,
    identity: Mapping[str, Any],
    more: Mapping[str, Any],
) -> None:
    """Write every file of a package into its folder.

    Args:
        folder: empty.
        version: of the package.
        run: the finished run.
        name: of the model.
        identity: what is packaged, and how.
        more: what else package.json says.

    Raises:
        PackageError: 8-bit integers may be worse than float32 by more than is allowed.
    """
    write_weights(folder, run)
    networks = PackagedNetworks(
        folder, len(run.outputs), run.config.folds, run.config.trainable, "a package in the making"
    )
    evaluated = in_float32(networks, run)
    if identity["int8"]:
        evaluated = in_integers(evaluated, networks, run, identity["operating_point"])
    out_of_fold = evaluated.out_of_fold
    fitted = fit(out_of_fold, identity.get("prevalence"))
    limit = write_reference(folder, evaluated, run, fitted, identity["operating_point"])
    if identity["onnx"]:
        export_onnx(folder.onnx, networks, run.config.size, fitted.calibration)
    compared = run.squares(evenly_spread(out_of_fold.predictions, N_COMPARED))
    bfloat16 = measure_rounding(networks, fitted.calibration, compared, run.cache)
    facts = package_facts(run, evaluated, fitted, name, version, identity, bfloat16)
    describe(folder, facts | {"novelty": limit, **more} | fit_refer(out_of_fold, fitted, identity.get("refer")))
