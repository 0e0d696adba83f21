from typing import Any

import pytest

from cxr.serving.origin import describe_origin, prevalence_of, recalibrated_from

OUT_OF_FOLD = {"source": "out_of_fold", "prevalence": 0.73, "stated_prevalence": None}
LABELLED = {
    "source": "labelled_images",
    "version": "1",
    "n_images": {"NORMAL": 20, "PNEUMONIA": 5},
    "prevalence": 0.2,
    "stated_prevalence": None,
}


@pytest.mark.parametrize(
    ("origin", "sentence", "version", "prevalence"),
    [
        (OUT_OF_FOLD, "out of fold", None, 0.73),
        (OUT_OF_FOLD | {"stated_prevalence": 0.055}, "out of fold, for a prevalence of 5.5%", None, 0.055),
        (LABELLED, "25 labelled images, from version 1", "1", 0.2),
        (
            LABELLED | {"stated_prevalence": 0.1},
            "25 labelled images, from version 1, for a prevalence of 10%",
            "1",
            0.1,
        ),
    ],
)
def test_a_version_says_where_its_thresholds_come_from(
    origin: dict[str, Any], sentence: str, version: str | None, prevalence: float
) -> None:
    facts = {"thresholds_from": origin}
    assert describe_origin(facts) == sentence
    assert recalibrated_from(facts) == version
    assert prevalence_of(facts) == prevalence


def test_a_package_of_before_is_out_of_fold_and_states_no_prevalence() -> None:
    assert (describe_origin({}), recalibrated_from({}), prevalence_of({})) == ("out of fold", None, None)
