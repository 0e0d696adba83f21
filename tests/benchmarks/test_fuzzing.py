import hashlib
import random
from pathlib import Path

import pytest

from benchmarks import fuzzing
from benchmarks.fuzz_targets import PLANTED, TARGETS
from benchmarks.fuzzing import mutate


@pytest.mark.parametrize("kind", ["jpeg", "png", "dicom", "zip", "tar"])
def test_the_good_files_of_a_kind_are_read(kind: str, tmp_path: Path) -> None:
    target = TARGETS[kind](tmp_path)
    outcomes = [fuzzing._outcome(target.attempt, seed) for seed in target.seeds]
    assert any(outcome.startswith("ok") for outcome in outcomes)
    assert not [outcome for outcome in outcomes if outcome.startswith("!")]


def test_the_same_seed_gives_the_same_mutants_and_they_differ_from_the_good_files() -> None:
    seeds = [bytes(range(256)) * 4, b"another good file"]
    mutants = [[mutate(draw, seeds) for _ in range(200)] for draw in (random.Random(1), random.Random(1))]
    assert mutants[0] == mutants[1]
    assert sum(mutant not in seeds for mutant in mutants[0]) > 150


def fails(data: bytes) -> str:
    if data == b"memory":
        raise MemoryError
    raise KeyError(PLANTED)


@pytest.mark.parametrize(("data", "outcome"), [(b"memory", "!memory"), (b"", "!foreign: KeyError")])
def test_an_error_that_is_not_the_programs_own_is_found(data: bytes, outcome: str) -> None:
    assert fuzzing._outcome(fails, data).startswith(outcome)


def test_a_planted_name_in_a_message_is_found() -> None:
    def tells(data: bytes) -> str:
        raise fuzzing.UnreadableError("damaged", f"modality {PLANTED}")

    assert fuzzing._outcome(tells, b"").startswith("!leak")


def test_what_is_found_is_kept_under_its_hash(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    kept = fuzzing._keep("png", fuzzing.Reading("!slow: 11 s", 11, 0, b"mutant"))
    assert kept == f"png-{hashlib.sha256(b'mutant').hexdigest()[:12]} !slow: 11 s"
    assert [file.read_bytes() for file in (tmp_path / "fuzzing").iterdir()] == [b"mutant"]
    assert "!slow" in capsys.readouterr().out
