"""Several findings per image in tables of predictions; one label per image is in `test_predictions`."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from cxr.dataset.predictions import Predictions, read_predictions
from cxr.errors import ConfigError, CxrError, DataError
from cxr.prediction_columns import PredictionColumns

PATHS = [f"{k}.png" for k in range(8)]
EFFUSION = np.array([0.1, 0.2, 0.6, 0.3, 0.9, 0.8, 0.4, 0.7])
MASS = np.array([0.2, 0.9, 0.1, 0.8, 0.3, 0.7, 0.6, 0.4])
HAS_EFFUSION = [0, 0, 0, 0, 1, 1, 1, 1]
HAS_MASS = [0, 1, 0, 1, 0, 1, 0, 1]
NAMED = {"label_columns": ("Effusion,Mass",)}
JOINED = ["none", "Mass", "none", "Mass", "Effusion", "Effusion|Mass", "Effusion", "Effusion|Mass"]


def table(**columns: object) -> pd.DataFrame:
    """The eight images with label and probability of two findings, and columns changed; None takes a column out."""
    outputs = {"probability_Effusion": EFFUSION, "probability_Mass": MASS}
    all_columns = {"path": PATHS, "Effusion": HAS_EFFUSION, "Mass": HAS_MASS} | outputs | columns
    return pd.DataFrame({name: values for name, values in all_columns.items() if values is not None})


def read(place: Path, content: pd.DataFrame, **options: object) -> Predictions:
    content.to_csv(place / "p.csv", index=False)
    return read_predictions(place / "p.csv", PredictionColumns(**options), lambda: b"k" * 32)


def refused(place: Path, content: pd.DataFrame, **options: object) -> str:
    with pytest.raises(CxrError) as error:
        read(place, content, **options)
    assert isinstance(error.value, DataError | ConfigError)
    return str(error.value)


def test_each_finding_has_a_label_a_probability_and_its_log_odds(tmp_path: Path) -> None:
    predictions = read(tmp_path, table().sample(frac=1, random_state=0), **NAMED)
    images = predictions.table
    assert predictions.outputs == ("Effusion", "Mass")
    assert predictions.outputs.link == "sigmoid"
    assert images["path"].tolist() == PATHS
    assert images["finding_Effusion"].tolist() == [bool(value) for value in HAS_EFFUSION]
    assert images["label"].tolist() == [text.replace("none", "no finding") for text in JOINED]
    np.testing.assert_array_equal(images["probability_Mass"], MASS)
    np.testing.assert_allclose(expit(images["logit_Mass"]), MASS)
    assert predictions.facts["findings"]["counts"]["Mass"] == {
        "n_present": 4,
        "n_absent": 4,
        "n_unknown": 0,
        "n_groups_present": 4,
        "n_groups_absent": 4,
    }


def test_the_forms_of_labels_and_outputs_give_the_same_images(tmp_path: Path) -> None:
    expected = read(tmp_path, table(), **NAMED).table
    plain = table(Effusion=None, Mass=None)
    of_runs = plain.assign(finding_Effusion=HAS_EFFUSION, finding_Mass=HAS_MASS, label="")
    logits = {"logit_Effusion": np.log(EFFUSION / (1 - EFFUSION)), "logit_Mass": np.log(MASS / (1 - MASS))}
    words = {"y": np.where(HAS_EFFUSION, "sick", "well"), "z": HAS_MASS, "p": EFFUSION, "q": MASS, "path": PATHS}
    named = {
        "label_columns": ("Effusion=y", "Mass=z"),
        "probability_column": ("Mass=q", "Effusion=p"),
        "value": ("y:sick=present", "y:well=absent"),
    }
    joined = {"label_column": "found", "separator": "|", "value": ("found:none=absent",)}
    for content, options in (
        (of_runs, {}),
        (of_runs.assign(**logits), {}),
        (table(probability_Effusion=None, probability_Mass=None, **logits), NAMED),
        (pd.DataFrame(words), named),
        (plain.assign(found=JOINED), joined),
    ):
        pd.testing.assert_frame_equal(read(tmp_path, content, **options).table, expected)


def test_labels_of_another_table_stand_beside_outputs_of_the_same_name(tmp_path: Path) -> None:
    table()[["path", "Effusion", "Mass"]].to_csv(tmp_path / "labels.csv", index=False)
    outputs = pd.DataFrame({"path": PATHS, "Effusion": EFFUSION, "Mass": MASS})
    options = NAMED | {"labels": str(tmp_path / "labels.csv")}
    pd.testing.assert_frame_equal(read(tmp_path, outputs, **options).table, read(tmp_path, table(), **NAMED).table)
    table()[["path", "Effusion", "Mass"]].iloc[1:].to_csv(tmp_path / "labels.csv", index=False)
    assert "1 of 8 images are not in 'labels.csv'" in refused(tmp_path, outputs, blank="negative", **options)


def test_an_image_in_which_a_finding_is_unknown_counts_for_the_others(tmp_path: Path) -> None:
    holes = table(Effusion=[None, None, *HAS_EFFUSION[2:]], Mass=[None, -1, *HAS_MASS[2:]])
    predictions = read(tmp_path, holes, blank="mask", uncertain="positive", **NAMED)
    assert predictions.facts["images"] == {"rows": 8, "without_label": 1, "used": 7}
    assert predictions.table["finding_Effusion"].isna().tolist() == [True] + [False] * 6
    assert predictions.table["finding_Mass"].tolist() == [True, *map(bool, HAS_MASS[2:])]
    assert predictions.table["label"][0] == "Effusion?|Mass"
    absent = read(tmp_path, holes, blank="negative", uncertain="mask", **NAMED).table
    assert absent["finding_Effusion"].tolist() == [bool(value) for value in HAS_EFFUSION]


def test_parts_without_folds_are_of_whole_patients_and_the_others_hold_each_finding(tmp_path: Path) -> None:
    images = read(tmp_path, table(patient=[f"p{k // 2}" for k in range(8)]), **NAMED).table
    assert images.groupby("group_id")["part"].nunique().max() == 1
    assert images["part"].nunique() == 4
    for part in images["part"].unique():
        others = images[images["part"] != part]
        assert others[["finding_Effusion", "finding_Mass"]].nunique().tolist() == [2, 2]


def test_certain_probabilities_have_a_finite_logit_and_are_counted(tmp_path: Path) -> None:
    predictions = read(tmp_path, table(probability_Mass=[0, *MASS[1:7], 1]), **NAMED)
    assert np.isfinite(predictions.table["logit_Mass"]).all()
    assert predictions.facts["n_certain"] == 2


@pytest.mark.parametrize(
    ("changed", "options", "sentence"),
    [
        ({}, {"label_columns": ("Effusion,Hernia",)}, "column 'Hernia' is not in p.csv"),
        ({}, {"label_columns": ("Mass", "Mass=Effusion")}, "--label-columns names finding 'Mass' twice"),
        ({}, {"label_columns": ("Mass", "Tube=Mass")}, "column 'Mass' is given to the findings 'Mass' and 'Tube'"),
        (
            {},
            NAMED | {"probability_column": ("Mass=probability_Mass", "Effusion=probability_Mass")},
            "column 'probability_Mass' is given to the findings 'Mass' and 'Effusion': each has a column of its own",
        ),
        ({"probability_Mass": None}, NAMED, "finding 'Mass' has labels and no output; there are 'Effusion': give its"),
        (
            {},
            {"label_columns": ("Mass",), "probability_column": ("Mass=probability_Mass", "Tube=path")},
            "finding 'Tube' has an output and no label; labels are of 'Mass'",
        ),
        ({"Mass": None, "finding_Mass": HAS_MASS}, {}, "finding 'Effusion' has an output and no label; labels are"),
        (
            {},
            NAMED | {"probability_column": ("Mass=Mass", "Effusion=probability_Effusion")},
            "column 'Mass' holds the label of a finding, and --probability-column names it as an output",
        ),
        (
            {"probability_Mass": None, "probability_Effusion": None},
            NAMED,
            "give --probability-column or --logit-column FINDING=COLUMN for each finding.",
        ),
        ({"probability_Mass": [1.2, *MASS[1:]]}, NAMED, "a probability lies between 0 and 1, got 1.2 in column"),
        ({"probability_Mass": [None, *MASS[1:]]}, NAMED, "column 'probability_Mass' must hold one number for each"),
        ({"Mass": 0}, NAMED, "finding 'Mass' is present in no image, so it cannot be appraised: add images, or"),
        ({"Mass": 1}, NAMED, "finding 'Mass' is absent in no image, so it cannot be appraised"),
        ({"Mass": [1] + [0] * 7}, NAMED, "finding 'Mass' is present in images of one patient alone"),
        ({"Mass": [None, *HAS_MASS[1:]]}, NAMED, "column 'Mass' is blank in 1 of 8 rows: say what that means with"),
        ({"Mass": [-1, *HAS_MASS[1:]]}, NAMED, "column 'Mass' holds -1 (1 rows): say what it means with --uncertain"),
        ({"Mass": [2, *HAS_MASS[1:]]}, NAMED, "column 'Mass' holds '2' (1 rows): say what it means with --value"),
        ({}, NAMED | {"positive": "Mass"}, "--positive is for one label per image, and 'p.csv' has several findings"),
        ({}, NAMED | {"value": ("label:1=present",)}, "is about another column than the label, 'Effusion', 'Mass'"),
        ({"label": HAS_MASS}, {"blank": "negative"}, "--blank negative is for findings, and each image of 'p.csv' has"),
        ({"label": HAS_MASS}, {"uncertain": "mask"}, "--uncertain mask is for findings"),
        (
            {"found": "x"},
            {"label_column": "found", "separator": "|", "value": ("found:x=absent",)},
            "column 'found' names no finding",
        ),
        ({"mass": HAS_MASS}, {"label_columns": ("Mass,mass",)}, "the findings 'Mass' and 'mass' differ only in letter"),
        ({"logit_Effusion": 0.0, "logit_Mass": 0.0}, NAMED, "no logits of its columns probability_…, as their sigmoid"),
    ],
)
def test_what_would_have_to_be_guessed_of_findings_is_one_sentence(
    tmp_path: Path, changed: dict[str, object], options: dict[str, object], sentence: str
) -> None:
    assert sentence in refused(tmp_path, table(**changed), **options)
