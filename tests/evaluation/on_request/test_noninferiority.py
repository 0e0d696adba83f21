import numpy as np
import pytest
from sklearn import metrics as sk

from cxr.classes import Classes
from cxr.evaluation.analyses import operating_points
from cxr.evaluation.findings import FindingsOutOfFold
from cxr.evaluation.on_request.noninferiority import MARGINS, judge
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.metrics.bootstrap import draw_groups
from tests.support.findings import FINDINGS, simulate_findings
from tests.support.predictions import simulate


def noisy(images: OutOfFold, sd: float, seed: int = 1) -> OutOfFold:
    columns = images.classes.logit_columns
    noise = np.random.default_rng(seed).normal(0, sd, images.logits.shape)
    return OutOfFold(
        images.predictions.assign(**dict(zip(columns, (images.logits + noise).T, strict=True))), images.classes
    )


def test_the_bound_is_that_of_scikit_learns_metrics_on_the_same_draws_of_patients() -> None:
    before = simulate(300, slope=2)
    after = noisy(before, 0.1)
    judged = judge(before, after)
    truth = before.target == 1
    then, now = ({point.name: point.predicted for point in operating_points(images)} for images in (before, after))
    group = before.predictions["group_id"].factorize()[0]
    drawn: dict[str, list[float]] = {metric: [] for metric in MARGINS}
    for times in draw_groups(group.max() + 1)[:, group].astype(int):
        rows = np.repeat(np.arange(300), times)
        auc = [sk.roc_auc_score(truth[rows], images.probability[rows, 1]) for images in (before, after)]
        sensitivity = [truth[rows][called["youden"][rows]].sum() / truth[rows].sum() for called in (then, now)]
        specificity = [(~truth)[rows][~called["youden"][rows]].sum() / (~truth)[rows].sum() for called in (then, now)]
        for metric, (first, second) in zip(MARGINS, (auc, sensitivity, specificity), strict=True):
            drawn[metric].append(second - first)
    rows = judged[judged["operating_point"].isna() | (judged["operating_point"] == "youden")].set_index("metric")
    for metric, values in drawn.items():
        assert rows.loc[metric, "lower_bound"] == pytest.approx(np.quantile(values, 0.05), abs=1e-12)
    assert set(rows["share_changed"].dropna()) == {(then["youden"] != now["youden"]).mean()}
    assert rows.loc["sensitivity", "after"] == sk.recall_score(truth, now["youden"])
    assert rows.loc["specificity", "before"] == sk.recall_score(~truth, ~then["youden"])


@pytest.mark.parametrize("classes", [Classes("AB"), Classes("ABC")])
def test_equal_predictions_hold_and_worse_ones_do_not(classes: Classes) -> None:
    images = simulate(900, classes=classes, slope=2)
    same = judge(images, noisy(images, 0))
    assert same["holds"].all()
    assert (same["difference"] == 0).all()
    assert set(same["share_changed"].dropna()) == {0}
    worse = judge(images, noisy(images, 2))
    assert not worse.loc[worse["metric"] == "roc_auc", "holds"].any()
    assert set(worse["class"]) == set(classes.evaluated)


def test_a_difference_that_few_patients_cannot_show_to_be_small_does_not_hold() -> None:
    many = simulate(3000, slope=2)
    few = OutOfFold(many.predictions.iloc[:60].reset_index(drop=True), many.classes)
    rank = [judge(images, noisy(images, 0.05)).set_index("metric").loc["roc_auc"] for images in (many, few)]
    assert [row["holds"] for row in rank] == [True, False]


def test_images_of_one_patient_show_nothing() -> None:
    images = simulate(100)
    one = OutOfFold(images.predictions.assign(group_id="the same"), images.classes)
    assert not judge(one, one)["holds"].any()


def test_each_finding_is_judged_where_it_is_known() -> None:
    images = simulate_findings(600)
    noise = np.random.default_rng(0).normal(0, 3, len(images.predictions))
    changed = images.predictions.assign(logit_Mass=images.predictions["logit_Mass"] + noise)
    judged = judge(images, FindingsOutOfFold(changed, FINDINGS)).set_index("class")
    assert set(judged.index) == set(FINDINGS)
    assert judged.drop("Mass")["holds"].all()
    assert not judged.loc["Mass", "holds"].all()
    known = changed["finding_Mass"].notna().to_numpy()
    truth = changed["finding_Mass"][known].astype(bool)
    row = judged.loc["Mass"].set_index("metric").loc["roc_auc"]
    assert row["after"] == pytest.approx(sk.roc_auc_score(truth, changed["logit_Mass"][known]))


def test_predictions_of_classes_are_not_judged_against_those_of_findings() -> None:
    with pytest.raises(TypeError, match="both"):
        judge(simulate(100), simulate_findings(100))
