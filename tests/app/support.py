"""Views run by Streamlit's AppTest, without a browser."""

from streamlit.testing.v1 import AppTest

from app.server import Folders


def _run_view(module: str, folders: object) -> None:
    """What AppTest runs as a script: it sees nothing of this file."""
    import importlib

    importlib.import_module("app.main").view_of(module, folders)()


def opened(module: str, folders: Folders) -> AppTest:
    """Open a view."""
    view = AppTest.from_function(_run_view, kwargs={"module": module, "folders": folders}, default_timeout=120).run()
    assert not view.exception
    return view


def texts(view: AppTest) -> str:
    """Return all sentences of a view."""
    kinds = [view.title, view.header, view.subheader, view.markdown, view.caption, view.info, view.warning, view.error]
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def open_run(view: AppTest, run_id: str) -> None:
    """Open a run, as a click on its row does."""
    runs = view.dataframe[0].value["run"].tolist()
    view.session_state[f"runs {len(runs)}"] = {"selection": {"rows": [runs.index(run_id)], "columns": [], "cells": []}}
    view.run()
    assert not view.exception


def pictures(view: AppTest) -> list[str]:
    """Return the addresses of the pictures that a view shows, in their order."""
    return [address for image in view.image for address in image.value]
