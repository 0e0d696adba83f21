import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cxr.classes import Classes
from cxr.metrics import drift
from cxr.metrics.drift import ACQUISITION, compare, holm, is_novel, outlying

TWO = Classes(["NORMAL", "PNEUMONIA"])
THREE = Classes(["bacteria", "normal", "virus"])


def draw_images(seed: int, n_images: int, classes: Classes = TWO) -> pd.DataFrame:
    """Draw scored images whose every column has one distribution whatever the seed."""
    generator = np.random.default_rng(seed)
    levels = {name: generator.normal(100, 15, n_images) for name in ACQUISITION}
    probability = generator.dirichlet(np.ones(len(classes)), n_images)
    columns = {f"probability_{name}": probability[:, k] for k, name in enumerate(classes)}
    predicted = np.array(classes)[probability.argmax(axis=1)]
    return pd.DataFrame(levels | columns | {"predicted_label": predicted, "novelty": generator.chisquare(5, n_images)})


def compared(images: pd.DataFrame, reference: pd.DataFrame, classes: Classes = TWO) -> pd.DataFrame:
    return compare(images, reference, classes).set_index("statistic")


def with_p_value(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that have a p-value."""
    return table[table["group"].isin(["acquisition", "features", "scores"])]


def slow_holm(p_values: list[float]) -> list[float]:
    """The least significance level at which stepping down from the smallest p-value rejects each hypothesis."""
    levels = sorted({min(1.0, p * factor) for p in p_values for factor in range(1, len(p_values) + 1)})
    corrected = [1.0] * len(p_values)
    for level in reversed(levels):
        for number, place in enumerate(sorted(range(len(p_values)), key=lambda k: p_values[k])):
            if p_values[place] * (len(p_values) - number) > level:
                break
            corrected[place] = level
    return corrected


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n", [1, 2, 9])
def test_holms_correction_equals_stepping_down(seed: int, n: int) -> None:
    p_values = np.round(np.random.default_rng(seed).random(n) ** 4, 3)  # with ties
    np.testing.assert_allclose(holm(p_values), slow_holm(p_values.tolist()))


def test_holms_correction_by_hand_and_in_any_order() -> None:
    p_values = np.array([0.01, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(holm(p_values), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(p_values[::-1]), [0.02, 0.06, 0.06, 0.03])
    np.testing.assert_array_equal(holm(np.array([1.0, 1.0])), [1, 1])
    assert holm(np.array([])).tolist() == []


def test_each_statistic_has_one_row() -> None:
    table = compare(draw_images(0, 30), draw_images(1, 50), TWO)
    assert list(table.columns) == drift.COLUMNS
    assert list(zip(table["group"], table["statistic"], strict=True)) == [
        *(("acquisition", name) for name in ACQUISITION),
        ("features", "novelty"),
        ("scores", "probability_PNEUMONIA"),
        ("novel_images", "share"),
        ("accuracy", "estimated"),
    ]
    assert (table["n"] == 30).all()
    assert (table["n_reference"] == 50).all()


def test_of_three_classes_each_has_a_score() -> None:
    table = compare(draw_images(0, 30, THREE), draw_images(1, 50, THREE), THREE)
    scores = table.loc[table["group"] == "scores", "statistic"].tolist()
    assert scores == [f"probability_{name}" for name in THREE]
    assert table.loc[table["group"] == "accuracy", ["value", "reference", "effect"]].notna().all(axis=None)


@pytest.mark.parametrize("classes", [TWO, THREE])
def test_batches_like_the_reference_are_not_said_to_differ(classes: Classes) -> None:
    reference = draw_images(0, 1000, classes)
    tables = [with_p_value(compared(draw_images(seed, 200, classes), reference, classes)) for seed in range(1, 31)]
    least = np.array([table["p_value"].min() for table in tables])
    assert least.min() > 0.001
    assert (least < 0.2).mean() < 0.4, "Holm keeps the chance of a false alarm at 0.2 or below"
    assert max(table["effect"].max() for table in tables) < 0.2


def test_the_reference_does_not_differ_from_itself() -> None:
    table = compared(draw_images(0, 100), draw_images(0, 100))
    assert (with_p_value(table)["effect"] == 0).all()
    assert (with_p_value(table)["p_value"] == 1).all()
    assert table.loc["estimated", "effect"] == 0
    assert table.loc["share", "value"] == 0.01


@pytest.mark.parametrize("column", [*ACQUISITION, "novelty", "probability_PNEUMONIA"])
def test_a_shift_is_found_in_the_statistic_that_is_shifted_and_in_no_other(column: str) -> None:
    images, reference = draw_images(1, 100), draw_images(0, 1000)
    shifted = images.assign(**{column: images[column] + 1.5 * images[column].std()})
    table = with_p_value(compared(shifted, reference))
    assert table.index[table["p_value"] < 0.001].tolist() == [column]
    assert table.index[table["effect"] > 0.3].tolist() == [column]
    assert table.loc[column, "value"] == pytest.approx(np.median(shifted[column]))
    assert table.loc[column, "reference"] == pytest.approx(np.median(reference[column]))


def test_a_change_of_spread_alone_is_found_as_well() -> None:
    images, reference = draw_images(1, 200), draw_images(0, 1000)
    wider = images.assign(mean=100 + 4 * (images["mean"] - 100))
    table = with_p_value(compared(wider, reference))
    assert table.index[table["p_value"] < 0.001].tolist() == ["mean"]


@pytest.mark.parametrize("seed", range(3))
def test_the_effect_is_the_largest_gap_between_the_distributions(seed: int) -> None:
    images, reference = draw_images(seed, 23).round(-1), draw_images(seed + 9, 57).round(-1)  # with ties
    table = compared(images, reference)
    for column in [*ACQUISITION, "novelty"]:
        values, known = images[column].tolist(), reference[column].tolist()
        gaps = [
            abs(sum(v <= x for v in values) / len(values) - sum(k <= x for k in known) / len(known))
            for x in values + known
        ]
        assert table.loc[column, "effect"] == pytest.approx(max(gaps), abs=1e-12)


def test_missing_measures_are_left_out_of_their_own_statistic_alone() -> None:
    images, reference = draw_images(0, 40), draw_images(1, 60)
    some = images.assign(width=images["width"].where(images.index < 25).astype("Float64"))
    table, whole = compared(some, reference), compared(images.head(25), reference)
    assert (
        table.loc["width", ["n", "value", "effect"]].tolist() == whole.loc["width", ["n", "value", "effect"]].tolist()
    )
    assert table.loc["height", "n"] == 40


def test_the_order_of_images_changes_nothing() -> None:
    images, reference = draw_images(0, 40), draw_images(1, 60)
    shuffled = compare(images.sample(frac=1, random_state=0), reference.sample(frac=1, random_state=1), TWO)
    pd.testing.assert_frame_equal(shuffled, compare(images, reference, TWO))


def with_novel(n_images: int, n_novel: int) -> pd.DataFrame:
    return draw_images(0, n_images).assign(novelty=[1e6] * n_novel + [0.0] * (n_images - n_novel))


@pytest.mark.parametrize(("n_images", "n_novel"), [(1, 1), (2, 1), (3, 3), (50, 0), (50, 1), (50, 20), (500, 500)])
def test_the_share_of_novel_images_is_bounded_as_clopper_and_pearson_do(n_images: int, n_novel: int) -> None:
    row = compared(with_novel(n_images, n_novel), draw_images(1, 1000)).loc["share"]
    bound = stats.beta.ppf(0.001, n_novel, n_images - n_novel + 1) if n_novel else 0
    assert row["effect"] == pytest.approx(bound, rel=1e-6)
    assert (row["n"], row["value"], row["reference"]) == (n_images, n_novel / n_images, pytest.approx(0.01))
    if n_novel:
        assert stats.binom.sf(n_novel - 1, n_images, row["effect"]) == pytest.approx(0.001, rel=1e-6)


def test_one_in_a_hundred_images_like_the_reference_is_novel() -> None:
    images = draw_images(0, 20_000)
    assert compared(images, draw_images(1, 20_000)).loc["share", "value"] == pytest.approx(0.01, abs=0.003)


@pytest.mark.parametrize("n_images", [0, 1, 2])
@pytest.mark.parametrize("classes", [TWO, THREE])
def test_a_batch_of_hardly_any_images_is_compared_without_a_claim(n_images: int, classes: Classes) -> None:
    table = compared(draw_images(1, n_images, classes), draw_images(0, 1000, classes), classes)
    assert (table["n"] == n_images).all()
    assert (with_p_value(table)["p_value"] > 0.001).all()
    assert table.loc["share", "effect"] == 0
    if n_images == 0:
        assert table["value"].isna().all()
        assert (with_p_value(table)["p_value"] == 1).all()
        assert with_p_value(table)["effect"].isna().all()
        assert np.isnan(table.loc["estimated", "effect"])


@pytest.mark.parametrize("n_reference", [0, 1])
def test_hardly_any_reference_images_are_compared_without_a_claim(n_reference: int) -> None:
    table = compared(draw_images(1, 5), draw_images(0, n_reference))
    assert (table["n_reference"] == n_reference).all()
    assert (with_p_value(table)["p_value"] > 0.001).all()


@pytest.mark.parametrize("n_images", [1, 2])
def test_images_beyond_all_others_are_as_unlikely_as_their_number_allows(n_images: int) -> None:
    images, reference = draw_images(1, n_images).assign(mean=1e6), draw_images(0, 300)
    n_orders = math.comb(300 + n_images, n_images)
    assert compared(images, reference).loc["mean", "p_value"] >= 2 / n_orders, (
        "all above or all below: two orders of them"
    )


def test_without_novelty_of_the_batch_nothing_is_claimed_of_it() -> None:
    table = compared(draw_images(1, 30).assign(novelty=np.nan), draw_images(0, 100))
    assert table.loc["novelty", ["n", "p_value"]].tolist() == [0, 1]
    assert table.loc["share", ["n", "effect"]].tolist() == [0, 0]
    assert table.loc[["novelty", "share"], "value"].isna().all()
    assert table.loc["mean", "n"] == 30


def test_without_novelty_of_the_reference_the_share_of_novel_images_is_undefined() -> None:
    table = compared(with_novel(30, 10), draw_images(0, 100).assign(novelty=np.nan))
    assert np.isnan(table.loc["novelty", "effect"])
    assert np.isnan(table.loc["share", "value"])


def test_accuracy_is_estimated_by_the_probability_of_the_predicted_class() -> None:
    images = draw_images(0, 3).assign(
        probability_NORMAL=[0.9, 0.4, 0.3],
        probability_PNEUMONIA=[0.1, 0.6, 0.7],
        predicted_label=["NORMAL", "PNEUMONIA", "NORMAL"],
    )
    reference = draw_images(1, 2).assign(
        probability_NORMAL=[0.2, 1.0], probability_PNEUMONIA=[0.8, 0.0], predicted_label=["PNEUMONIA", "NORMAL"]
    )
    row = compared(images, reference).loc["estimated"]
    assert row[["n", "n_reference"]].tolist() == [3, 2]
    assert row[["value", "reference", "effect"]].tolist() == pytest.approx([0.6, 0.9, -0.3])
    assert np.isnan(row["p_value"])


def test_accuracy_of_three_classes_is_estimated_in_the_same_way() -> None:
    images = draw_images(0, 2, THREE).assign(
        probability_bacteria=[0.5, 0.1],
        probability_normal=[0.3, 0.2],
        probability_virus=[0.2, 0.7],
        predicted_label=["bacteria", "virus"],
    )
    assert compared(images, images, THREE).loc["estimated", "value"] == pytest.approx(0.6)


def test_an_image_is_unusual_where_none_of_the_reference_was_like_it() -> None:
    reference = draw_images(0, 200)
    image = reference.iloc[7].to_dict()
    assert outlying(image, reference) == []
    strange = image | {"width": reference["width"].max() + 1, "border": reference["border"].min() - 1}
    assert outlying(strange, reference) == ["width", "border"]
    n_novel = sum(is_novel(value, reference) for value in reference["novelty"])
    assert n_novel == 2, "1% of the reference"
    assert not is_novel(float("nan"), reference)
