import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cxr.endpoint.batches import BATCH, Batches
from cxr.errors import ConfigError
from cxr.images.inbox import Arrival
from cxr.serving.package import Package
from cxr.serving.predictor import Predictor
from cxr.serving.screening import FileReading, examine_image


@pytest.fixture
def readings(package: Package, images: list[bytes]) -> list[FileReading]:
    return [examine_image(Arrival("x", "", len(data), 0), data, package.size) for data in images]


@pytest.fixture
def predictor(package: Package, tmp_path: Path) -> Predictor:
    return Predictor(package, device="cpu", compile="off", cache=tmp_path)


@pytest.fixture
def noted() -> list[int]:
    return []


@pytest.fixture
def batches(predictor: Predictor, noted: list[int]) -> Iterator[Batches]:
    batches = Batches(predictor, noted.append)
    yield batches
    batches.close()


def test_requests_that_wait_together_share_a_batch_and_each_gets_its_own(
    batches: Batches, predictor: Predictor, readings: list[FileReading], noted: list[int]
) -> None:
    is_free = threading.Event()
    batches.do(lambda _: is_free.wait())
    futures = [batches.predict(part) for part in (readings[:1], readings[1:], readings[:2])]
    given_up = batches.predict(readings)
    assert given_up.cancel()
    is_free.set()
    answers = [future.result() for future in futures]
    assert noted == [5]
    alone = predictor.predict(readings)
    for answer, expected in zip(answers, (alone[:1], alone[1:], alone[:2]), strict=True):
        for got, one in zip(answer, expected, strict=True):
            assert got.probability == pytest.approx(one.probability, abs=1e-6)
            assert got.predicted == one.predicted


def test_a_batch_is_full_at_its_size_and_no_request_is_split(
    batches: Batches, readings: list[FileReading], noted: list[int]
) -> None:
    is_free = threading.Event()
    batches.do(lambda _: is_free.wait())
    sizes = [BATCH // 2, BATCH // 2, 1, BATCH + 1]
    futures = [batches.predict(readings[:1] * n) for n in sizes]
    is_free.set()
    assert [len(future.result()) for future in futures] == sizes
    assert noted == [BATCH, 1, BATCH + 1]


def test_a_failure_reaches_every_request_of_the_batch_and_later_ones_go_on(
    package: Package, readings: list[FileReading], tmp_path: Path
) -> None:
    batches = Batches(Predictor(package, device="cpu", precision="int8", cache=tmp_path), lambda _: None)
    for future in [batches.predict(readings[:1]), batches.predict(readings[1:])]:
        with pytest.raises(ConfigError, match="packaged without --int8"):
            future.result()
    assert batches.do(lambda model: model.package.name).result() == "tiny"
    batches.close()
