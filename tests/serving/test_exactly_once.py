"""Each content, path and version of a model has one row, and none is missing, whatever is copied, renamed or killed."""

import hashlib
import io
import os
import re
import resource
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from PIL import Image

from cxr.config import ScoreConfig
from cxr.errors import DiskError, PackageError, RunError
from cxr.export.build import make_package
from cxr.images import inbox as inboxes
from cxr.pipeline import score_inbox
from cxr.serving import registry
from cxr.serving.scoring import scores
from cxr.serving.scoring.outcome import Outcome
from cxr.serving.scoring.scores import Seen
from cxr.storage import files
from cxr.storage.model_folder import ModelFolder
from cxr.storage.scores_folder import ScoresFolder
from cxr.verdict import Verdict
from tests.support.faults import at_step, killed_at, refuse, watching
from tests.support.packages import sign
from tests.support.processes import BIN
from tests.support.runs import Finished
from tests.support.shared import NewFolder

KEY = ["batch", "path", "image_id", "model", "model_version"]
HOLD = [Verdict("scores", "file", "critical", [])]
N_LIVES = int(os.environ.get("CXR_LIVES", "6"))


@pytest.fixture(scope="module")
def models(finished: Finished, weights_file: str, new_folder: NewFolder) -> Path:
    """The model `tiny` with versions 1 and 2; no champion yet. Copy it with links."""
    run = finished(weights=weights_file, trainable="head")
    model = ModelFolder.named(new_folder("models"), "tiny")
    for point in ("youden", "half"):
        make_package(run, model, operating_point=point)
    return model.path.parent


def content(number: int) -> bytes:
    """An image of 40 × 32 px; all have the same size in bytes."""
    pixels = np.random.default_rng(number).integers(0, 255, (32, 40), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=0)
    return stream.getvalue()


def hash_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Place:
    """A folder with models, an inbox and scores, and what a user does there."""

    def __init__(self, folder: Path, models: Path) -> None:
        shutil.copytree(models, folder / "models", copy_function=os.link)
        self.models, self.inbox, self.out = folder / "models", folder / "inbox", folder / "scores"
        self.model = ModelFolder.named(self.models, "tiny")
        (self.inbox / "ward").mkdir(parents=True)
        registry.promote(self.model, "1")

    @property
    def scores(self) -> ScoresFolder:
        return ScoresFolder.at(self.out)

    def config(self, name: str = "tiny") -> ScoreConfig:
        return ScoreConfig(
            name=name,
            models=self.models,
            out=self.out,
            cache=self.out.parent / "cache",
            settle=0,
            compile="off",
            device="cpu",
        )

    def score(self, name: str = "tiny", *, hold: bool = False) -> list[Outcome]:
        return score_inbox(self.inbox, self.config(name), lambda *_: HOLD if hold else [])[1]

    def put(self, path: str, number: int) -> Path:
        file = self.inbox / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content(number))
        return file

    def rows(self) -> pd.DataFrame:
        """All rows, published and held."""
        parts = [*self.out.glob("[!_]*/*.parquet"), *self.out.glob("_held/*/*/*/*.parquet")]
        return pd.concat([pd.read_parquet(part) for part in parts]) if parts else pd.DataFrame(columns=KEY)

    def keys(self) -> Counter[tuple[str, ...]]:
        """How many rows there are of each batch, path, content, model and version."""
        return Counter(self.rows()[KEY].itertuples(index=False, name=None))

    def present(self) -> set[tuple[str, str, str]]:
        """Batch, path and content of each file in the inbox."""
        return {
            (batch.name, str(file.relative_to(batch)), hash_of(file.read_bytes()))
            for batch in self.inbox.iterdir()
            for file in batch.rglob("*.png")
        }

    def record(self) -> dict[str, object]:
        """The record of the last scoring run."""
        return files.read_record(self.scores.scoring_runs()[0].record)


