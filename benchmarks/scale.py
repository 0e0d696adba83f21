"""What 10⁵ and 10⁶ images a night cost on the machine that was measured, and which part reaches its limit first.

    python -m benchmarks.scale

Times come from the figures in `benchmarks/results/`, bytes from one chunk of rows that is written here. Steps that grew
with an exponent below 1 are taken as linear: there, start-up was spread over more images, which ends. Nothing is
assumed that was not measured: on a GPU training was, and scoring was not.
"""

import argparse
import hashlib
import math
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from cxr.config import TrainConfig
from cxr.images.inbox import Arrival
from cxr.serving.scoring import scores
from cxr.serving.scoring.scoring_runs import CHUNK
from cxr.storage.files import read_json
from cxr.storage.scores_folder import ScoresFolder

NIGHTS = (10**5, 10**6)
"""Images a night: 16 and 160 times as many as were scored in one run."""
ORIGINAL_BYTES = 220_000
"""Mean size of an original of the Kaggle set, a JPEG; a DICOM image has 10 to 30 MB."""
FOLDS = 5
"""That were trained side by side on the GPU, each on the images of the others."""
TASKS_BESIDE_CHUNKS = 3
"""Open the scoring run, check its one batch, write its report."""
DATABASES = ("sqlite", "postgresql")
GB, HOUR_S = 1e9, 3600


@dataclass(frozen=True)
class SourceImage:
    """The size of one image, in bytes."""

    row: float
    """On disk, in the scores' Parquet."""
    listed: float
    """At least, in the memory of the process that opens a scoring run: the listed file, its entry among those seen,
    and its row when the batch is checked."""
    prepared: float
    """In the cache, for training."""


@dataclass(frozen=True)
class Rates:
    """Measured rates."""

    scoring: Mapping[str, Any]
    growth: Mapping[str, Any]
    n_cores: int
    tasks_per_s: Mapping[str, float]
    """By database: task runs that the Prefect server keeps up with, in the longest trial."""
    trained: float
    """Images per second of five folds side by side, from scratch at 224 px, on one GPU."""
    gpu: str

    @property
    def scored(self) -> float:
        """Images per second from disk to table, on one machine."""
        return self.scoring["first image opened to table closed, images/s"]

    def grown_s(self, step: str, n_images: int) -> float:
        """Return the seconds that a step of training takes for a number of images, from the largest measured number."""
        n, seconds, _ = self.growth[f"{step}: images, s, peak GiB"][-1]
        return seconds * (n_images / n) ** max(1.0, self.growth[f"{step}: exponent"])


