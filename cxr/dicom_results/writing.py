"""Writes a Structured Report and a picture for each published image that came as DICOM, once.

What is missing follows from the rows of the scores and the files of the inbox, not from what this scoring run did: what
a killed run left out, a batch that was released, and a folder that is given for the first time are made up for by the
next run. A report is written after its picture, so an image that has its report is finished. Both are dated by their
row, and their UIDs follow from image and package: made again, they are the same.

The rows are those of the version that scores. What cannot be done for an image is remembered with its reason, once.
"""

import io
import logging
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from cxr.dicom_results.identifiers import ResultUids
from cxr.dicom_results.report import Row, make_report
from cxr.dicom_results.source import Source, SourceError, read_source
from cxr.errors import UnreadableError
from cxr.images.dicom.file import is_dicom
from cxr.images.inbox import Arrival, batch_names, list_batch, read_arrival
from cxr.images.reading import image_id_of
from cxr.serving.scoring import scores
from cxr.serving.scoring.scoring_runs import ScoringRun
from cxr.serving.screening import examine_image
from cxr.storage.dicom_folder import DicomFolder

if TYPE_CHECKING:
    from datetime import datetime

    import PIL.Image
    from pydicom import Dataset

    from cxr.serving.predictor import Predictor

log = logging.getLogger(__name__)

OPACITY = 0.5
"""Of the map where it is strongest."""
BEGINNING = 144
"""Bytes that tell a DICOM file from another."""


@dataclass(frozen=True)
class Image:
    """A published image that lacks its results."""

    arrival: Arrival
    data: bytes
    image_id: str
    row: Row
    uids: ResultUids


