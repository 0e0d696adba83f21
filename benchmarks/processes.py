"""Run a command in a process of its own, and measure its seconds and the memory of its largest process.

    python -m benchmarks.processes cost.json command …

On Linux a process inherits the peak memory of the process that starts it, so a large benchmark or test would measure
itself. This module imports next to nothing and is run in between.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Finished:
    """A process that ended: its exit code, its output, seconds, and the peak memory of its largest process."""

    code: int
    output: str
    seconds: float
    peak_gib: float


def run_measured(command: list[str]) -> Finished:
    """Run a command; return how it ended, and its cost."""
    with tempfile.NamedTemporaryFile() as cost:
        words = [sys.executable, "-m", "benchmarks.processes", cost.name, *command]
        ended = subprocess.run(
            words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        return Finished(ended.returncode, ended.stdout, **json.loads(Path(cost.name).read_text()))


def _main(cost: str, *command: str) -> None:
    start = time.perf_counter()
    code = subprocess.run(command, check=False).returncode
    seconds = time.perf_counter() - start
    peak_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    Path(cost).write_text(json.dumps({"seconds": seconds, "peak_gib": peak_kib / 2**20}))
    sys.exit(code)


if __name__ == "__main__":
    _main(*sys.argv[1:])
