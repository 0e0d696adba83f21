"""A batch scored on a Ray cluster, as a stream: any CPU reads and decodes, the networks run where the GPUs are.

Files are listed here; a task on any node reads and decodes a step of them; a process that holds the model, one for each
GPU, predicts the images; and the rows are made and staged here, by the one process that holds the lock of the scores.
Only names, measures and predictions pass through this process: pixels go from the node that decoded them to the one
that predicts. What is under way is bounded at both stages, so memory does not grow with the batch, and a stage that is
faster than the next one waits for it.

If a node dies, Ray reads its files again and starts the model on another. A file that changed in between is another
image, which the networks are not asked about: it waits for the next scoring run.
"""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from itertools import islice
from typing import Any

import ray

from cxr.errors import ConfigError
from cxr.images.inbox import Arrival, Batch
from cxr.serving.scoring.batch_rows import AskedFile, BatchRows, is_staged, steps_of
from cxr.serving.scoring.scoring_runs import ScoringRun, chunks
from cxr.serving.screening import FileReading
from cxr.storage import events
from tasks.ray_cluster import TRIES_AFTER_A_LOST_NODE, nodes, result
from tasks.ray_networks import QUEUED, Networks, Waiting
from tasks.ray_stages import read_step

log = logging.getLogger("cxr.serving")

AHEAD = 2
"""Steps for each CPU that are being read, or wait for a network: a slow one does not stop the others at once."""


class Stream:
    """The nodes of a connected cluster at work for a scoring run.

    Args:
        run: the scoring run.

    Raises:
        ConfigError: no node has a CPU to read with.
    """

    def __init__(self, run: ScoringRun) -> None:
        self._run = run
        self._n_cpus = sum(int(resources.get("CPU", 0)) for _, resources in nodes())
        if self._n_cpus == 0:
            raise ConfigError("no node of the Ray cluster has a CPU to read files with: start one with --num-cpus.")

    @cached_property
    def networks(self) -> Networks:
        """The processes that hold the model; started when the first batch has new files."""
        return Networks(self._run)

    def score(self, batch: Batch) -> None:
        """Score the new files of a batch and stage a row for each; chunks that are staged already are left out.

        Raises:
            CxrError: the model cannot be loaded, or the nodes lose the same files again and again.
        """
        todo = [chunk for chunk in chunks(batch) if not is_staged(self._run, batch.name, chunk)]
        if not todo:
            return
        self.networks.waiting = waiting = Waiting()
        with events.stage(self._run.folder.events, "score", batch=batch.name) as stage:
            stage.n_images = sum(self._score(batch.name, todo))
        log.info("batch %r: the networks waited for images %.0f%% of the time", batch.name, 100 * waiting.share)

    def _score(self, batch: str, todo: Sequence[list[Arrival]]) -> Iterator[int]:
        """Stage the rows of the chunks, in order; yield how many each has. Chunks are asked about ahead."""
        rows = BatchRows(self._run, batch)
        readings = self._read([step for chunk in todo for step in steps_of(chunk)])
        begun: deque[tuple[list[Arrival], list[AskedFile]]] = deque()
        for chunk in todo:
            steps = islice(readings, len(steps_of(chunk)))
            asked = [rows.ask(step, partial(self.networks.ask, squares)) for step, squares in steps]
            begun.append((chunk, [file for step in asked for file in step]))
            if len(begun) > len(self.networks):
                yield _stage(rows, *begun.popleft())
        while begun:
            yield _stage(rows, *begun.popleft())

    def _read(self, steps: Sequence[Sequence[Arrival]]) -> Iterator[tuple[list[FileReading], Any]]:
        """Yield what the files of each step hold, in order, with a reference to their pixels; read ahead."""
        read: Any = ray.remote(read_step).options(
            num_returns=2, num_cpus=1, max_retries=TRIES_AFTER_A_LOST_NODE, scheduling_strategy="SPREAD"
        )
        size = self._run.package().size
        begun: deque[tuple[Any, Any]] = deque()
        for step in steps:
            begun.append(read.remote(step, size))
            if len(begun) > AHEAD * self._n_cpus + QUEUED * len(self.networks):
                readings, squares = begun.popleft()
                yield result(readings), squares
        while begun:
            readings, squares = begun.popleft()
            yield result(readings), squares


def _stage(rows: BatchRows, chunk: Sequence[Arrival], files: Sequence[AskedFile]) -> int:
    table = rows.table(files)
    rows.stage(chunk, table)
    return len(table)
