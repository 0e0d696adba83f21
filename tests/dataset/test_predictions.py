from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.dataset.predictions import Predictions, read_predictions
from cxr.errors import ConfigError, CxrError, DataError
from cxr.prediction_columns import PredictionColumns
from tests.support.tables_of_others import (
    AUTOGLUON,
    LABELS,
    PATHS,
    PNEUMONIA,
    TIMM,
    TIMM_BY_DEFAULT,
    TIMM_TOP_K,
    lightning,
    scikit_learn,
)

NAMED_LABEL, NAMED_TARGET = (
    {"value": (f"{column}:0=NORMAL", f"{column}:1=PNEUMONIA")} for column in ("label", "target")
)
PAIR = {"probability_column": ("NORMAL=prob_0", "PNEUMONIA=prob_1")}


def key() -> bytes:
    return b"k" * 32


def table(**columns: object) -> pd.DataFrame:
    """The eight images with the probability of one class, and columns changed."""
    return pd.DataFrame({"path": PATHS, "label": LABELS, "probability_PNEUMONIA": PNEUMONIA} | columns)


def read(place: Path, content: pd.DataFrame | str, **options: object) -> Predictions:
    file = place / "predictions.csv"
    if isinstance(content, str):
        file.write_text(content)
    else:
        content.to_csv(file, index=False)
    return read_predictions(file, PredictionColumns(**options), key)


def refused(place: Path, content: pd.DataFrame | str, **options: object) -> str:
    with pytest.raises(CxrError) as error:
        read(place, content, **options)
    assert isinstance(error.value, DataError | ConfigError)
    return str(error.value)


def test_the_probability_of_one_of_two_classes_is_enough(tmp_path: Path) -> None:
    predictions = read(tmp_path, table().sample(frac=1, random_state=0))
    assert predictions.outputs == ("NORMAL", "PNEUMONIA")
    assert predictions.table["path"].tolist() == PATHS
    np.testing.assert_array_equal(predictions.table["probability_PNEUMONIA"], PNEUMONIA)
    np.testing.assert_array_equal(predictions.table["probability_NORMAL"], 1 - PNEUMONIA)
    np.testing.assert_allclose(predictions.table["logit_PNEUMONIA"], np.log(PNEUMONIA))
    assert predictions.table["fold"].isna().all()
    assert predictions.table["group_id"].tolist() == PATHS


def test_the_only_probability_is_of_the_positive_class_unless_another_is_named(tmp_path: Path) -> None:
    renamed = table().rename(columns={"probability_PNEUMONIA": "probability_sick"})
    renamed["label"] = renamed["label"].map({"NORMAL": "well", "PNEUMONIA": "sick"})
    assert read(tmp_path, renamed).outputs == ("well", "sick")
    turned = read(tmp_path, renamed, positive="well")
    assert turned.outputs == ("sick", "well")
    np.testing.assert_array_equal(turned.table["probability_sick"], PNEUMONIA)


@pytest.mark.parametrize(
    ("content", "options"),
    [
        (TIMM, PAIR | {"label_pattern": "([^/]+)/[^/]+$"}),
        (AUTOGLUON, NAMED_LABEL | {"probability_column": ("NORMAL=0", "PNEUMONIA=1")}),
        (lightning(), NAMED_TARGET | {"logit_column": ("NORMAL=logit_0", "PNEUMONIA=logit_1")}),
        (scikit_learn(), {}),
    ],
    ids=["timm", "AutoGluon", "Lightning", "scikit-learn"],
)
def test_what_other_programs_write_is_read(tmp_path: Path, content: pd.DataFrame | str, options: dict) -> None:
    predictions = read(tmp_path, content, **options)
    assert predictions.outputs == ("NORMAL", "PNEUMONIA")
    assert predictions.table["label"].tolist() == LABELS
    np.testing.assert_allclose(predictions.table["probability_PNEUMONIA"], PNEUMONIA, atol=1e-6)
    np.testing.assert_allclose(predictions.table["probability_NORMAL"], 1 - PNEUMONIA, atol=1e-6)


def test_a_parquet_file_gives_what_a_csv_file_gives(tmp_path: Path) -> None:
    scikit_learn().to_parquet(tmp_path / "predictions.parquet")
    one = read_predictions(tmp_path / "predictions.parquet", PredictionColumns(), key)
    pd.testing.assert_frame_equal(one.table, read(tmp_path, scikit_learn()).table)


def test_patients_are_hashed_and_folds_are_kept(tmp_path: Path) -> None:
    predictions = read(tmp_path, scikit_learn().assign(patient=["a", "a", "b", None, "c", "c", "d", "e"]))
    groups = predictions.table["group_id"]
    assert groups.nunique() == 6
    assert groups[3] == PATHS[3]
    assert groups[0] == groups[1]
    assert groups.drop(3).str.startswith("table-").all()
    assert predictions.table["fold"].tolist() == [0, 1] * 4
    counted = {name: predictions.facts[name] for name in ("n_groups", "n_patients", "n_images_without_patient")}
    assert counted == {"n_groups": 6, "n_patients": 5, "n_images_without_patient": 1}
    assert predictions.facts["n_patients_in_several_folds"] == 2


