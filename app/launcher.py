"""What `cxr app` serves: the page, and for each view an address that leads to it.

Streamlit answers `/runs` with the page itself, whose script then looks for its server below `/runs` and meets two
errors (404) before it finds it. So `/runs` leads to `/?view=runs`, and the page opens the view from there.
"""

from functools import partial
from pathlib import Path

import streamlit as st
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.routing import Route

HERE = Path(__file__).parent
VIEWS = [module.parent.name for module in sorted(HERE.glob("*/view.py"))]


async def _lead(view: str, request: Request) -> RedirectResponse:
    """Return the way to a view."""
    return RedirectResponse(f"./?view={view}")


app = st.App(HERE / "main.py", routes=[Route(f"/{view}", partial(_lead, view)) for view in VIEWS])
