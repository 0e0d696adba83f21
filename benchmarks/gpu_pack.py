"""The GPU trial packed for a machine without a network: the core, the trial, the data, and the wheels it may lack."""

import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
LARGEST_PACK_MIB = 60
WHEELS = (
    "captum",
    "cyclopts",
    "docstring-parser",
    "docutils",
    "imagehash",
    "pandas",
    "pywavelets",
    "rich-rst",
    "simplejpeg",
)
"""What the core needs and a machine with PyTorch and the usual scientific packages may lack."""
RUN_SH = """#!/usr/bin/env bash
# Runs the trial on a machine without a network; the results are in $OUT, or in trial/.
set -euo pipefail
cd "$(dirname "$0")"
python3 -m pip install --quiet --no-index --no-deps --no-compile --upgrade --target site wheels/*.whl
export PYTHONPATH=$PWD:$PWD/site PYTHONUNBUFFERED=1
exec python3 -m benchmarks.gpu_trial --data data.zip --out "${OUT:-trial}" "$@"
"""


def pack(folder: Path, data: str) -> None:
    """Make a folder that holds all that the trial needs on a machine without a network."""
    folder.mkdir(parents=True)
    for name in ("cxr", "benchmarks", "tests/gpu"):
        ignored = shutil.ignore_patterns("__pycache__", "results")
        shutil.copytree(PROJECT / name, folder / name, ignore=ignored)
    (folder / "tests" / "__init__.py").touch()
    shutil.copyfile(PROJECT / "pyproject.toml", folder / "pyproject.toml")
    shutil.copyfile(data, folder / "data.zip")
    platforms = [word for age in ("2014", "_2_17", "_2_28") for word in ("--platform", f"manylinux{age}_x86_64")]
    words = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--python-version", "3.12", *platforms]
    subprocess.run([sys.executable, "-m", "pip", *words, "--dest", folder / "wheels", *WHEELS], check=True)
    script = folder / "run.sh"
    script.write_text(RUN_SH)
    script.chmod(0o755)
    mib = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20
    print(f"{folder}: {mib:.1f} MiB; on the other machine type bash {folder.name}/run.sh")
    if mib > LARGEST_PACK_MIB:
        sys.exit(f"that is more than {LARGEST_PACK_MIB} MiB: pack smaller data.")
