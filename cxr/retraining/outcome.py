"""The new model beside the champion, on the images that neither was trained on: packaged, and promoted if no worse.

The rule: the new version becomes champion if the lower bound of the paired 95% interval of the ROC-AUC's difference
(new less champion, patients drawn with replacement, the same for both) is no lower than the margin allows, and
`cxr promote` does not find it worse on the images that both predicted out of fold. Otherwise it stays a challenger.
Nothing is chosen on these images: calibration and thresholds of both come from others.
"""

import logging
from typing import Any

from cxr.config import RetrainConfig
from cxr.errors import PackageError
from cxr.export.build import make_package
from cxr.retraining.images import FROM_FEEDBACK
from cxr.retraining.plan import Plan
from cxr.retraining.predictions import predict_by_both
from cxr.retraining.set_aside import LEAST
from cxr.serving import registry
from cxr.serving.challenger import Difference, paired_difference
from cxr.serving.package import Package, load_package
from cxr.storage import files, verified
from cxr.storage.model_folder import ModelFolder, PackageFolder
from cxr.training.run import Run, load_run

log = logging.getLogger(__name__)

WHEN = {"champion": "before", "challenger": "after"}
"""How a comparison of versions calls them."""


def conclude(plan: Plan, config: RetrainConfig) -> dict[str, Any]:
    """Compare, package and, by the rule, promote what a plan has trained; return the outcome, which is also written.

    Called again, it finds what it has packaged, and promotes what was to be promoted.

    Args:
        plan: its run is finished.
        config: the model and the margin.

    Returns:
        Fields: version, champion (after this), promoted, sentence, and `retrained` of package.json.

    Raises:
        RunError: another process is at the run.
    """
    run = load_run(plan.folder)
    model = ModelFolder.named(config.models, config.name)
    with files.locked(run.folder.lock, f"run {run.folder.run_id}"):
        files.sweep(run.folder.retraining.path)
        package = load_package(version_of(model, plan) or _packaged(run, model, plan, config))
        promoted, sentence = _promoted(model, package)
        outcome = {"version": package.version, "champion": registry.champion_version(model), "promoted": promoted}
        outcome |= {"sentence": sentence, "retrained": package.facts["retrained"]}
        verified.write_json(run.folder.retraining.outcome, outcome)
    log.info("retrain: %s", sentence)
    return outcome


def version_of(model: ModelFolder, plan: Plan) -> PackageFolder | None:
    """Return the version that was retrained from the same table of images before; None without one."""
    for version in model.versions():
        folder = model.version(version)
        if verified.read_json(folder.description).get("retrained", {}).get("images") == plan.images:
            return folder
    return None


def _packaged(run: Run, model: ModelFolder, plan: Plan, config: RetrainConfig) -> PackageFolder:
    """Return the next version of the model, made as the champion was, with the outcome of the comparison."""
    made_as = plan.champion.facts["identity"]
    return make_package(
        run,
        model,
        operating_point=plan.champion.operating_point,
        prevalence=made_as.get("prevalence"),
        refer=made_as.get("refer"),
        onnx=made_as["onnx"],
        int8=bool(made_as["int8"]),
        retrained=_compared(run, plan, config),
    )


def _compared(run: Run, plan: Plan, config: RetrainConfig) -> dict[str, Any]:
    """Return `retrained` of package.json: from what a version was retrained, and how it compares."""
    images = verified.read_table(run.folder.retraining.images)
    is_trained = (images["origin"] == FROM_FEEDBACK) & ~images["is_set_aside"]
    table = predict_by_both(run, plan.champion, images[images["is_set_aside"]].reset_index(drop=True))
    verified.write_table(run.folder.retraining.set_aside, table)
    compared = table[~table["in_training"]]
    n_patients = compared.groupby("label")["group_id"].nunique().reindex(run.classes, fill_value=0)
    origin = {
        "from": plan.champion.version,
        "package": plan.champion.file_hash,
        "images": plan.images,
        "n_added": images.loc[is_trained, "label"].value_counts().reindex(run.classes, fill_value=0).to_dict(),
        "n_patients_compared": n_patients.to_dict(),
        "share": config.share,
        "seed": run.config.seed,
        "margin": config.margin,
    }
    if (n_patients < LEAST).any():
        few = ", ".join(f"{n} of {name}" for name, n in n_patients.items())
        sentence = f"too few patients are left to compare on ({few}; {LEAST} of each needed)"
        return origin | {"compared": None, "is_no_worse": False, "sentence": sentence}
    names = {f"{who}_{c}": f"probability_{c}_{when}" for c in run.classes for who, when in WHEN.items()}
    difference = paired_difference(compared.rename(columns=names), run.classes)
    is_no_worse = bool(difference.ci_low >= -config.margin)
    sentence = _sentence(difference, plan.champion.version, config.margin, is_no_worse=is_no_worse)
    return origin | {"compared": vars(difference), "is_no_worse": is_no_worse, "sentence": sentence}


def _sentence(difference: Difference, champion: str, margin: float, *, is_no_worse: bool) -> str:
    verdict = "is lower by no more than" if is_no_worse else "is not shown to be lower by no more than"
    return (
        f"its ROC-AUC {verdict} {margin:g}: {difference.after:.4f} against {difference.before:.4f} of version "
        f"{champion}, difference {difference.value:+.4f} [{difference.ci_low:+.4f}, {difference.ci_high:+.4f}] on "
        f"{difference.n_images:,} images of {difference.n_groups:,} patients that neither was trained on"
    )


def _promoted(model: ModelFolder, package: Package) -> tuple[bool, str]:
    """Return whether a version is the champion by now, and a sentence that says why or why not."""
    retrained = package.facts["retrained"]
    name = f"version {package.version} of {model.name}"
    if registry.champion_version(model) == package.version:
        return True, f"{name} is the champion: {retrained['sentence']}"
    if not retrained["is_no_worse"]:
        return False, f"{name} stays a challenger: {retrained['sentence']}"
    try:
        registry.promote(model, package.version, over=retrained["from"], because=retrained["sentence"])
    except PackageError as error:
        return False, f"{name} stays a challenger, although {retrained['sentence']}: {error}"
    return True, f"{name} is the champion: {retrained['sentence']}"
