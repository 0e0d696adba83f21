"""The endpoint under load: images per second against the rate in one process, latencies, and memory.

    python -m benchmarks.endpoint --data originals.zip

The model is of the slowest kind: five folds, every layer trained (for one epoch, as its predictions do not matter
here). Clients send one image in a request, as fast as they get answers, from a process of their own on the same cores.
The rate in one process is that of `cxr.Predictor` on the same files, before and after the load. No request may be lost.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.results import keep
from cxr.dataset.listing.layout import list_images
from cxr.images.source import open_source
from cxr.library import Predictor, load_champion

CXR = str(Path(sys.executable).with_name("cxr"))
CLIENTS = (1, 8, 64)
JPEG = {"Content-Type": "image/jpeg"}


def main() -> None:
    """Train, package, serve and ask; print the ratios, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--requests", type=int, default=1000, help="for each number of clients")
    parser.add_argument("--compile", default="off", choices=["on", "off"])
    parser.add_argument("--address", help="ask this endpoint, and measure nothing else")
    parser.add_argument("--clients", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.address:
        files = sorted(Path(arguments.data).iterdir())
        print(json.dumps(asyncio.run(_ask(arguments.address, files, arguments.clients, arguments.requests))))
        return
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        _make_model(home, Path(arguments.data).resolve(), arguments.size)
        files = _write_images(home / "images", arguments.data, arguments.images)
        keep("endpoint", _measure(home, files, arguments.requests, arguments.compile) | {"size, px": arguments.size})


def _make_model(home: Path, data: Path, size: int) -> None:
    config = ["--preset=quick", "--weights=none", "--epochs=1", f"--size={size}", "--run-id=run"]
    for words in (["train", f"--data={data}", *config], ["package", "run", "--name=model", "--promote"]):
        subprocess.run([CXR, *words], cwd=home, check=True, capture_output=True)


def _write_images(folder: Path, data: str, n_images: int) -> list[Path]:
    folder.mkdir()
    source = open_source(data)
    files = []
    for number, image in enumerate(list_images(source).images[:n_images]):
        files.append(folder / f"{number:06d}.jpeg")
        files[-1].write_bytes(source.read(image.key))
    return files


def _measure(home: Path, files: list[Path], n_requests: int, compile: str) -> dict[str, Any]:
    rates = [_rate_in_one_process(home, files, compile)]
    figures: dict[str, Any] = {}
    with _served(home, compile) as address:
        memory = [_memory_mib(address)]
        for n_clients in CLIENTS:
            asked = _ask_from_another_process(address, home / "images", n_clients, n_requests)
            figures |= {f"{n_clients} clients: {name}": value for name, value in asked.items()}
            memory.append(_memory_mib(address))
            print({"clients": n_clients} | asked | {"memory, MiB": round(memory[-1])}, flush=True)
    rates.append(_rate_in_one_process(home, files, compile))
    rate = statistics.mean(rates)
    for n_clients in CLIENTS:
        figures[f"{n_clients} clients: rate / in one process"] = round(
            figures[f"{n_clients} clients: images/s"] / rate, 2
        )
    return figures | {
        "in one process, images/s": round(rate, 1),
        "requests for each number of clients": n_requests,
        "memory at the start and after each number of clients, MiB": [round(value) for value in memory],
    }


def _rate_in_one_process(home: Path, files: list[Path], compile: str) -> float:
    """Return the images per second of a loaded predictor, from files to a table."""
    package = load_champion(home / "models", "model")
    predictor = Predictor(package, cache=home / "cache", compile="on" if compile == "on" else "off")
    predictor.predict_files(files[:8])
    start = time.perf_counter()
    predictor.predict_files(files)
    return len(files) / (time.perf_counter() - start)


@contextlib.contextmanager
def _served(home: Path, compile: str) -> Iterator[str]:
    """Serve the model inside the block; yields the address."""
    command = [CXR, "serve", "--name=model", "--port=0", f"--compile={compile}"]
    with (home / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=home, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        yield re.findall(r"http://\S+", next(iter(process.stdout or ())))[0]
    finally:
        process.terminate()
        process.communicate()


def _memory_mib(address: str) -> float:
    text = httpx.get(f"{address}/metrics", trust_env=False, timeout=60).text
    return float(re.findall(r"^process_resident_memory_bytes (\S+)$", text, re.MULTILINE)[0]) / 2**20


def _ask_from_another_process(address: str, folder: Path, n_clients: int, n_requests: int) -> dict[str, float]:
    words = [f"--data={folder}", f"--address={address}", f"--clients={n_clients}", f"--requests={n_requests}"]
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.endpoint", *words], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(ended.stdout)


async def _ask(address: str, files: list[Path], n_clients: int, n_requests: int) -> dict[str, float]:
    """Send requests from several clients; return the rate, the median and the 99th percentile of milliseconds."""
    images = [file.read_bytes() for file in files]
    numbers = itertools.islice(itertools.count(), n_requests)
    seconds: list[float] = []

    async def ask_on() -> None:
        async with httpx.AsyncClient(base_url=address, trust_env=False, timeout=120) as client:
            for number in numbers:
                start = time.perf_counter()
                answer = await client.post("/predict", content=images[number % len(images)], headers=JPEG)
                seconds.append(time.perf_counter() - start)
                if answer.status_code != 200 or answer.json()["images"][0]["status"] != "ok":
                    raise RuntimeError(f"request {number} is lost: {answer.status_code} {answer.text[:200]}")

    start = time.perf_counter()
    await asyncio.gather(*(ask_on() for _ in range(n_clients)))
    rate = len(seconds) / (time.perf_counter() - start)
    p50, p99 = np.percentile(seconds, [50, 99]) * 1000
    return {"images/s": round(rate, 1), "p50, ms": round(float(p50), 1), "p99, ms": round(float(p99), 1)}


if __name__ == "__main__":
    main()
