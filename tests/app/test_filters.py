import pytest
from streamlit.testing.v1 import AppTest


def _narrow() -> None:
    """What AppTest runs as a script: it sees nothing of this file."""
    import pandas as pd
    import streamlit as st

    from app import filters
    from app.filters import Filters

    images = pd.DataFrame(
        {
            "path": ["x/a.jpeg", "x/b.jpeg", "y/a(1).jpeg", "y/c.jpeg"],
            "label": ["NORMAL", "PNEUMONIA", "PNEUMONIA", "NORMAL"],
            "subtype": [None, "virus", "bacteria", None],
            "split": "train",
            "probability": [0.1, 0.5, 0.75, 1.0],
        }
    )
    values = {"label": "Label", "subtype": "Subtype", "split": "Split"}
    kept = filters.narrow(images, Filters(values, {"probability": "Probability"}), "images")
    st.markdown(" ".join(kept["path"]))


@pytest.fixture
def view() -> AppTest:
    return AppTest.from_function(_narrow).run()


def test_without_a_choice_every_image_passes(view: AppTest) -> None:
    assert view.markdown[0].value == "x/a.jpeg x/b.jpeg y/a(1).jpeg y/c.jpeg"
    assert [box.label for box in view.multiselect] == ["Label", "Subtype"], "all images have the same split"


def test_values_a_range_and_a_part_of_the_path_are_filters_that_hold_together(view: AppTest) -> None:
    view.multiselect[0].set_value(["PNEUMONIA"]).run()
    assert view.markdown[0].value == "x/b.jpeg y/a(1).jpeg"
    view.slider[0].set_value((60, 100)).run()
    assert view.markdown[0].value == "y/a(1).jpeg"
    view.multiselect[0].set_value([]).run()
    assert view.markdown[0].value == "y/a(1).jpeg y/c.jpeg"
    view.text_input[0].set_value("A(1)").run()
    assert view.markdown[0].value == "y/a(1).jpeg", "upper and lower case are the same, and no sign is special"
    view.multiselect[1].set_value(["virus"]).run()
    assert view.markdown[0].value == ""
