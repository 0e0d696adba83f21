"""The endpoint under load: images per second against the rate in one process, latencies, losses, and memory.

    python -m benchmarks.endpoint --data chest_xray_224.zip

Two models, trained on drawn images for one epoch, as their predictions do not matter here: a slow one (five folds,
every layer trained, 224 px), where the network is what costs, and a quick one (two folds, 32 px), where the endpoint
is. For each, the rate in one process (`cxr.Predictor` on the same files) and that of 1, 8 and 64 clients are measured
in turn, round after round, so that what else the machine does slows all of them; ratios are of one round each, and
their median is kept. CPU time is that of the process that predicts, without its clients. The clients
(`benchmarks.endpoint_clients`) are a process of their own on the same cores.

Then 64 clients send 50,000 requests to the quick model, and memory is read after each tenth of them.
"""

import argparse
import contextlib
import itertools
import json
import multiprocessing
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.endpoint_clients import Answers, Sent, ask
from benchmarks.results import keep
from cxr.dataset.listing.layout import list_images
from cxr.images.source import open_source
from cxr.images.synthetic import draw_images
from cxr.library import Predictor, load_champion
from cxr.network.devices import keep_freed_memory

CXR = (sys.executable, "-m", "cxr")
MODELS = {"slow": ("--size=224", "--folds=5"), "quick": ("--size=32", "--folds=2")}
CLIENTS = (1, 8, 64)
N_STEPS = 10
"""Readings of the memory."""
PATIENCE_S = 3600


@dataclass(frozen=True)
class Endpoint:
    """An endpoint that answers, and the images that it is asked for."""

    address: str
    images: Sequence[Sent]
    clients: ProcessPoolExecutor

    def ask(self, n_clients: int, *, n_requests: int | None = None, seconds: float = PATIENCE_S) -> Answers:
        """Send requests from another process."""
        return self.clients.submit(ask, self.address, self.images, n_clients, n_requests, seconds).result()

    def reading(self, metric: str) -> float:
        """Return a metric of the endpoint."""
        text = httpx.get(f"http://{self.address}/metrics", trust_env=False, timeout=60).text
        return float(re.findall(rf"^{metric} (\S+)$", text, re.MULTILINE)[0])


