from cxr.classes import Classes


def test_the_last_of_two_classes_is_positive_and_has_the_metrics() -> None:
    classes = Classes(["NORMAL", "PNEUMONIA"])
    assert classes.is_binary
    assert classes.positive == classes.headline == "PNEUMONIA"
    assert classes.evaluated == ("PNEUMONIA",)
    assert classes.probability_columns == ["probability_NORMAL", "probability_PNEUMONIA"]


def test_each_of_three_classes_has_metrics_and_their_macro_mean_stands_for_the_model() -> None:
    classes = Classes(["bacteria", "normal", "virus"])
    assert not classes.is_binary
    assert classes.positive is None
    assert classes.headline == "macro"
    assert classes.evaluated == classes
    assert classes.logit_columns == ["logit_bacteria", "logit_normal", "logit_virus"]