@pytest.fixture
def place(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(inboxes, "TIME_STEP_S", 0.05)  # the disks of the tests have finer clocks than FAT
    return Place(tmp_path, models)


def replace_in_place(file: Path, number: int) -> None:
    """Write another image over a file, as `cp -p` does: the size and the time of the content stay the same."""
    facts = file.stat()
    with file.open("r+b") as stream:
        stream.write(content(number))
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (facts.st_size, facts.st_mtime_ns)


ENDINGS = st.tuples(
    st.sampled_from(["whole", "held", "refused", "whole", "killed", "behind a link", "held", "none"]),
    st.integers(19, 48),
)
"""How a night ends; `refused` and `killed` at the change of the scores with this number."""
BATCHES = st.sampled_from(["ward", "night"])
CONTENTS = st.integers(0, 5)


class Nights(RuleBasedStateMachine):
    """Nights before which anything may happen, and which end in any way; the test sets `fresh_place`."""

    fresh_place: Callable[[], Place]

    @initialize()
    def move_in(self) -> None:
        self.place = self.fresh_place()
        self.required: set[tuple[str, ...]] = set()
        self.allowed: set[tuple[str, ...]] = set()
        self.n_kills = 0
        self.place.put("ward/0.png", 0)
        (self.place.models / "link").symlink_to("tiny")

    def night(self, ending: tuple[str, int]) -> None:
        """Score, until the night ends; hold the rows against what there has to be."""
        version = str(registry.champion_version(self.place.model))
        rows = {(*key, "tiny", version) for key in self.place.present()}
        kind, step = ending
        self.allowed |= rows if kind != "none" else set()
        match kind:
            case "whole" | "held" | "behind a link":
                self.place.score("link" if kind == "behind a link" else "tiny", hold=kind == "held")
                self.required |= rows
                assert not list((self.place.out / "_work").rglob("part-*"))
            case "refused":
                with watching(at_step(step, self.place.out, refuse)), suppress(DiskError):
                    self.place.score()
            case "killed" if self.n_kills < 3:
                self.n_kills += 1
                killed_at(step, self.place.out, self.place.inbox, self.place.config())
        self.judge()

    def judge(self) -> None:
        counted = self.place.keys()
        assert [key for key, n in counted.items() if n > 1] == []
        assert self.required <= counted.keys() <= self.allowed
        for batch, path, image_id, model, version in counted:
            assert Seen(self.place.scores, model, version, batch).has_content(path, image_id)

    def files(self) -> list[Path]:
        return sorted(self.place.inbox.rglob("*.png"))

    @rule(batch=BATCHES, path=st.sampled_from(["0", "1", "deep/2"]), number=CONTENTS, ending=ENDINGS)
    def an_image_arrives(self, batch: str, path: str, number: int, ending: tuple[str, int]) -> None:
        self.place.put(f"{batch}/{path}.png", number)
        self.night(ending)

    @precondition(lambda self: self.files())
    @rule(number=CONTENTS, ending=ENDINGS)
    def files_are_replaced_in_place(self, number: int, ending: tuple[str, int]) -> None:
        for file in self.files():
            is_the_same = file.read_bytes() == content(number)
            replace_in_place(file, number + is_the_same)
        self.night(ending)

    @rule(seconds=st.sampled_from([-(10.0**9), -3600.0, 3600.0]), ending=ENDINGS)
    def the_clock_of_the_files_steps(self, seconds: float, ending: tuple[str, int]) -> None:
        for file in self.files():
            moment = file.stat().st_mtime + seconds
            os.utime(file, (moment, moment))
        self.night(ending)

    @rule(ending=ENDINGS)
    def the_inbox_is_copied_and_put_back(self, ending: tuple[str, int]) -> None:
        put_back_a_copy(self.place.inbox)
        self.night(ending)

    @rule(batch=BATCHES, ending=ENDINGS)
    def a_batch_leaves(self, batch: str, ending: tuple[str, int]) -> None:
        shutil.rmtree(self.place.inbox / batch, ignore_errors=True)
        self.night(ending)

    @rule(version=st.sampled_from(["1", "2"]), ending=ENDINGS)
    def a_version_is_promoted(self, version: str, ending: tuple[str, int]) -> None:
        registry.promote(self.place.model, version, force=True)
        self.night(ending)

    @rule(ending=ENDINGS)
    def the_champion_is_rolled_back(self, ending: tuple[str, int]) -> None:
        with suppress(PackageError):  # there is none before it
            registry.rollback(self.place.model)
        self.night(ending)

    @rule(batch=BATCHES, ending=ENDINGS)
    def a_batch_is_released(self, batch: str, ending: tuple[str, int]) -> None:
        with suppress(RunError):  # none of it is held
            scores.release(self.place.scores, batch)
        self.night(ending)

    @rule(ending=ENDINGS)
    def the_model_is_copied(self, ending: tuple[str, int]) -> None:
        copy = self.place.models / "copy"
        shutil.copytree(self.place.model.path, copy, copy_function=os.link)
        with pytest.raises(PackageError, match="keeps that name"):
            self.place.score("copy")
        shutil.rmtree(copy)
        self.night(ending)

    @rule(ending=ENDINGS)
    def the_model_is_renamed_and_named_back(self, ending: tuple[str, int]) -> None:
        self.place.model.path.rename(self.place.models / "renamed")
        with pytest.raises(PackageError, match="keeps that name"):
            self.place.score("renamed")
        (self.place.models / "renamed").rename(self.place.model.path)
        self.night(ending)


def put_back_a_copy(folder: Path) -> None:
    shutil.copytree(folder, folder.with_name("copy"))
    shutil.rmtree(folder)
    folder.with_name("copy").rename(folder)


@pytest.mark.faults
def test_each_content_path_and_version_has_one_row_and_none_is_missing(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inboxes, "TIME_STEP_S", 0.0)  # no two changes fall into one step of this disk's clock
    numbers = iter(range(10**6))

    class Somewhere(Nights):
        @staticmethod
        def fresh_place() -> Place:
            return Place(tmp_path / str(next(numbers)), models)

    few = settings(
        max_examples=N_LIVES,
        stateful_step_count=12,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow],
    )
    run_state_machine_as_test(Somewhere, settings=few)