def main() -> None:
    """Print the costs, and the number of images at which each part reaches its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=8, help="length of a night")
    parser.add_argument(
        "--memory-gib", type=float, default=16, help="of the machine that opens and checks the scoring run"
    )
    arguments = parser.parse_args()
    rates, image = _read_rates(), _measure_image()
    heads = "".join(f" {n:,} |" for n in NIGHTS)
    print(f"| images a night |{heads}\n| --- |{' ---: |' * len(NIGHTS)}")
    for name, cost in _costs(rates, image, arguments.hours).items():
        print(f"| {name} |{''.join(f' {_rounded(cost(n))} |' for n in NIGHTS)}")
    print(f"\n| reaches its limit, in a night of {arguments.hours:g} h | above images |\n| --- | ---: |")
    limits = _limits(rates, image, arguments.hours, arguments.memory_gib)
    for name, n_images in sorted(limits.items(), key=lambda limit: limit[1]):
        print(f"| {name} | {_rounded(n_images)} |")
    for database in DATABASES:
        if database not in rates.tasks_per_s:
            print(f"not measured yet: Prefect on {database} (python -m benchmarks.orchestrator)", file=sys.stderr)


def _costs(rates: Rates, image: SourceImage, hours: float) -> dict[str, Callable[[int], float]]:
    """Return each cost as a function of the number of images a night."""
    machine = f"machine of {rates.n_cores} cores"
    orchestrated = {
        f"hours of Prefect's bookkeeping, {database}": lambda n, each=each: _n_tasks(n) / each / HOUR_S
        for database, each in rates.tasks_per_s.items()
    }
    return {
        f"scoring, hours of one {machine}": lambda n: n / rates.scored / HOUR_S,
        "the same in CPU-hours, each of one core": lambda n: n * rates.n_cores / rates.scored / HOUR_S,
        f"machines needed to finish within {hours:g} h": lambda n: math.ceil(n / rates.scored / HOUR_S / hours),
        "originals, GB": lambda n: n * ORIGINAL_BYTES / GB,
        f"read from storage over {hours:g} h, MB/s": lambda n: n * ORIGINAL_BYTES / hours / HOUR_S / 1e6,
        "scores, GB": lambda n: n * image.row / GB,
        "files of the scores": lambda n: math.ceil(n / CHUNK),
        "task runs": _n_tasks,
        **orchestrated,
        "memory to list and check it as one batch, at least, GB": lambda n: n * image.listed / GB,
        "to train on as many images at 224 px: cache, GB": lambda n: n * image.prepared / GB,
        f"preparing at 64 px, hours of one {machine}": lambda n: rates.grown_s("preparing", n) / HOUR_S,
        "five folds of a head at 64 px, the same": lambda n: rates.grown_s("five folds of a head", n) / HOUR_S,
        f"an epoch of five folds from scratch at 224 px, hours of one {rates.gpu}": lambda n: (
            n * (FOLDS - 1) / rates.trained / HOUR_S
        ),
    }


def _limits(rates: Rates, image: SourceImage, hours: float, memory_gib: float) -> dict[str, float]:
    """Return the number of images at which each part reaches its limit."""
    run_s = hours * HOUR_S
    bookkeeping = {f"Prefect on {name}": each * run_s * CHUNK for name, each in rates.tasks_per_s.items()}
    return {
        f"one machine of {rates.n_cores} cores that scores": rates.scored * run_s,
        f"{memory_gib:g} GiB of the one process that lists and checks a batch": memory_gib * 2**30 / image.listed,
        **bookkeeping,
    }


def _n_tasks(n_images: int) -> int:
    return math.ceil(n_images / CHUNK) + TASKS_BESIDE_CHUNKS


def _read_rates() -> Rates:
    results = Path(__file__).with_name("results")
    scoring = read_json(results / "scoring.json")
    growth = read_json(results / "growth.json")
    tasks_per_s = {}
    for database in DATABASES:
        if (file := results / f"orchestrator_{database}.json").exists():
            figures = read_json(file)["figures"]
            tasks_per_s[database] = _kept_up_with(figures)
    trial = read_json(results / "gpu_trial.json")["trials"][-1]
    return Rates(
        scoring["figures"],
        growth["figures"],
        scoring["machine"]["n_cores"],
        tasks_per_s,
        trained=trial["figures"][f"{FOLDS} folds side by side, images/s"],
        gpu=trial["machine"]["gpu"],
    )


def _kept_up_with(figures: Mapping[str, Any]) -> float:
    """Return the task runs per second of which the server learned the end, in its longest trial.

    Args:
        figures: of `benchmarks.orchestrator`.
    """
    n_tasks = max(int(name.split()[0]) for name in figures if name.endswith(" tasks, tasks/s"))
    seconds = figures[f"{n_tasks} tasks, s"] + figures[f"{n_tasks} tasks, s until the server was through"]
    return (n_tasks - figures[f"{n_tasks} tasks, the server never learnt the end of"]) / seconds


def _measure_image() -> SourceImage:
    """Return the size of an image, from a chunk of rows whose hashes and figures all differ, as in real ones."""
    config = TrainConfig(data="none")
    tracemalloc.start()
    arrivals = [
        Arrival(
            f"{_name(k)}.jpeg",
            f"/data/inbox/ward/{_name(k)}.jpeg",
            k,
            10**18 + k,
            signature=f"{k} {10**18 + k} {10**18 + k} {10**6 + k}",
        )
        for k in range(CHUNK)
    ]
    table = scores.scores_table([_row(arrival) for arrival in arrivals], ["NORMAL", "PNEUMONIA"])
    with tempfile.TemporaryDirectory() as scratch:
        before, _ = tracemalloc.get_traced_memory()
        seen = scores.Seen(ScoresFolder(Path(scratch)), "model", "1", "ward")
        seen.add(table)
        remembered = tracemalloc.get_traced_memory()[0] - before
        part = Path(scratch) / "part.parquet"
        scores.stage(part, table)
        row = part.stat().st_size / CHUNK
    tracemalloc.stop()
    listed = sum(map(_bytes_of, arrivals)) + remembered + int(table.memory_usage(deep=True).sum())
    return SourceImage(row=row, listed=listed / CHUNK, prepared=float(config.size**2))


def _bytes_of(arrival: Arrival) -> int:
    fields = vars(arrival)
    return sys.getsizeof(arrival) + sys.getsizeof(fields) + sum(map(sys.getsizeof, fields.values()))


def _name(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def _row(arrival: Arrival) -> dict[str, object]:
    generator = np.random.default_rng(arrival.n_bytes)
    probability = generator.random()
    measured: dict[str, object] = {
        name: generator.integers(500, 3000) if "Int" in kind else generator.random()
        for name, kind in scores.MEASURED.items()
    }
    return measured | {
        "batch": "ward",
        "path": arrival.path,
        "image_id": _name(arrival.n_bytes + CHUNK),
        "model": "model",
        "model_version": "1",
        "status": "ok",
        "probability_NORMAL": 1 - probability,
        "probability_PNEUMONIA": probability,
        "predicted_label": "PNEUMONIA",
        "in_training": False,
        "n_bytes": int(generator.integers(10**5, 10**6)),
        "changed_ns": arrival.changed_ns,
        "scored_at": datetime.now(UTC),
    }


def _rounded(value: float) -> str:
    """Return an integer as it is, and any other number with two significant digits."""
    if isinstance(value, int):
        return f"{value:,}"
    places = 1 - math.floor(math.log10(value))
    return f"{round(value, places):,.{max(0, places)}f}"


if __name__ == "__main__":
    main()