class Writer:
    """Writes what is missing. Hold the lock of the folder while you use it.

    Args:
        run: the scoring run, whose batches are published or held.
        folder: gets the instances.
    """

    def __init__(self, run: ScoringRun, folder: DicomFolder) -> None:
        self._run = run
        self._folder = folder
        self._package = run.package()
        self._package_hash = self._package.file_hash
        self._refused = folder.refused_uids()

    def write_missing(self) -> None:
        """Write the missing results of all batches."""
        outcomes = [
            self._write(image)
            for name, path in batch_names(self._run.inbox).items()
            for image in self._missing(name, path)
        ]
        if outcomes:
            n_written = sum(outcomes)
            n_not = len(outcomes) - n_written
            log.info("DICOM: %d images got a report and a picture, %d could not", n_written, n_not)

    def _missing(self, batch: str, path: str) -> Iterator[Image]:
        """Yield the published images of a batch that came as DICOM and lack their results."""
        rows = self._published(batch)
        for arrival in list_batch(self._run.inbox, batch, path, settle_s=0).arrivals if rows else ():
            of_path = {image_id: row for image_id, row in rows[arrival.path].items() if not self._is_done(image_id)}
            if not of_path:
                continue
            try:
                if not _begins_as_dicom(arrival):
                    continue
                data = read_arrival(arrival)
            except (OSError, UnreadableError) as error:
                why = error.strerror if isinstance(error, OSError) else error
                log.warning("DICOM: the file of image %s is not read this time: %s", next(iter(of_path))[:12], why)
                continue
            image_id = image_id_of(data)
            if image_id in of_path and not self._is_done(image_id):  # no other file was the same
                yield Image(arrival, data, image_id, of_path[image_id], self._uids(image_id))

    def _published(self, batch: str) -> defaultdict[str, dict[str, Row]]:
        """Return the published rows of the scoring version's images, by path and content."""
        rows: defaultdict[str, dict[str, Row]] = defaultdict(dict)
        place = self._run.scores.published(batch)
        if place.parts():
            table = scores.read_parts(place)
            is_own = (table["model"] == self._run.model) & (table["model_version"] == self._run.version)
            for row in table[is_own & (table["status"] == "ok")].to_dict("records"):
                rows[row["path"]][row["image_id"]] = {str(name): value for name, value in row.items()}
        return rows

    def _uids(self, image_id: str) -> ResultUids:
        return ResultUids.of(image_id, self._package_hash)

    def _is_done(self, image_id: str) -> bool:
        report = self._uids(image_id).report
        return report in self._refused or self._folder.instance(report).exists()

    def _write(self, image: Image) -> bool:
        """Write an image's picture and then its report; return whether it could be done."""
        try:
            source = read_source(image.data)
            made = self._make(image, source)
        except SourceError as error:
            self._refuse(image, str(error))
            return False
        except UnreadableError as error:  # memory is short
            log.warning("DICOM: image %s is not read this time: %s", image.image_id[:12], error)
            return False
        for uid, data in made.items():
            if not self._folder.instance(uid).exists():
                self._folder.put(uid, data)
        return True

    def _make(self, image: Image, source: Source) -> dict[str, bytes]:
        """Return an image's picture and report as files, by their UIDs.

        Raises:
            SourceError: an attribute of the patient or the study cannot be written.
            UnreadableError: the image cannot be read.
        """
        from cxr.dicom_results.picture import make_picture

        looked_for = self._target(image.row)
        picture = make_picture(source, self._package, self._draw(image, looked_for), looked_for, image.uids)
        report = make_report(source, self._package, image.row, image.uids)
        moment = source.local(image.row["scored_at"].to_pydatetime())
        return {
            image.uids.picture: as_file(picture, source, moment),
            image.uids.report: as_file(report, source, moment),
        }

    def _draw(self, image: Image, looked_for: str) -> "PIL.Image.Image":
        """Return an image beside itself with its map: alone, as in a batch the last digits differ."""
        from cxr.serving.explanations import draw_explanation

        reading = examine_image(image.arrival, image.data, self._package.size)
        if reading.refused:
            raise reading.refused
        (heat,) = self._predictor.look([reading], [looked_for])
        return draw_explanation(image.data, heat, OPACITY)

    def _refuse(self, image: Image, reason: str) -> None:
        log.warning("DICOM: image %s gets no report: %s", image.image_id[:12], reason)
        self._folder.refuse(image.uids.report, image.image_id, reason)
        self._refused.add(image.uids.report)

    def _target(self, row: Row) -> str:
        from cxr.serving.explanations import default_target

        outputs = self._package.outputs
        probability = {name: row[f"probability_{name}"] for name in outputs}
        return default_target(self._package, probability, row.get("predicted_label", ""))

    @cached_property
    def _predictor(self) -> "Predictor":
        from cxr.serving.predictor import Predictor

        config = self._run.config
        return Predictor(self._package, device=config.device, cache=config.cache)


def as_file(instance: "Dataset", source: Source, moment: "datetime") -> bytes:
    """Return an instance as a file: of the source's patient and study, and of a moment.

    Raises:
        SourceError: an attribute of the patient or the study cannot be written.
    """
    _date(instance, moment)
    source.identify(instance)
    stream = io.BytesIO()
    try:
        instance.save_as(stream, enforce_file_format=True)
    except Exception as error:  # pydicom's quote the value
        raise SourceError(f"its patient or study cannot be written ({type(error).__name__})") from None
    return stream.getvalue()


def _date(instance: "Dataset", moment: "datetime") -> None:
    """Date an instance, so that it is the same whenever it is made."""
    date, time = f"{moment:%Y%m%d}", f"{moment:%H%M%S}"
    instance.InstanceCreationDate = instance.ContentDate = date
    instance.InstanceCreationTime = instance.ContentTime = time
    if "DateOfSecondaryCapture" in instance:
        instance.DateOfSecondaryCapture, instance.TimeOfSecondaryCapture = date, time
    for item in instance.ContributingEquipmentSequence:
        item.ContributionDateTime = date + time


def _begins_as_dicom(arrival: Arrival) -> bool:
    """Return whether a file begins as DICOM does; what is a pipe or a link by now is neither waited for nor followed.

    Raises:
        OSError: it cannot be read.
        UnreadableError: it is no file.
    """
    if arrival.refused:
        raise arrival.refused
    with open(arrival.file, "rb", opener=_open_file) as stream:
        return is_dicom(stream.read(BEGINNING))


def _open_file(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