def test_a_copied_model_scores_nothing_and_the_original_goes_on(place: Place) -> None:
    place.put("ward/1.png", 1)
    place.score(hold=True)
    shutil.copytree(place.model.path, place.models / "tiny-2026", copy_function=os.link)
    for _ in range(3):
        with pytest.raises(
            PackageError, match=r"tiny-2026/1' is version 1 of 'tiny', and keeps that name: move .*`cxr package"
        ):
            place.score("tiny-2026")
    scores.release(place.scores, "ward")
    place.score()
    assert len(place.rows()) == 1


def test_a_model_behind_a_link_has_the_name_that_it_carries(place: Place) -> None:
    (place.models / "latest").symlink_to("tiny")
    place.put("ward/1.png", 1)
    place.score("latest", hold=True)
    place.score("tiny")
    place.score("latest")
    assert place.rows()["model"].tolist() == ["tiny"]
    assert place.scores.held("tiny", "1", "ward").parts()


def test_two_packages_of_one_name_and_version_do_not_share_scores(place: Place) -> None:
    place.put("ward/1.png", 1)
    place.score()
    made_again = place.model.version("1")
    facts = files.read_json(made_again.description)
    files.write_json(made_again.description, facts | {"made_at": "2026-11-27T00:00:00+00:00"})
    sign(made_again)
    place.put("ward/2.png", 2)
    with pytest.raises(PackageError, match=r"version 1 of 'tiny' is another package than .*: give another --out"):
        place.score()
    assert place.rows()["path"].tolist() == ["1.png"]


def test_a_file_that_is_replaced_in_place_with_its_size_and_time_kept_is_scored(place: Place) -> None:
    file = place.put("ward/1.png", 1)
    place.score()
    assert place.score()[0].decision == "nothing new"
    replace_in_place(file, 2)
    place.score()
    replace_in_place(file, 1)
    place.score()
    assert sorted(place.rows()["image_id"]) == sorted([hash_of(content(1)), hash_of(content(2))])


def opened(place: Place) -> list[str]:
    """Score; return the files of the inbox that were opened."""
    names: list[str] = []

    def watch(event: str, path: str) -> None:
        if event == "open" and path.startswith(str(place.inbox)) and path.endswith(".png"):
            names.append(Path(path).name)

    with watching(watch):
        outcomes = place.score()
    assert {outcome.decision for outcome in outcomes} == {"nothing new"}
    return sorted(names)


def test_a_touched_or_copied_inbox_gets_no_second_row_and_is_read_once_more_only(place: Place) -> None:
    paths = [place.put(f"ward/{number}.png", number) for number in range(3)]
    inboxes.time.sleep(0.1)
    place.score()
    assert opened(place) == []
    os.utime(paths[0], (10**9, 10**9))
    paths[1].chmod(0o600)
    inboxes.time.sleep(0.1)
    assert opened(place) == ["0.png", "1.png"]
    assert opened(place) == []
    put_back_a_copy(place.inbox)
    inboxes.time.sleep(0.1)
    assert opened(place) == ["0.png", "1.png", "2.png"]
    assert opened(place) == []
    assert len(place.rows()) == 3


