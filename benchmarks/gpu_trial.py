"""A trial on a machine with a GPU: does the CUDA path hold, how fast does it train and score, what does it reach.

    python -m benchmarks.gpu_trial --data chest_xray_224.zip --out trial
    python -m benchmarks.gpu_trial --data chest_xray_224.zip --out trial --stages tests training
    python -m benchmarks.gpu_trial --data chest_xray_224.zip --pack gpu_trial
    python -m benchmarks.gpu_trial --data drawn/ --out trial --device cpu --small

The stages stand in the order of their worth. Each is a process of its own and writes each figure to its JSON under
`--out` at once, so that a trial that is stopped keeps its figures; a stage that fails says why in its JSON. With
`--originals`, images as they come from a hospital, scoring is measured on them too. It needs the core and torch alone,
no Prefect. `--pack` makes a folder for a machine without a network, with the core, the data and the packages that such
a machine may lack; there, `bash run.sh` starts the trial.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_pack import PROJECT, pack
from benchmarks.gpu_stages import STAGES, Figures, Trial, command_line, figures_file, read_figures, train_steps

MINUTES = 8.0


def main() -> None:
    """Run every stage, one after another, or one of them; or pack the trial."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, default=Path("trial"))
    parser.add_argument("--pack", type=Path)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--small", action="store_true", help="32 pixels, few images, one epoch")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--open-test", action="store_true", help="open the held-out test split, once")
    parser.add_argument("--originals", default="", help="images as they come, to score as well")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--epochs", type=int, help="of cross-validation, at most")
    parser.add_argument("--stage", choices=[*STAGES, "steps"], help="run one stage, in this process")
    arguments = parser.parse_args()
    if arguments.pack:
        pack(arguments.pack, arguments.data)
        return
    out = arguments.out.resolve()
    trial = Trial(
        arguments.data,
        out,
        arguments.device,
        arguments.small,
        60 * arguments.minutes,
        arguments.open_test,
        arguments.originals,
        arguments.stages,
        arguments.epochs,
    )
    if arguments.stage:
        if arguments.stage == "steps":
            train_steps(trial)
        else:
            STAGES[arguments.stage][0](trial, Figures(figures_file(trial, arguments.stage)))
        return
    sys.exit(1 if run_stages(trial) else 0)


def run_stages(trial: Trial) -> list[str]:
    """Run every stage in a process of its own; return those that failed."""
    if trial.home.exists():
        sys.exit(
            f"{str(trial.out)!r} holds an earlier trial, whose figures would pass for new ones: give another --out."
        )
    trial.home.mkdir(parents=True)
    deadline = time.monotonic() + trial.seconds
    failed = []
    figures_file(trial, "machine").write_text(json.dumps(_machine(trial.device), indent=1))
    for name, (_, share) in STAGES.items():
        if trial.stages and name not in trial.stages:
            continue
        allowed = share * (deadline - time.monotonic())
        words = [sys.executable, "-m", "benchmarks.gpu_trial", "--stage", name]
        started = time.monotonic()
        log = trial.out / f"{name}.log"
        with log.open("w") as output:
            try:
                code: int | str = subprocess.run(
                    [*words, *command_line(replace(trial, seconds=allowed))],
                    cwd=PROJECT,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=allowed,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                code = f"stopped after {allowed:.0f} s"
        taken = time.monotonic() - started
        file = figures_file(trial, name)
        figures = read_figures(trial, name) if file.exists() else {}
        if code != 0:
            figures["log"] = log.read_text()[-3000:]
        file.write_text(json.dumps({"ended": code, "seconds": round(taken, 1)} | figures, indent=1))
        if code != 0 or figures.get("exit code", 0):
            failed.append(name)
        print(
            f"{name}: {code}, {taken:.0f} s",
            json.dumps({k: v for k, v in figures.items() if k != "output"})[:4000],
            flush=True,
        )
    return failed


def _machine(device: str) -> Mapping[str, Any]:
    gpu = torch.cuda.get_device_name(device) if device != "cpu" else None
    names = ("torch", "torchvision", "numpy", "pandas")
    return {
        "gpu": gpu,
        "n_cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in names},
    }


if __name__ == "__main__":
    main()
