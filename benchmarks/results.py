"""Figures of a benchmark: printed, and kept with machine, versions and date."""

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cxr.storage.files import now, write_json

LIBRARIES = ("torch", "torchvision", "numpy", "pillow", "opencv-python-headless", "prefect")


def keep(benchmark: str, figures: Mapping[str, Any]) -> None:
    """Print the figures and write them to `benchmarks/results/<benchmark>.json`.

    A library that is not installed has no version: a machine that only trains may lack Prefect.
    """
    abilities = torch.cpu.get_capabilities()
    machine = {
        "processor": abilities.get("cpu_name", platform.machine()),
        "n_cores": os.cpu_count(),
        "bfloat16": [name for name in ("avx512_bf16", "amx_bf16") if abilities.get(name)],
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
    installed = {distribution.name.lower(): distribution.version for distribution in importlib.metadata.distributions()}
    versions = {"python": platform.python_version()} | {name: installed.get(name) for name in LIBRARIES}
    record = {"benchmark": benchmark, "at": now(), "figures": dict(figures), "machine": machine, "versions": versions}
    write_json(Path(__file__).with_name("results") / f"{benchmark}.json", record)
    for name, value in figures.items():
        print(f"{name:<48}{json.dumps(value)}")
