"""A model at work for requests: files in, rows of the scores or a picture out; nothing is written or remembered.

Files are read by as many threads as there are cores, and predicted by one (`cxr.endpoint.batches`). What comes from
reading, refusing, predicting and drawing is that of a scoring run, of `cxr explain` and of the page.
"""

import asyncio
import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cxr.endpoint.batches import Batches
from cxr.endpoint.bodies import Upload
from cxr.endpoint.measures import Measures
from cxr.images.inbox import Arrival
from cxr.images.synthetic import draw_examples
from cxr.serving.explanations import default_target, draw_explanation
from cxr.serving.predictor import Prediction, Predictor
from cxr.serving.scoring.scores import score_rows
from cxr.serving.screening import FileReading, examine_image
from cxr.storage.scores_folder import FeedbackFolder

Made = TypeVar("Made")


class Service:
    """A packaged model, ready to answer.

    Args:
        predictor: used by this service alone.
        feedback: where labels that come after the scores are; None if nobody says.
    """

    def __init__(self, predictor: Predictor, feedback: FeedbackFolder | None = None) -> None:
        self.package = predictor.package
        self.measures = Measures(self.package, feedback)
        self._batches = Batches(predictor, self.measures.count_batch)
        self._threads = ThreadPoolExecutor(os.cpu_count(), "reader")

    async def predict(self, uploads: Sequence[Upload]) -> list[dict[str, object]]:
        """Return each file's row of the scores, in the order of the files.

        Raises:
            UnreadableError: an image has too many pixels, which is a limit of the request and not of its row.
        """
        readings = await asyncio.gather(*(self._read(upload) for upload in uploads))
        usable = [reading for reading in readings if reading.refused is None]
        predictions = await self._predict(usable) if usable else []
        rows = score_rows(self.package, None, readings, predictions)
        self.measures.count_rows(rows)
        return rows

    async def explain(self, upload: Upload, target: str | None, opacity: float) -> bytes:
        """Return an image beside the same image with the map of where the networks looked, as PNG.

        Args:
            upload: the image.
            target: class or finding to look for; if None as `cxr.serving.explanations.default_target` has it.
            opacity: of the map where it is strongest, 0 to 1.

        Raises:
            UnreadableError: the file is not a usable image.
        """
        reading = await self._read(upload)
        if reading.refused:
            raise reading.refused
        if target is None:
            (prediction,) = await self._predict([reading])
            target = default_target(self.package, prediction.probability, prediction.predicted)
        looked_for = target
        heat = await asyncio.wrap_future(self._batches.do(lambda model: model.look([reading], [looked_for])[0]))
        return await self.in_thread(lambda: _as_png(upload.data, heat, opacity))

    async def in_thread(self, make: Callable[[], Made]) -> Made:
        """Return what a function makes in one of the threads that read, while other requests go on."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, make)

    def warm_up(self) -> dict[str, object]:
        """Load networks and libraries, which the first request would wait for; return the row of a drawn image.

        Raises:
            ConfigError: this machine cannot compute as the package needs, or as was asked for.
        """
        data = next(iter(draw_examples().values()))
        reading = examine_image(Arrival("example.jpeg", "", len(data), 0), data, self.package.size)
        predictions = self._batches.do(lambda model: model.predict([reading])).result()
        heat = self._batches.do(lambda model: model.look([reading], self.package.outputs[:1])).result()
        _as_png(data, heat[0], 0.5)
        (row,) = score_rows(self.package, None, [reading], predictions)
        return row

    def close(self) -> None:
        """End the threads."""
        self._batches.close()
        self._threads.shutdown(cancel_futures=True)

    async def _read(self, upload: Upload) -> FileReading:
        arrival = Arrival(upload.name, "", len(upload.data), 0)
        reading = await self.in_thread(lambda: examine_image(arrival, upload.data, self.package.size))
        if reading.refused and reading.refused.reason == "too_large":
            raise reading.refused
        return reading

    async def _predict(self, readings: Sequence[FileReading]) -> list[Prediction]:
        return await asyncio.wrap_future(self._batches.predict(readings))


def _as_png(data: bytes, heat: NDArray[np.float32], opacity: float) -> bytes:
    stream = io.BytesIO()
    draw_explanation(data, heat, opacity).save(stream, "PNG")
    return stream.getvalue()
