"""The model card, rendered from model_card.md.j2, or from findings_card.md.j2 for a model with several findings."""

import json
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from cxr import __version__
from cxr.wording import DISCLAIMER, display_name, format_estimate, markdown

LICENCE = "apache-2.0"
LIMITS = (
    DISCLAIMER,
    "Trained on the images described here and no others: other ages, hospitals and machines were not tested.",
    "It returns one of its classes for any input; drift and novelty are detected, not prevented.",
)


def model_card(facts: Mapping[str, Any]) -> str:
    """Return the model card of a package as Markdown, with Hugging Face's model-index metadata.

    Args:
        facts: the contents of package.json.
    """
    name = "findings_card.md.j2" if "metrics_by_finding" in facts else "model_card.md.j2"
    environment = Environment(
        loader=PackageLoader("cxr.export", ""),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701 Markdown
    )
    environment.filters["yaml"] = json.dumps  # JSON strings are YAML strings
    environment.filters["text"] = markdown
    environment.globals["display_name"] = display_name
    environment.globals["format_estimate"] = format_estimate
    return environment.get_template(name).render(**facts, cxr_version=__version__)
