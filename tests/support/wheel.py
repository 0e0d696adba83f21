"""The wheel, built from the checkout."""

import subprocess
import sys
from pathlib import Path

from tests.support.processes import PROJECT


def build_wheel(folder: Path) -> Path:
    """Build the wheel into an empty folder; return its file."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=PROJECT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built
