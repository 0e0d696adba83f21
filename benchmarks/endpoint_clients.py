"""Clients of the endpoint: each sends one image in a request, over a connection of its own, as fast as it is answered.

Every answer is held against what the same model predicts in one process: it has to be of the image that was sent.
"""

import hashlib
import http.client
import itertools
import json
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

TIMEOUT_S = 120
HEADERS = {"Content-Type": "image/jpeg"}


@dataclass(frozen=True)
class Sent:
    """An image, and what the model predicts for it in one process."""

    data: bytes
    column: str
    """The name of a probability in the answer."""
    probability: float


@dataclass
class Answers:
    """What came back."""

    elapsed_s: float = 0.0
    seconds: list[float] = field(default_factory=list)
    """Of each request that was answered rightly."""
    lost: list[str] = field(default_factory=list)
    """Why each of the others was not."""
    largest_difference: float = 0.0
    """Of a probability from that in one process."""

    @property
    def rate(self) -> float:
        """Images per second."""
        return len(self.seconds) / self.elapsed_s


def ask(address: str, images: Sequence[Sent], n_clients: int, n_requests: int | None, seconds: float) -> Answers:
    """Send requests from several clients at once.

    Args:
        address: host and port.
        images: are sent in turn.
        n_clients: connections, each with one request at a time.
        n_requests: of all clients together; as many as come in `seconds` if None.
        seconds: after which no request begins.
    """
    hashes = [hashlib.sha256(image.data).hexdigest() for image in images]
    numbers = itertools.count() if n_requests is None else iter(range(n_requests))
    answers, lock = Answers(), threading.Lock()
    start = time.perf_counter()

    def ask_on() -> None:
        connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)
        while time.perf_counter() < start + seconds:
            with lock:
                number = next(numbers, None)
            if number is None:
                break
            which = number % len(images)
            began = time.perf_counter()
            fault, difference = _ask_once(connection, images[which], hashes[which])
            with lock:
                if fault:
                    answers.lost.append(fault)
                else:
                    answers.seconds.append(time.perf_counter() - began)
                    answers.largest_difference = max(answers.largest_difference, difference)
        connection.close()

    with ThreadPoolExecutor(n_clients) as pool:
        for client in [pool.submit(ask_on) for _ in range(n_clients)]:
            client.result()
    answers.elapsed_s = time.perf_counter() - start
    return answers


def _ask_once(connection: http.client.HTTPConnection, image: Sent, image_id: str) -> tuple[str | None, float]:
    """Return what is wrong with the answer, or None; and how far the probability is from that in one process."""
    try:
        connection.request("POST", "/predict", image.data, HEADERS)
        response = connection.getresponse()
        text = response.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return type(error).__name__, 0.0
    if response.status != 200:
        return f"status {response.status}", 0.0
    (row,) = json.loads(text)["images"]
    if row["image_id"] != image_id:
        return "the answer is of another image", 0.0
    return None, abs(row[image.column] - image.probability)
