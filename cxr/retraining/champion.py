"""The champion that is trained again: its run, the images that it has met, and what has to be there to begin."""

from pathlib import Path

from cxr.classes import Classes
from cxr.config import RetrainConfig, RunLocation
from cxr.errors import DataError, RunError
from cxr.feedback.scored import read_scored
from cxr.labels.meanings import MEANING_OF_WORD
from cxr.retraining.images import require_labels
from cxr.serving.package import Package
from cxr.serving.registry import load_champion
from cxr.storage import files
from cxr.storage.run_folder import RunFolder
from cxr.storage.scores_folder import ScoresFolder
from cxr.training.run import Run, load_run


def require_possible(config: RetrainConfig, location: RunLocation) -> tuple[Package, Run]:
    """Return the champion and its run, before an image is read; errors as for `plan_retraining`."""
    for name, path in (("--out", config.out), ("--experiments", location.experiments), ("--cache", location.cache)):
        files.require_local(name, path)
    champion = load_champion(config.models, config.name)
    _require_plain(champion.classes)
    run = run_of(champion, location.experiments)
    scores = ScoresFolder.at(config.out)
    if not scores.path.is_dir():
        raise RunError(f"there are no scores in {str(scores.path)!r}: score some images first, or give --out.")
    require_labels(scores, config.name)
    return champion, run


def _require_plain(classes: Classes) -> None:
    words = [name for name in classes if name.casefold() in MEANING_OF_WORD]
    if words:
        raise DataError(
            f"the class {words[0]!r} is a word that a table of labels reads as a finding that is there or not: rename "
            "the class, and train a first version anew."
        )


def run_of(champion: Package, experiments: Path) -> Run:
    """Return the finished run that a version was made from.

    Raises:
        RunError: it is not there, is another run, or was trained with weights of images, which labels do not have.
    """
    run_id = champion.facts["run_id"]
    run = load_run(RunFolder.existing(run_id, experiments))
    if run.config_hash != champion.facts["identity"]["run"]:
        raise RunError(
            f"run {run_id!r} in {str(experiments)!r} is not the one that version {champion.version} of "
            f"{champion.name} was made from: give the --experiments that holds that."
        )
    if run.config.weight_column is not None:
        raise RunError(
            f"run {run_id!r} was trained with --weight-column {run.config.weight_column}, and labels that come later "
            "have no weights: train with `cxr train` and a table that has."
        )
    return run


def images_met(champion: Package, scores: ScoresFolder) -> set[str]:
    """Return the images that the champion was made from, and the copies that it has met since."""
    scored = read_scored(scores, champion.name, champion.classes)
    is_copy = (scored["model_version"] == champion.version) & scored["in_training"].astype(bool)
    return set(champion.images()["image_id"]) | set(scored.loc[is_copy, "image_id"])
