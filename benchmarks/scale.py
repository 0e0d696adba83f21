"""Beyond one machine, on paper: what 10⁵, 10⁶ and 10⁸ images a night cost, and which part gives way first.

    python -m benchmarks.scale

Times come from the figures in `benchmarks/results/`, bytes from one chunk of rows that is written here. What grew
with an exponent below 1 is taken as linear: there start-up was spread over more images, which ends. No GPU was
measured: its rate is an assumption, V100_IMAGES_PER_S.
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
from cxr.serving import scores
from cxr.serving.scoring_runs import CHUNK
from cxr.storage.files import read_json
from cxr.storage.scores_folder import ScoresFolder

NIGHTS = (10**5, 10**6, 10**8)
ORIGINAL_BYTES = 220_000
"""An original of the Kaggle set, a JPEG; a DICOM image has 10 to 30 MB."""
V100_IMAGES_PER_S = 3382
"""ResNet-50, 224 px, mixed precision, batch 256, forward pass alone: NVIDIA DeepLearningExamples, ResNet50 v1.5 for
PyTorch, inference on one V100 16 GB."""
TASKS_BESIDE_CHUNKS = 3
"""Open the night, judge the one batch, report."""
DATABASES = ("sqlite", "postgresql")
GB, HOUR_S = 1e9, 3600


@dataclass(frozen=True)
class SourceImage:
    """What one image takes, in bytes."""

    row: float
    """On disk, in the scores' Parquet."""
    listed: float
    """In the memory of the process that opens the night, at least: the file listed, noted as seen, its row judged."""
    prepared: float
    """In the cache, if it is trained on."""


@dataclass(frozen=True)
class Rates:
    """What was measured, per second."""

    scoring: Mapping[str, Any]
    decoding: Mapping[str, Any]
    growth: Mapping[str, Any]
    n_cores: int
    tasks_per_s: Mapping[str, float]
    """That the Prefect server keeps up with on each database that was measured, with the most tasks."""

    @property
    def scored(self) -> float:
        """Images from disk to table, on one machine."""
        return self.scoring["first image opened to table closed, images/s"]

    @property
    def decoded(self) -> float:
        """Images on one core."""
        return self.decoding["scaled, images/s"]

    def grown_s(self, step: str, n_images: int) -> float:
        """Return the seconds of a training's step with so many images, from the largest that was measured."""
        n, seconds, _ = self.growth[f"{step}: images, s, peak GiB"][-1]
        return seconds * (n_images / n) ** max(1.0, self.growth[f"{step}: exponent"])


def main() -> None:
    """Print the costs, and the number of images at which each part gives way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=8, help="length of a night")
    parser.add_argument("--memory-gib", type=float, default=16, help="of the machine that opens and judges the night")
    arguments = parser.parse_args()
    rates, image = _read_rates(), _measure_image()
    heads = "".join(f" {n:,} |" for n in NIGHTS)
    print(f"| images a night |{heads}\n| --- |{' ---: |' * len(NIGHTS)}")
    for name, cost in _costs(rates, image, arguments.hours).items():
        print(f"| {name} |{''.join(f' {_rounded(cost(n))} |' for n in NIGHTS)}")
    print(f"\n| gives way, in a night of {arguments.hours:g} h | above images |\n| --- | ---: |")
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
        f"hours that Prefect takes to keep its books, {database}": lambda n, each=each: _n_tasks(n) / each / HOUR_S
        for database, each in rates.tasks_per_s.items()
    }
    return {
        f"scoring, hours of one {machine}": lambda n: n / rates.scored / HOUR_S,
        "the same in CPU-hours, each of one core": lambda n: n * rates.n_cores / rates.scored / HOUR_S,
        f"machines that end within {hours:g} h": lambda n: math.ceil(n / rates.scored / HOUR_S / hours),
        "or GPU-hours, as assumed": lambda n: n / V100_IMAGES_PER_S / HOUR_S,
        "and CPU-hours to decode for it": lambda n: n / rates.decoded / HOUR_S,
        "originals, GB": lambda n: n * ORIGINAL_BYTES / GB,
        f"read from storage over {hours:g} h, MB/s": lambda n: n * ORIGINAL_BYTES / hours / HOUR_S / 1e6,
        "scores, GB": lambda n: n * image.row / GB,
        "files of the scores": lambda n: math.ceil(n / CHUNK),
        "task runs": _n_tasks,
        **orchestrated,
        "memory to list and judge it as one batch, at least, GB": lambda n: n * image.listed / GB,
        "to train on as many at 224 px: cache, GB": lambda n: n * image.prepared / GB,
        f"preparing at 64 px, hours of one {machine}": lambda n: rates.grown_s("preparing", n) / HOUR_S,
        "five folds of a head at 64 px, the same": lambda n: rates.grown_s("five folds of a head", n) / HOUR_S,
    }


def _limits(rates: Rates, image: SourceImage, hours: float, memory_gib: float) -> dict[str, float]:
    """Return the number of images at which each part is full."""
    run_s = hours * HOUR_S
    bookkeeping = {f"Prefect on {name}": each * run_s * CHUNK for name, each in rates.tasks_per_s.items()}
    return {
        f"one machine of {rates.n_cores} cores that scores": rates.scored * run_s,
        "one GPU, as assumed": float(V100_IMAGES_PER_S * run_s),
        f"{memory_gib:g} GiB of the one process that lists and judges a batch": memory_gib * 2**30 / image.listed,
        **bookkeeping,
    }


def _n_tasks(n_images: int) -> int:
    return math.ceil(n_images / CHUNK) + TASKS_BESIDE_CHUNKS


def _read_rates() -> Rates:
    results = Path(__file__).with_name("results")
    scoring, decoding, growth = (read_json(results / f"{name}.json") for name in ("scoring", "decoding", "growth"))
    tasks_per_s = {}
    for database in DATABASES:
        if (file := results / f"orchestrator_{database}.json").exists():
            figures = read_json(file)["figures"]
            tasks_per_s[database] = _kept_up_with(figures)
    n_cores = scoring["machine"]["n_cores"]
    return Rates(scoring["figures"], decoding["figures"], growth["figures"], n_cores, tasks_per_s)


def _kept_up_with(figures: Mapping[str, Any]) -> float:
    """Return the task runs a second whose ends the server learns, from first to last, in its longest trial."""
    n_tasks = max(int(name.split()[0]) for name in figures if name.endswith(" tasks, tasks/s"))
    spent, settling, lost = (
        figures[f"{n_tasks} tasks, {what}"]
        for what in ("s", "s until the server was through", "the server never learnt the end of")
    )
    return (n_tasks - lost) / (spent + settling)


def _measure_image() -> SourceImage:
    """Return what an image takes, from a chunk of them with hashes and figures as real ones have them: all unlike."""
    config = TrainConfig(data="none")
    tracemalloc.start()
    arrivals = [Arrival(f"{_name(k)}.jpeg", f"/data/inbox/ward/{_name(k)}.jpeg", k, 10**18 + k) for k in range(CHUNK)]
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
    """Return a count as it is, and anything else with two digits that count."""
    if isinstance(value, int):
        return f"{value:,}"
    places = 1 - math.floor(math.log10(value))
    return f"{round(value, places):,.{max(0, places)}f}"


if __name__ == "__main__":
    main()
