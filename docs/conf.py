"""How `make docs` builds these pages: Markdown by MyST, the command line and the library from the code."""

import dataclasses
import inspect
import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

PROJECT = Path(__file__).parents[1]
sys.path.insert(0, str(PROJECT))
log = logging.getLogger(__name__)

project = "cxr"
author = "The cxr authors"
html_title = "cxr"
html_theme = "furo"
html_show_sphinx = False
html_show_copyright = False

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "cyclopts.ext.sphinx"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False  # types stand in the signature
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # types of other libraries; their inventories are on the network
linkcheck_timeout = 20
linkcheck_ignore = [r"http://127\.0\.0\.1.*"]

IN_PROJECT = re.compile(r"(?:app|benchmarks|cxr|data_checks|deployments|docs|flows|tasks|tests)/[\w./@-]*")


def require_paths(app: Sphinx, page: nodes.document, name: str) -> None:
    """Warn, which `make docs` takes as an error, of a source path in backticks that the project does not have."""
    for literal in page.findall(nodes.literal):
        path = literal.astext()
        if IN_PROJECT.fullmatch(path) and not (PROJECT / path).exists():
            log.warning("%s: there is no %s", name, path, location=literal)


def complete_docstring(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Add the fields of a config's base classes to its own."""
    if what == "class" and dataclasses.is_dataclass(thing):
        for base in thing.__mro__[1:]:
            _, _, fields = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")
            lines[:] = [*"\n".join(lines).rstrip().split("\n"), *fields.split("\n"), ""]


def setup(app: Sphinx) -> None:
    """Check each page once its links are resolved, and complete docstrings before napoleon reads them."""
    app.connect("doctree-resolved", require_paths)
    app.connect("autodoc-process-docstring", complete_docstring, priority=400)