def test_without_its_index_of_contents_a_scoring_run_reads_the_files_again_and_scores_none(place: Place) -> None:
    place.put("ward/1.png", 1)
    inboxes.time.sleep(0.1)
    place.score()
    index = place.scores.known_contents("ward")
    index.write_bytes(b"not a table")
    assert opened(place) == ["1.png"]
    index.unlink()
    assert opened(place) == ["1.png"]
    assert opened(place) == []


def test_a_batch_that_left_the_inbox_after_a_kill_is_published_all_the_same(place: Place) -> None:
    place.put("ward/1.png", 1)
    staged = place.scores.staged("tiny", "1", "ward")
    assert killed_at(1, staged.path / ".decision.json", place.inbox, place.config())
    assert staged.parts()
    shutil.rmtree(place.inbox / "ward")
    place.score()
    assert place.rows()["path"].tolist() == ["1.png"]
    assert not staged.path.exists()


def test_an_error_of_the_disk_at_any_step_is_one_sentence_and_is_recorded(place: Place) -> None:
    place.put("ward/1.png", 1)
    ends = []
    for step in range(6, 44, 7):
        shutil.rmtree(place.out, ignore_errors=True)
        with watching(at_step(step, place.out, refuse)):
            try:
                place.score()
            except DiskError as error:
                sentence = r"'.*' cannot be read or written \(Input/output error\): mend that and type the same command"
                assert re.match(sentence, str(error))  # noqa: PT017 it need not come to that
                runs = place.scores.scoring_runs()
                ends += [files.read_record(run.record)["ended"] for run in runs]
                assert runs or not place.out.joinpath("ward").exists(), "nothing is published without a record"
        place.score()
        assert place.rows()["path"].tolist() == ["1.png"]
        assert place.record()["ended"] == "done"
    assert set(ends) == {"failed"}
    assert len(ends) > 2


def test_an_error_of_the_disk_while_the_record_is_begun_is_recorded(place: Place) -> None:
    n_refused = 0

    def refuse_to_sync_the_record(event: str, path: str) -> None:
        nonlocal n_refused
        if event == "open" and n_refused == 0 and place.scores.scoring_runs():
            (run,) = place.scores.scoring_runs()
            if path == str(run.path) and run.record.exists():
                n_refused += 1
                refuse(path)

    with watching(refuse_to_sync_the_record), pytest.raises(DiskError, match="Input/output error"):
        place.score()
    assert (n_refused, place.record()["ended"]) == (1, "failed")
    assert "Input/output error" in str(place.record()["error"])


def test_a_file_where_a_folder_has_to_be_is_one_sentence_and_the_next_run_publishes(place: Place) -> None:
    place.put("ward/1.png", 1)
    place.out.mkdir()
    (place.out / "ward").write_bytes(b"in the way")
    with pytest.raises(DiskError, match=r"scores/ward' cannot be read or written \(File exists\): mend that"):
        place.score()
    record = place.record()
    assert (record["ended"], record["error"]) == ("failed", str(record["error"]))
    assert "File exists" in str(record["error"])
    (place.out / "ward").unlink()
    place.score()
    assert len(place.rows()) == 1


def limited_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (32 * 1024, resource.RLIM_INFINITY))


def test_a_limit_of_file_sizes_ends_the_command_with_code_2_and_a_record(place: Place) -> None:
    for number in range(12):
        place.put(f"ward/{number}.png", number)
    options = [f"--models={place.models}", f"--out={place.out}", f"--cache={place.out.parent / 'cache'}"]
    command = [BIN / "cxr", "score", place.inbox, "--name=tiny", "--settle=0", "--compile=off", "--force", *options]
    limited = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, preexec_fn=limited_files
    )
    assert limited.returncode == 2, limited.stderr
    assert "Traceback" not in limited.stderr
    assert limited.stderr.count("cannot be read or written (File too large)") == 1
    assert place.record()["ended"] == "failed"
    assert "File too large" in str(place.record()["error"])
    assert len(pd.read_parquet(place.out)) == 12
    assert not list(place.out.rglob("*.tmp"))
    place.score()
    assert len(place.rows()) == 12
