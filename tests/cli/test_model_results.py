from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from cxr.classes import Classes
from cxr.cli import model_results
from cxr.metrics.calibration import Calibration
from cxr.serving.package import Package
from cxr.storage import files
from cxr.storage.model_folder import PackageFolder
from cxr.storage.run_folder import ExplanationFolder
from cxr.storage.scores_folder import ScoringRunFolder

TWO = Classes(("NORMAL", "PNEUMONIA"))
THREE = Classes(("NORMAL", "bacteria", "virus"))
NAN = float("nan")


def test_a_scoring_run_names_its_batches_and_what_is_held_from_before(
    tmp_path: Path, printed: Callable[[], list[str]]
) -> None:
    folder = ScoringRunFolder(tmp_path / "scores" / "_scoring_runs" / "now")
    quiet = {"batch": "old", "decision": "nothing new", "n_scored": 0, "n_quarantined": 0, "n_waiting": 0}
    held = {"batch": "b", "decision": "held", "n_scored": 1500, "n_quarantined": 1, "n_waiting": 2}
    held |= {"n_unlike_training": 3, "other_files": {"text": 4, "PDF document": 1}}
    unknown = held | {"batch": "c", "n_unlike_training": None, "other_files": {}}
    record = {"format": files.FORMAT, "model": "tiny", "model_version": "3", "batches": [quiet, held, unknown]}
    files.write_json(folder.record, record | {"held": {"b": 1501, "a": 7}})
    model_results.show_scoring_run(folder)
    lines = printed()
    assert "held 'b': 1500 scored (3 unlike the training images), 1 quarantined, 5 other files, 2 waiting" in lines
    assert "held 'c': 1500 scored, 1 quarantined, 2 waiting" in lines
    assert "held, earlier scoring run 'a': 7 rows, until `cxr release` publishes them" in lines
    assert "model tiny 3, 3,000 images scored in this run" in lines
    assert not any("'old':" in line for line in lines)


def test_models_have_a_line_each_and_a_hint_where_there_are_none(printed: Callable[[], list[str]]) -> None:
    model = {"name": "tiny", "version": "1", "champion": True, "run": "r", "made_at": "today", "trainable": "head"}
    models = pd.DataFrame([model | {"size": 64, "n_images": 70, "roc_auc": NAN}])
    model_results.show_models(models)
    assert "tiny 1 yes r today head 64 70 –" in printed()
    model_results.show_models(models[:0])
    assert printed()[-1].startswith("no model yet: ")


@pytest.mark.parametrize(("classes", "limit"), [(TWO, ", predicted from 0.40 up"), (THREE, "")])
def test_explanations_say_what_is_predicted_and_why_a_file_is_not(
    classes: Classes, limit: str, tmp_path: Path, printed: Callable[[], list[str]]
) -> None:
    thresholds = {"half": 0.4} if classes == TWO else {}
    calibration = Calibration(1.0, (0.0,) * len(classes))
    folder = PackageFolder(tmp_path / "1")
    package = Package(
        folder, "tiny", classes, "head", 64, 2, calibration, thresholds, "half", {"novelty": {"limit": 20}}
    )
    label = classes[1]
    good = {"path": "a.png", "status": "ok", "predicted_label": label, f"probability_{label}": 0.75}
    bad = {"path": "b.txt", "status": "quarantined", "reason": "not_an_image", "detail": "text"}
    good |= {"fold_spread": 0.1, "target": "NORMAL", "picture": "1-a.png", "map": "HiResCAM of layer3"}
    far = good | {"path": "c.png", "novelty": 31.26, "unlike_training": True}
    table = pd.DataFrame([good | {"unlike_training": None}, bad, far]).astype({"unlike_training": "boolean"})
    model_results.show_explanations(table, package, ExplanationFolder(tmp_path))
    lines = printed()
    assert f"{label} with probability 0.750{limit}; the folds differ by 0.100" in lines
    assert f"where the model looked for NORMAL: {tmp_path / '1-a.png'}, HiResCAM of layer3" in lines
    assert "'b.txt': not predicted, not an image: text" in lines
    assert [line for line in lines if "unlike" in line] == ["unlike the training images (novelty 31.3, limit 20.0)"]
