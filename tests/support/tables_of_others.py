"""Tables of predictions as other programs write them, of the same eight images."""

from pathlib import Path

import numpy as np
import pandas as pd

from cxr.cli.app import app
from cxr.cli.main import app as _verbs  # noqa: F401 importing it adds the verbs
from cxr.storage.appraisal_folder import AppraisalFolder

PATHS = [f"test/NORMAL/IM-000{k}-0001.jpeg" for k in range(4)] + [
    f"test/PNEUMONIA/person{k}_virus_1.jpeg" for k in range(4)
]
LABELS = ["NORMAL"] * 4 + ["PNEUMONIA"] * 4
PNEUMONIA = np.array([0.1, 0.2, 0.6, 0.3, 0.9, 0.8, 0.4, 0.7])
"""One of sixteen pairs is in the wrong order, and one image of each class is predicted wrongly at 0.5."""
AUC = 15 / 16
RATE = 3 / 4
"""Accuracy, sensitivity and specificity."""

TIMM = """filename,prob_0,prob_1
test/NORMAL/IM-0000-0001.jpeg,0.9,0.1
test/NORMAL/IM-0001-0001.jpeg,0.8,0.2
test/NORMAL/IM-0002-0001.jpeg,0.39999998,0.6
test/NORMAL/IM-0003-0001.jpeg,0.7,0.3
test/PNEUMONIA/person0_virus_1.jpeg,0.1,0.9
test/PNEUMONIA/person1_virus_1.jpeg,0.20000002,0.8
test/PNEUMONIA/person2_virus_1.jpeg,0.6,0.4
test/PNEUMONIA/person3_virus_1.jpeg,0.3,0.7
"""
"""inference.py --topk 0 --results-separate-col --fullname; it knows no labels."""
TIMM_BY_DEFAULT = """filename,index,prob
IM-0000-0001.jpeg,0,0.9
IM-0002-0001.jpeg,1,0.6
person0_virus_1.jpeg,1,0.9
person2_virus_1.jpeg,0,0.6
"""
"""inference.py --include-index: the probability of whichever class is predicted."""
TIMM_TOP_K = """filename,index_0,index_1,prob_0,prob_1
IM-0000-0001.jpeg,0,1,0.9,0.1
IM-0002-0001.jpeg,1,0,0.6,0.4
person0_virus_1.jpeg,1,0,0.9,0.1
"""
"""inference.py --topk 2 --results-separate-col --include-index: classes in another order in each row."""
AUTOGLUON = """image,label,0,1
test/NORMAL/IM-0000-0001.jpeg,0,0.9,0.1
test/NORMAL/IM-0001-0001.jpeg,0,0.8,0.2
test/NORMAL/IM-0002-0001.jpeg,0,0.4,0.6
test/NORMAL/IM-0003-0001.jpeg,0,0.7,0.3
test/PNEUMONIA/person0_virus_1.jpeg,1,0.1,0.9
test/PNEUMONIA/person1_virus_1.jpeg,1,0.2,0.8
test/PNEUMONIA/person2_virus_1.jpeg,1,0.6,0.4
test/PNEUMONIA/person3_virus_1.jpeg,1,0.3,0.7
"""
"""test_data[["image", "label"]].join(predictor.predict_proba(test_data)): columns are the labels."""


def lightning() -> pd.DataFrame:
    """What a BasePredictionWriter collects of a network with two outputs: float32 logits and the target's index."""
    logits = np.log(np.stack([1 - PNEUMONIA, PNEUMONIA], axis=1)).astype(np.float32) + np.float32(3)
    return pd.DataFrame({"path": PATHS, "target": [0] * 4 + [1] * 4, "logit_0": logits[:, 0], "logit_1": logits[:, 1]})


def scikit_learn() -> pd.DataFrame:
    """cross_val_predict(…, method="predict_proba") beside the data, with the folds of a StratifiedGroupKFold."""
    probability = pd.DataFrame(np.stack([1 - PNEUMONIA, PNEUMONIA], axis=1), columns=["NORMAL", "PNEUMONIA"])
    facts = {"path": PATHS, "label": LABELS, "patient": [f"p{k}" for k in range(8)], "fold": [0, 1] * 4}
    return pd.DataFrame(facts).join(probability)


def of_findings() -> pd.DataFrame:
    """Labels and probabilities of two findings: the second is unknown in an image, and ranked right in the others."""
    columns = {"Effusion": [0] * 4 + [1] * 4, "probability_Effusion": PNEUMONIA}
    columns |= {"Mass": [None, 0, 1, 0, 1, 1, 0, 1], "probability_Mass": [0.9, 0.1, 0.8, 0.2, 0.6, 0.9, 0.3, 0.7]}
    return pd.DataFrame({"path": PATHS} | columns)


def appraised(place: Path, name: str, table: pd.DataFrame, *options: str) -> AppraisalFolder:
    """Appraise a table under a name, below a folder."""
    table.to_csv(place / f"{name}.csv", index=False)
    folders = [f"--appraisals={place / 'appraisals'}", f"--cache={place / 'cache'}"]
    app(["appraise", str(place / f"{name}.csv"), *folders, *options])
    return AppraisalFolder(place / "appraisals" / name)
