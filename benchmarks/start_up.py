"""Start-up: the time that a command takes before it does anything.

    python -m benchmarks.start_up --data images

Medians of whole processes: `cxr --help`, `cxr train --help`, a `cxr train` that is complete already, and a `cxr score`
that finds nothing new.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.results import keep

CXR = str(Path(sys.executable).with_name("cxr"))


def main() -> None:
    """Time each command, print the medians, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        small = ["--preset=quick", "--weights=none", "--size=32", "--epochs=1", "--folds=2", "--batch-size=16"]
        done = [CXR, "train", f"--data={Path(arguments.data).resolve()}", "--run-id=run", *small]
        score = [CXR, "score", "inbox", "--name=tiny"]
        (Path(scratch) / "inbox").mkdir()
        for command in (done, [CXR, "package", "run", "--name=tiny", "--promote"]):
            subprocess.run(command, cwd=scratch, check=True, capture_output=True)
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "cxr --help": [CXR, "--help"],
            "cxr train --help": [CXR, "train", "--help"],
            "cxr train, everything done before": done,
            "cxr score, nothing new": score,
        }
        figures = {f"{name}, s": _median_s(command, scratch, arguments.repeats) for name, command in commands.items()}
    keep("start_up", figures)


def _median_s(command: list[str], folder: str, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return round(statistics.median(times), 2)


if __name__ == "__main__":
    main()
