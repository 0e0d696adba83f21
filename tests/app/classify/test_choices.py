"""The choices on the view Classify, each by itself."""

from pathlib import Path

from streamlit.testing.v1 import AppTest

from app.classify.loading import LoadedModel
from app.server import Folders
from tests.app.support import texts


def _choose(what: str, argument: object) -> None:
    """What AppTest runs as a script: it sees nothing of this file."""
    import streamlit as st

    from app.classify import choices

    st.session_state["chosen"] = getattr(choices, what)(argument)


def chosen(what: str, argument: object) -> AppTest:
    view = AppTest.from_function(_choose, kwargs={"what": what, "argument": argument}, default_timeout=60).run()
    assert not view.exception
    return view


def test_without_a_model_the_first_steps_are_named(tmp_path: Path) -> None:
    view = chosen("choose_model", Folders(tmp_path, tmp_path / "models", tmp_path, tmp_path))
    assert view.session_state["chosen"] is None
    assert "There is no model yet." in texts(view)
    assert "cxr demo" in texts(view)
    assert not view.selectbox


def test_the_champion_is_chosen_first_and_marked(folders: Folders, model: LoadedModel) -> None:
    view = chosen("choose_model", folders)
    assert view.selectbox[0].options == ["tiny, version 1, champion"]
    assert view.session_state["chosen"] is model


def test_a_model_of_classes_has_no_finding_to_choose(model: LoadedModel) -> None:
    view = chosen("choose_finding", model)
    assert view.session_state["chosen"] is model
    assert not view.selectbox


def test_the_packages_own_operating_point_is_chosen_first(model: LoadedModel) -> None:
    view = chosen("choose_threshold", model)
    decision = view.session_state["chosen"]
    assert (decision.point, decision.threshold) == ("youden", model.package.thresholds["youden"])
    view.pills[0].set_value("half").run()
    decision = view.session_state["chosen"]
    assert (decision.point, decision.threshold) == ("half", 0.5)
    assert "out of fold" in view.pills[0].help
