"""From a finished run to a package, the next version of a model."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from cxr.classes import Findings
from cxr.config import OperatingPoint
from cxr.errors import ConfigError, RunError
from cxr.export.contents import write_contents
from cxr.export.fitted import require_operating_point, require_prevalence
from cxr.export.int8.layers import require_int8
from cxr.export.referral import require_level, require_referable
from cxr.export.versions import add_version, has_identity
from cxr.network.onnx_graph import require_onnx
from cxr.storage import files, verified
from cxr.storage.model_folder import ModelFolder, PackageFolder
from cxr.training.run import Run, require_complete

INT8 = "biases corrected"
"""How 8-bit integers are made, in a package's identity. Older packages have `judged`, with the biases as they were, or
true, with the thresholds of float32."""


def make_package(
    run: Run,
    target: ModelFolder,
    *,
    operating_point: OperatingPoint = "youden",
    prevalence: float | None = None,
    refer: float | None = None,
    onnx: bool = False,
    int8: bool = False,
    retrained: Mapping[str, Any] | None = None,
) -> PackageFolder:
    """Write a finished run as the next version of a model; return its folder.

    A run that was packaged under this name with the same options before keeps its version.

    Args:
        run: the finished run.
        target: the model.
        operating_point: whose threshold decides the predicted class; only for two classes, or for each of findings.
        prevalence: of the positive class where the model will be used; None for that of the run's images.
        refer: the share of each class that may be wrongly excluded; images that no class or several classes fit are
            referred. None to predict a class for every image.
        onnx: also write an ONNX graph from squares to probabilities.
        int8: write the layers in 8-bit integers, which alone score then, on CPUs that support them.
        retrained: `retrained` of package.json, of a run that `cxr retrain` has made; None for any other.

    Raises:
        ConfigError: a package needed for ONNX graphs or 8-bit integers is missing, or both are asked for; or the
            prevalence is not between 0 and 1, or `refer` above 0 and at 0.5 or below.
        RunError: the run is not finished.
        PackageError: the run has more than two classes and an operating point other than youden, or a prevalence; or
            images are to be referred, and have several findings, or a class has too few patients; or 8-bit integers may
            be worse than float32 by more than is allowed.
    """
    require_prevalence(prevalence, run.outputs)
    require_level(refer, run.outputs)
    _require_possible(run, operating_point, refer, onnx=onnx, int8=int8)
    identity = {
        "format": files.FINDINGS_FORMAT if isinstance(run.outputs, Findings) else files.FORMAT,
        "run": run.config_hash,
        "operating_point": operating_point,
        "onnx": onnx,
        "int8": INT8 if int8 else False,
        "weights": [verified.sha256_of(run.folder.fold(fold).weights) for fold in range(run.config.folds)],
    }
    if prevalence is not None:  # otherwise the identity is that of packages made before there was the option
        identity["prevalence"] = prevalence
    if refer is not None:
        identity["refer"] = refer
    more = {} if retrained is None else {"retrained": retrained}
    if retrained is not None:
        identity["retrained"] = retrained["package"]
    write = partial(write_contents, run=run, name=target.name, identity=identity, more=more)
    return add_version(target, has_identity(identity), write)


def _require_possible(
    run: Run, operating_point: OperatingPoint, refer: float | None, *, onnx: bool, int8: bool
) -> None:
    """Check every precondition before anything is written; errors as in `make_package`."""
    require_complete(run)
    if not verified.exists(run.folder.predictions):
        raise RunError(f"run {run.folder.run_id!r} has no tables yet: type `cxr evaluate {run.folder.run_id}`.")
    require_operating_point(operating_point, run.outputs)
    if refer is not None:
        require_referable(run, refer)
    if onnx and int8:
        raise ConfigError("--onnx writes float32 and --int8 integers, and a package scores in one of them: make two.")
    if onnx:
        require_onnx("--onnx")
    if int8:
        require_int8()
