"""Images of several requests, predicted together.

One thread has the networks, because a predictor is used in one thread at a time. While it predicts, images wait; then
it takes all that wait, up to a batch, whichever requests brought them. So a lone image does not wait for others, and
under load batches grow by themselves.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from cxr.serving.predictor import Prediction, Predictor
from cxr.serving.screening import FileReading

BATCH = 128
"""Images at which a batch is full; a request with more is a batch of its own."""
Made = TypeVar("Made")
Job = tuple[Sequence[FileReading], "Future[list[Prediction]]"]


class Batches:
    """The thread that predicts.

    Args:
        predictor: used in that thread alone.
        note: called with the number of images of each batch.
    """

    def __init__(self, predictor: Predictor, note: Callable[[int], object]) -> None:
        self._predictor = predictor
        self._note = note
        self._waiting: deque[Job] = deque()
        self._thread = ThreadPoolExecutor(1, "predictor")

    def predict(self, readings: Sequence[FileReading]) -> "Future[list[Prediction]]":
        """Return the predictions of a request's images, to come; a future that is cancelled in time costs nothing.

        Args:
            readings: images, none of them refused.
        """
        future: Future[list[Prediction]] = Future()
        self._waiting.append((readings, future))
        self._thread.submit(self._predict_waiting)  # finds nothing to do if an earlier batch has taken these images
        return future

    def do(self, make: Callable[[Predictor], Made]) -> "Future[Made]":
        """Return what a function makes of the predictor in its thread, to come."""
        return self._thread.submit(make, self._predictor)

    def close(self) -> None:
        """End the thread after its current batch."""
        self._thread.shutdown(cancel_futures=True)

    def _predict_waiting(self) -> None:
        jobs = list(self._take())
        readings = [reading for job_readings, _ in jobs for reading in job_readings]
        if not readings:
            return
        try:
            predictions = iter(self._predictor.predict(readings))
        except Exception as error:
            for _, future in jobs:
                future.set_exception(error)
            return
        self._note(len(readings))
        for job_readings, future in jobs:
            future.set_result([next(predictions) for _ in job_readings])

    def _take(self) -> Iterator[Job]:
        """Take the jobs that have waited longest, until a batch is full; leave out those that nobody waits for."""
        n_images = 0
        while self._waiting and (n_images == 0 or n_images + len(self._waiting[0][0]) <= BATCH):
            readings, future = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                n_images += len(readings)
                yield readings, future