def main() -> None:
    """Train, package, serve and ask; print as it goes, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement of a rate")
    parser.add_argument("--requests", type=int, default=50_000, help="that memory is watched over")
    arguments = parser.parse_args()
    keep_freed_memory()  # as `cxr serve` and `cxr score` do
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch, _clients() as clients:
        home = Path(scratch)
        draw_images(home / "drawn", n_images=80, seed=0)
        files = _write_images(home / "images", arguments.data, arguments.images)
        for name, options in MODELS.items():
            _make_model(home, name, options)
            predictor = Predictor(load_champion(home / "models", name), cache=home / "cache", compile="off")
            images = _predicted(predictor, files)
            with _served(home, name) as address:
                endpoint = Endpoint(address, images, clients)
                figures |= _rates(name, predictor, files, endpoint, arguments.rounds, arguments.seconds)
                if name == "quick":
                    figures |= _memory(endpoint, arguments.requests)
    keep("endpoint", figures)


def _clients() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def _make_model(home: Path, name: str, options: Sequence[str]) -> None:
    config = ["--data=drawn", "--preset=quick", "--weights=none", "--epochs=1", f"--run-id={name}", *options]
    for words in (["train", *config], ["package", name, f"--name={name}", "--promote"]):
        subprocess.run([*CXR, *words], cwd=home, check=True, capture_output=True)


def _write_images(folder: Path, data: str, n_images: int) -> list[Path]:
    folder.mkdir()
    source = open_source(data)
    files = []
    for number, image in enumerate(list_images(source).images[:n_images]):
        files.append(folder / f"{number:06d}.jpeg")
        files[-1].write_bytes(source.read(image.key))
    return files


def _predicted(predictor: Predictor, files: Sequence[Path]) -> list[Sent]:
    """Return the images with their probabilities; they have to be usable."""
    column = predictor.package.outputs.probability_columns[-1]
    table = predictor.predict_files(files)
    if not (table["status"] == "ok").all():
        raise SystemExit(f"every image has to be usable, and these are not: {set(table['reason'].dropna())}")
    return [Sent(file.read_bytes(), column, value) for file, value in zip(files, table[column].tolist(), strict=True)]


@contextlib.contextmanager
def _served(home: Path, name: str) -> Iterator[str]:
    """Serve the model inside the block; yields host and port."""
    command = [*CXR, "serve", f"--name={name}", "--port=0", "--compile=off"]
    with (home / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=home, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        yield re.findall(r"http://(\S+)", next(iter(process.stdout or ())))[0]
    finally:
        process.terminate()
        process.communicate()


def _rates(
    name: str, predictor: Predictor, files: Sequence[Path], endpoint: Endpoint, n_rounds: int, seconds: float
) -> dict[str, Any]:
    """Return rates, their ratios to those in one process, and latencies."""
    alone: list[float] = []
    asked: dict[int, list[Answers]] = {n_clients: [] for n_clients in CLIENTS}
    cost: dict[int, list[float]] = {n_clients: [] for n_clients in (0, *CLIENTS)}
    for _ in range(n_rounds):
        rate, cpu_ms = _in_one_process(predictor, files, seconds)
        alone.append(rate)
        cost[0].append(cpu_ms)
        for n_clients in CLIENTS:
            before = endpoint.reading("process_cpu_seconds_total")
            answers = endpoint.ask(n_clients, seconds=seconds)
            used = endpoint.reading("process_cpu_seconds_total") - before
            asked[n_clients].append(answers)
            cost[n_clients].append(1000 * used / len(answers.seconds))
    figures: dict[str, Any] = {
        f"{name}: in one process, images/s": round(statistics.median(alone), 1),
        f"{name}: in one process, CPU ms an image": round(statistics.median(cost[0]), 1),
    }
    for n_clients, rounds in asked.items():
        of_clients = f"{name}, {n_clients} clients"
        ratios = [answers.rate / rate for answers, rate in zip(rounds, alone, strict=True)]
        p50, p99 = np.percentile(list(itertools.chain(*(answers.seconds for answers in rounds))), [50, 99]) * 1000
        figures |= {
            f"{of_clients}: images/s": round(statistics.median(answers.rate for answers in rounds), 1),
            f"{of_clients}: rate / in one process": round(statistics.median(ratios), 2),
            f"{of_clients}: the same in each round": [round(ratio, 2) for ratio in ratios],
            f"{of_clients}: CPU ms an image": round(statistics.median(cost[n_clients]), 1),
            f"{of_clients}: p50, ms": round(p50, 1),
            f"{of_clients}: p99, ms": round(p99, 1),
        }
    everything = list(itertools.chain(*asked.values()))
    figures[f"{name}: requests"] = sum(len(answers.seconds) + len(answers.lost) for answers in everything)
    figures[f"{name}: lost"] = sum(len(answers.lost) for answers in everything)
    largest = max(answers.largest_difference for answers in everything)
    figures[f"{name}: a probability differs from that in one process by at most"] = float(f"{largest:.2g}")
    print(json.dumps(figures, indent=1), flush=True)
    return figures


def _in_one_process(predictor: Predictor, files: Sequence[Path], seconds: float) -> tuple[float, float]:
    """Return images per second and CPU milliseconds an image of a loaded predictor, from files to a table."""
    start, cpu, n_images = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() < start + seconds:
        predictor.predict_files(files)
        n_images += len(files)
    return n_images / (time.perf_counter() - start), 1000 * (time.process_time() - cpu) / n_images


def _memory(endpoint: Endpoint, n_requests: int) -> dict[str, Any]:
    """Return the memory of the endpoint before many requests and after each tenth of them, and how many were lost."""
    before = endpoint.reading("cxr_images_total")
    memory, lost = [endpoint.reading("process_resident_memory_bytes") / 2**20], []
    for step in range(N_STEPS):
        answers = endpoint.ask(CLIENTS[-1], n_requests=n_requests // N_STEPS)
        memory.append(endpoint.reading("process_resident_memory_bytes") / 2**20)
        lost += answers.lost
        print(
            {"step": step, "lost": len(lost), "images/s": round(answers.rate, 1), "MiB": round(memory[-1], 1)},
            flush=True,
        )
    n_sent = n_requests // N_STEPS * N_STEPS
    return {
        "many: requests": n_sent,
        "many: lost": len(lost),
        "many: predicted, by the endpoint's own count": int(endpoint.reading("cxr_images_total") - before),
        "many: memory at the start and after each tenth, MiB": [round(value, 1) for value in memory],
    }


if __name__ == "__main__":
    main()
