"""The processes of a Ray cluster that hold a scoring run's model, and what they are asked.

There is one for each GPU, or share of it; without GPUs one on each node. Each gets no more than two steps at a time:
one that it predicts, and one whose pixels travel to its node meanwhile. If one is lost, the others answer what it was
asked, and another is started in its place as soon as a node has room for it.
"""

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cxr.serving.scoring.batch_rows import Answers
from cxr.serving.scoring.scoring_runs import ScoringRun
from cxr.serving.screening import FileReading
from tasks.ray_cluster import TRIES_AFTER_A_LOST_NODE, first_line, lost_too_often, nodes, result
from tasks.ray_stages import Answered, Network

log = logging.getLogger("cxr.serving")

QUEUED = 2
"""Steps at a network."""
AGAIN_AFTER_S = 5
"""How long a lost network is not started again: a cluster takes a while to learn that a node is dead."""
N_STARTS = 12
"""A network that is lost so often while it loads the model ends the scoring run."""


@dataclass
class Question:
    """A step's images, and what the networks say of them."""

    readings: Sequence[FileReading]
    squares: Any
    """Reference to their pixels, until they are answered."""
    n_tries: int = 0
    answers: Mapping[str, Mapping[str, object]] | None = None


@dataclass
class Waiting:
    """How long networks computed for a batch, and how long they waited for images in between."""

    waited_s: float = 0.0
    computed_s: float = 0.0
    _begun: set["_Place"] = field(default_factory=set)

    def add(self, place: "_Place", answered: Answered) -> None:
        """Count a step; the wait before a network's first of the batch is none for images in between."""
        if place in self._begun:
            self.waited_s += answered.waited_s
        self._begun.add(place)
        self.computed_s += answered.computed_s

    @property
    def share(self) -> float:
        """The share of their time, from their first image of the batch on, that the networks waited."""
        return self.waited_s / max(self.waited_s + self.computed_s, 1e-9)


@dataclass(eq=False)
class _Place:
    """Where a network is, or is to be."""

    options: dict[str, Any]
    n_threads: int | None
    network: Any = None
    n_lost: int = 0
    """Losses since the model was loaded last."""
    again_at: float = 0.0
    """When a lost one is started again, in seconds of the monotonic clock."""


class Networks:
    """The networks of a connected cluster.

    Args:
        run: the scoring run.
    """

    def __init__(self, run: ScoringRun) -> None:
        self._run = run
        self._lost = _places(run.config.gpus_per_chunk)
        self._starting: dict[Any, _Place] = {}
        self._ready: list[_Place] = []
        self._asked: dict[Any, tuple[_Place, Question]] = {}
        self._n_places = len(self._lost)
        self.waiting = Waiting()

    def __len__(self) -> int:
        return self._n_places

    def ask(self, squares: Any, readings: Sequence[FileReading]) -> Answers:
        """Have the network with the fewest steps predict images, once it has room for them.

        Args:
            squares: reference to the pixels.
            readings: the images, none of them refused.
        """
        question = Question(readings, squares)
        self._put(question)
        return lambda: self._wait_for(question)

    def _wait_for(self, question: Question) -> Mapping[str, Mapping[str, object]]:
        while question.answers is None:
            self._wait()
        return question.answers

    def _put(self, question: Question) -> None:
        """Hand a question to the network with the fewest, once it has room for it."""
        while (place := self._with_room()) is None:
            self._wait()
        asked = place.network.answer.remote(question.readings, question.squares)
        self._asked[asked] = place, question

    def _with_room(self) -> _Place | None:
        n_queued = Counter(place for place, _ in self._asked.values())
        place = min(self._ready, key=lambda place: n_queued[place], default=None)
        return place if place is not None and n_queued[place] < QUEUED else None

    def _wait(self) -> None:
        """Wait until a question is answered, or a network has started or is lost, but no longer than a second."""
        self._start_lost()
        pending = [*self._asked, *self._starting]
        if not pending:
            time.sleep(1)
            return
        ended, _ = ray.wait(pending, num_returns=1, timeout=1)
        for reference in ended:
            if reference in self._starting:
                self._started(reference)
            else:
                self._answered(reference)

    def _start_lost(self) -> None:
        """Start the networks that have been lost for long enough, and those that never were started."""
        due = [place for place in self._lost if place.again_at <= time.monotonic()]
        for place in due:
            self._lost.remove(place)
            place.network = ray.remote(Network).options(**place.options).remote(self._run, place.n_threads)
            self._starting[place.network.load.remote()] = place

    def _started(self, reference: Any) -> None:
        place = self._starting.pop(reference)
        try:
            self._show(result(reference))
        except RayActorError as error:
            self._lose(place, error)
            return
        place.n_lost = 0
        self._ready.append(place)

    def _answered(self, reference: Any) -> None:
        place, question = self._asked.pop(reference)
        try:
            answered: Answered = result(reference)
        except RayActorError as error:
            if place in self._ready:  # the first of its steps to tell
                self._ready.remove(place)
                self._lose(place, error)
            self._ask_again(question, error)
            return
        self._show(answered.lines)
        self.waiting.add(place, answered)
        question.answers = answered.answers
        question.squares = None

    def _lose(self, place: _Place, error: RayActorError) -> None:
        """Have another network started in place of one that was lost."""
        ray.kill(place.network)  # it may be out of reach only
        place.n_lost += 1
        place.again_at = time.monotonic() + AGAIN_AFTER_S
        self._lost.append(place)
        if place.n_lost > N_STARTS:
            place.n_lost = 0
            raise lost_too_often("loads the model", N_STARTS, error) from error
        if place.n_lost == 1:
            log.warning("a process with the model was lost, and another is started: %s", first_line(error))

    def _ask_again(self, question: Question, error: RayActorError) -> None:
        question.n_tries += 1
        if question.n_tries > TRIES_AFTER_A_LOST_NODE:
            what = f"predicts {question.readings[0].arrival.path!r} and others"
            raise lost_too_often(what, question.n_tries, error) from error
        self._put(question)

    @staticmethod
    def _show(lines: Sequence[tuple[int, str]]) -> None:
        for level, line in lines:
            log.log(level, "%s", line)


def _places(n_gpus: float) -> list[_Place]:
    """Return a place for each GPU, or share of it; without GPUs one for each node that has a CPU."""
    if n_gpus:
        n_shares = int(1 / n_gpus)
        n_networks = sum(int(resources.get("GPU", 0)) * n_shares for _, resources in nodes())
        return [_Place({"num_cpus": 0, "num_gpus": n_gpus}, None) for _ in range(max(1, n_networks))]
    return [
        _Place(
            {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=True)},
            int(resources["CPU"]),
        )
        for node, resources in nodes()
        if resources.get("CPU", 0) >= 1
    ]