def test_parts_without_folds_are_of_whole_patients_and_hold_each_class(tmp_path: Path) -> None:
    patients = [f"n{k // 2}" for k in range(4)] + [f"p{k // 2}" for k in range(4)]
    images = read(tmp_path, table(patient=patients)).table
    assert images.groupby("group_id")["part"].nunique().max() == 1
    assert images.groupby("part")["label"].nunique().tolist() == [2, 2]


def test_folds_may_be_written_as_decimals(tmp_path: Path) -> None:
    assert read(tmp_path, table(fold=[0.0, 1.0] * 4)).table["fold"].tolist() == [0, 1] * 4


def test_one_fold_alone_is_none(tmp_path: Path) -> None:
    assert read(tmp_path, table(fold=[3] * 8)).facts["n_folds"] is None


def test_labels_of_another_table_are_found_by_path(tmp_path: Path) -> None:
    names = [path.rpartition("/")[2].removesuffix(".jpeg") for path in PATHS]
    labels = pd.DataFrame({"image": [*names, "another"], "label": [*LABELS, "NORMAL"], "sex": [*"FMFMFMFM", "F"]})
    labels.to_csv(tmp_path / "labels.csv", index=False)
    options = PAIR | {"labels": str(tmp_path / "labels.csv"), "subgroup_column": ("sex",)}
    images = read(tmp_path, TIMM, **options).table
    assert images["label"].tolist() == LABELS
    assert images["subgroup_sex"].tolist() == list("FMFMFMFM")
    labels.iloc[1:].to_csv(tmp_path / "labels.csv", index=False)
    assert "1 of 8 images are not in 'labels.csv'" in refused(tmp_path, TIMM, **options)
    masked = read(tmp_path, TIMM, blank="mask", **options)
    assert masked.facts["images"] == {"rows": 8, "without_label": 1, "used": 7}


def test_columns_of_another_table_are_no_outputs(tmp_path: Path) -> None:
    outputs = pd.DataFrame({"path": PATHS, "NORMAL": 1 - PNEUMONIA, "PNEUMONIA": PNEUMONIA})
    is_sick = [label == "PNEUMONIA" for label in LABELS]
    truth = pd.DataFrame({"path": PATHS, "label": LABELS, "PNEUMONIA": np.multiply(is_sick, 1)})
    truth.assign(NORMAL=1 - truth["PNEUMONIA"]).to_csv(tmp_path / "labels.csv", index=False)
    images = read(tmp_path, outputs, labels=str(tmp_path / "labels.csv")).table
    np.testing.assert_array_equal(images["probability_PNEUMONIA"], PNEUMONIA)


def test_rows_without_a_label_are_refused_or_left_out_and_counted(tmp_path: Path) -> None:
    holes = table(label=[None, *LABELS[1:]])
    assert "1 of 8 rows have no label" in refused(tmp_path, holes)
    read_ones = read(tmp_path, holes, blank="mask")
    assert read_ones.facts["images"] == {"rows": 8, "without_label": 1, "used": 7}
    assert len(read_ones.table) == 7


def test_rounded_probabilities_are_divided_by_their_sum(tmp_path: Path) -> None:
    images = read(tmp_path, table(probability_NORMAL=np.round(1 - PNEUMONIA, 1) + 0.004)).table
    total = images["probability_NORMAL"] + images["probability_PNEUMONIA"]
    np.testing.assert_allclose(total, 1, atol=1e-12)
    np.testing.assert_allclose(images["probability_PNEUMONIA"], PNEUMONIA / 1.004)


def test_probabilities_of_0_have_a_finite_logit_and_are_counted(tmp_path: Path) -> None:
    predictions = read(tmp_path, table(probability_PNEUMONIA=[0, *PNEUMONIA[1:7], 1]))
    assert np.isfinite(predictions.table[["logit_NORMAL", "logit_PNEUMONIA"]].to_numpy()).all()
    assert predictions.facts["n_certain"] == 2


