"""What a wheel carries within `cxr`: the application, which lies beside it in a checkout; see `cxr/application.py`."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGES = ("app", "data_checks", "deployments", "flows", "tasks")


class Application(BuildHookInterface):
    """Adds code, templates and `prefect.yaml` to a wheel; an editable installation finds them in the checkout."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files before the wheel is built."""
        if version == "editable":
            return
        root = Path(self.root)
        code = [file for package in PACKAGES for kind in ("*.py", "*.j2") for file in (root / package).rglob(kind)]
        for file in ["prefect.yaml", *(file.relative_to(root).as_posix() for file in code)]:
            build_data["force_include"][file] = f"cxr/_application/{file}"
