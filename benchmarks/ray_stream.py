"""Scoring on Ray as a stream: how long the network waits for images, and how much memory the processes need.

    python -m benchmarks.ray_stream --home HOME --name NAME

A cluster of real Ray nodes on this machine: one that says it has a GPU and no CPU, and two of one CPU, on which alone
files are read. Reading and predicting take a set time for each image, in which they use no processor: one machine's
processor, shared by all nodes, would otherwise be what is measured. All else is as it is: the files of a step, its
pixels, the answers and the rows, for which the model computes one image of each step. The network's rates are shares
of what the two nodes read. What the same two nodes and the network would do in turns, as each chunk on Ray did before,
follows from the set times.
"""

import argparse
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil

from benchmarks.results import keep
from cxr.config import ScoreConfig
from cxr.images.inbox import Arrival
from cxr.images.synthetic import draw_examples
from cxr.serving.scoring.scoring_runs import open_scoring_run
from cxr.serving.screening import FileReading
from tasks import ray_networks, ray_scoring
from tasks.ray_cluster import connected
from tasks.ray_scoring import Stream
from tasks.ray_stages import Answered, Network, Squares, read_step
from tests.support.ray import RayNode, ray_nodes

READ_S = 0.010
"""Seconds to read and decode an image on a CPU; an original of the Kaggle set takes 4 to 10 ms."""
N_CPUS = 2
SHARES = (0.5, 0.8, 1.5)
"""Rates of the network, as shares of the rate at which the CPU nodes read."""


def read_at_set_rate(arrivals: Sequence[Arrival], size: int) -> tuple[list[FileReading], Squares]:
    """Read the first file of a step; take the time that all would, and say of each that it is like the first."""
    began = time.monotonic()
    (first,), squares = read_step(arrivals[:1], size)
    (square,) = squares.values()
    names = [hashlib.sha256(arrival.path.encode()).hexdigest() for arrival in arrivals]
    readings = [replace(first, arrival=a, image_id=name) for a, name in zip(arrivals, names, strict=True)]
    time.sleep(max(0.0, len(arrivals) * READ_S - (time.monotonic() - began)))
    return readings, {name: square.copy() for name in names}


def network_of_rate(images_per_s: float) -> type[Network]:
    """Return a network that takes a set time for each image, and computes the first of each step."""

    class PacedNetwork(Network):
        def answer(self, readings: Sequence[FileReading], squares: Squares) -> Answered:
            began = time.monotonic()
            first = super().answer(readings[:1], squares)
            (columns,) = first.answers.values()
            answers = {reading.image_id or "": columns for reading in readings}
            time.sleep(max(0.0, len(readings) / images_per_s - (time.monotonic() - began)))
            self._ended = time.monotonic()
            return Answered(answers, first.waited_s, self._ended - began, first.lines)

    return PacedNetwork


def main() -> None:
    """Stream at several rates, print the shares, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", required=True, type=Path, help="folder with models/")
    parser.add_argument("--name", required=True, help="of a model with a champion there")
    parser.add_argument("--images", type=int, default=640)
    arguments = parser.parse_args()
    ray_scoring.read_step = read_at_set_rate
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        for n_images in (arguments.images, 4 * arguments.images):
            _fill(place / str(n_images), n_images)
        with _cluster(place) as address:
            keep("ray_stream", _measure(place, arguments, address))


def _fill(inbox: Path, n_images: int) -> None:
    """Make an inbox of links to one image: a batch to start the processes with, and one to measure."""
    image = inbox.with_suffix(".jpeg")
    image.write_bytes(next(iter(draw_examples().values())))
    for batch, n in (("first", 512), ("ward", n_images)):
        (inbox / batch).mkdir(parents=True)
        for number in range(n):
            os.link(image, inbox / batch / f"{number:06d}.jpeg")


@contextmanager
def _cluster(place: Path) -> Iterator[str]:
    with ray_nodes(place, N_CPUS) as (address, _):
        words = [f"--address={address}", "--node-ip-address=127.0.0.9", "--num-cpus=0", "--num-gpus=1"]
        gpu = RayNode(place / "gpu.log", *words)
        try:
            yield address
        finally:
            gpu.kill()


def _measure(place: Path, arguments: argparse.Namespace, address: str) -> dict[str, object]:
    n_images = arguments.images
    read = N_CPUS / READ_S
    figures: dict[str, object] = {"images": n_images, "set rate of the two CPU nodes, images/s": read}
    for share in SHARES:
        rate, waited, peak = _stream(place, arguments, address, n_images, share * read)
        name = f"network of {share} of that rate"
        figures[f"{name}: images/s"] = round(rate, 1)
        figures[f"{name}: waited, share of its time"] = round(waited, 3)
        figures[f"{name}: waited, if each step were read and predicted in turns"] = round(share / (1 + share), 3)
        if share == SHARES[1]:
            figures[f"peak memory of all processes with {n_images} images, GiB"] = round(peak, 2)
    _, _, peak = _stream(place, arguments, address, 4 * n_images, SHARES[1] * read)
    return figures | {f"peak memory of all processes with {4 * n_images} images, GiB": round(peak, 2)}


def _stream(
    place: Path, arguments: argparse.Namespace, address: str, n_images: int, images_per_s: float
) -> tuple[float, float, float]:
    """Return images per second, the share of its time that the network waited, and the peak memory in GiB."""
    config = ScoreConfig(
        name=arguments.name,
        models=arguments.home / "models",
        cache=place / "cache",
        out=Path(tempfile.mkdtemp(dir=place)),
        settle=0,
        compile="off",
        precision="fp32",
        runner="ray",
        ray_address=address,
    )
    run, (first, ward) = open_scoring_run(place / str(n_images), config)
    ray_networks.Network = network_of_rate(images_per_s)
    with connected(address, n_gpus=1), _peak_memory() as peak:
        stream = Stream(run)
        stream.score(first)  # the processes start, and the model is loaded
        stream.score(ward)
    waiting = stream.networks.waiting
    rate = n_images / (waiting.waited_s + waiting.computed_s)
    print(f"{images_per_s:.0f} images/s: {rate:.1f}, waited {waiting.share:.3f}, {peak[0]:.2f} GiB", flush=True)
    return rate, waiting.share, peak[0]


@contextmanager
def _peak_memory() -> Iterator[list[float]]:
    """Yield a list with the most memory that this process and all below it held at a time, in GiB."""
    peak, ended = [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(1):
            peak[0] = max(peak[0], _memory_gib())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def _memory_gib() -> float:
    """Return the memory of this process and those below it: their own, and what they share once."""
    n_bytes = 0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            n_bytes += process.memory_full_info().pss
        except psutil.Error:  # it has ended
            continue
    return n_bytes / 2**30


if __name__ == "__main__":
    main()