def test_three_classes_are_in_order_and_take_no_positive_class(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    probability = generator.dirichlet(np.ones(3), 30)
    columns = {f"prob_{name}": probability[:, k] for k, name in enumerate("CAB")}
    content = pd.DataFrame({"image_id": [f"i{k}" for k in range(30)], "label": list("ABC") * 10} | columns)
    predictions = read(tmp_path, content)
    assert predictions.outputs == ("A", "B", "C")
    by_id = predictions.table.set_index("image_id").loc[content["image_id"]]
    np.testing.assert_allclose(by_id["probability_C"], probability[:, 0])
    assert "--positive is for two classes" in refused(tmp_path, content, positive="A")


@pytest.mark.parametrize(
    ("changed", "options", "sentence"),
    [
        ({"probability_NORMAL": 0.5}, {}, "must sum to 1, got 0.6 for 'test/NORMAL/IM-0000-0001.jpeg' (8 such rows)"),
        ({"probability_PNEUMONIA": [*PNEUMONIA[:7], np.nan]}, {}, "must hold one number for each image, got nothing"),
        ({"probability_PNEUMONIA": ["x", *PNEUMONIA[1:]]}, {}, "must hold one number for each image, got 'x'"),
        ({"probability_PNEUMONIA": ["[0.9 0.1]", *PNEUMONIA[1:]]}, {}, "write one column per class"),
        ({"probability_PNEUMONIA": [-0.2, *PNEUMONIA[1:]]}, {}, "between 0 and 1, got -0.2 in column"),
        ({"probability_PNEUMONIA": 4 * PNEUMONIA}, {}, "if these are logits, give --logit-column"),
        ({"probability_PNEUMONIA": 0.5 + PNEUMONIA / 2}, {}, "no value of column 'probability_PNEUMONIA' is below 0.5"),
        ({"path": [PATHS[1], *PATHS[1:]]}, {}, "each image needs one row; 1 has more, such as"),
        ({"path": [None, *PATHS[1:]]}, {}, "column 'path' is blank in 1 rows"),
        ({"label": ["other", *LABELS[1:]], "probability_NORMAL": 1 - PNEUMONIA}, {}, "label 'other' (1 row, such as"),
        ({"label": ["other", *LABELS[1:]]}, {}, "one probability is enough for two classes"),
        ({"label": ["PNEUMONIA"] * 8}, {}, "one probability is enough for two classes"),
        ({"probability_NORMAL": 1 - PNEUMONIA, "probability_TB": 0.0}, {}, "class 'TB' has a column and no image"),
        ({"label": ["normal", *LABELS[1:]]}, {}, "differ only in letter case"),
        ({"fold": ["a"] * 8}, {}, "column 'fold' must number the fold of each image (0, 1, 2, …), got 'a' in 8 of 8"),
        (
            {"target": LABELS},
            {},
            "the columns 'label' and 'target' of 'predictions.csv' may both be meant: give --label-",
        ),
        (
            {"filename": PATHS},
            {},
            "the columns 'path' and 'filename' of 'predictions.csv' may both be meant: give --path-",
        ),
        ({"prob_PNEUMONIA": PNEUMONIA}, {}, "may both be probabilities: give --probability-column"),
        ({}, {"probability_column": ("PNEUMONIA",)}, "--probability-column must look like PNEUMONIA=COLUMN"),
        ({}, {"probability_column": ("PNEUMONIA=p",)}, "column 'p' is not in predictions.csv; it has"),
        ({}, {"logit_column": ("PNEUMONIA=probability_PNEUMONIA",)}, "the logit of class 'PNEUMONIA' alone gives no"),
        ({}, {"positive": "TB"}, "--positive must name one of the classes 'NORMAL' and 'PNEUMONIA', got 'TB'"),
        ({}, {"value": ("other:1=PNEUMONIA",)}, "is about another column than the label, 'label'"),
        ({"patient": ["one"] * 4 + list("abcd")}, {}, "class 'NORMAL' has images of one patient alone"),
        (
            {"logit_NORMAL": 0.0, "logit_PNEUMONIA": 1.0, "probability_NORMAL": 1 - PNEUMONIA},
            {},
            "are no logits of its columns probability_",
        ),
    ],
)
def test_what_would_have_to_be_guessed_is_one_sentence(
    tmp_path: Path, changed: dict[str, object], options: dict[str, object], sentence: str
) -> None:
    assert sentence in refused(tmp_path, table(**changed), **options)


def test_a_column_that_says_no_class_is_asked_about(tmp_path: Path) -> None:
    content = table().rename(columns={"probability_PNEUMONIA": "probability"})
    assert "give --probability-column PNEUMONIA=probability" in refused(tmp_path, content)
    np.testing.assert_array_equal(
        read(tmp_path, content, positive="PNEUMONIA").table["probability_PNEUMONIA"], PNEUMONIA
    )
    odd = table().rename(columns={"probability_PNEUMONIA": "output"})
    assert "named after its labels 'NORMAL', 'PNEUMONIA'" in refused(tmp_path, odd)


def test_the_probability_of_whichever_class_is_predicted_is_no_classs(tmp_path: Path) -> None:
    labelled = TIMM_BY_DEFAULT.replace("filename,", "filename,truth,").replace(".jpeg,", ".jpeg,NORMAL,", 2)
    labelled = "\n".join(
        line.replace(".jpeg,", ".jpeg,PNEUMONIA,") if line.startswith("person") else line
        for line in labelled.split("\n")
    )
    options = {"label_column": "truth", "positive": "PNEUMONIA"}
    assert "no value of column 'prob' is below 0.5" in refused(tmp_path, labelled, **options)


def test_a_table_that_ranks_classes_in_each_row_is_refused(tmp_path: Path) -> None:
    pattern = {"label_pattern": "^(IM|person)"}
    assert "ranks the classes in each row" in refused(tmp_path, TIMM_TOP_K, **pattern)


@pytest.mark.parametrize("name", ["predictions.pickle", "nowhere.csv"])
def test_a_file_that_is_no_table_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "predictions.pickle").write_bytes(b"x")
    with pytest.raises(ConfigError, match="FILE"):
        read_predictions(tmp_path / name, PredictionColumns(), key)
