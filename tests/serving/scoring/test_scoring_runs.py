"""The nightly job as a user starts it: real processes, a real model, an inbox full of trouble, real kills."""

import io
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from datetime import datetime, tzinfo
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from benchmarks.processes import run_measured
from cxr.config import ScoreConfig
from cxr.errors import ConfigError, PackageError
from cxr.export.build import make_package
from cxr.images.synthetic import draw_inbox
from cxr.pipeline import score_inbox
from cxr.serving import registry
from cxr.serving.scoring import scorer, scoring_runs
from cxr.storage.model_folder import ModelFolder
from cxr.storage.run_folder import RunFolder
from cxr.storage.scores_folder import ScoresFolder
from cxr.training.run import load_run
from tests.support.command import run_here
from tests.support.disks import disk_of, resize_disk
from tests.support.images import make_dicom
from tests.support.scoring import command, score, table
from tests.support.shared import NewFolder

BIN = Path(sys.executable).parent
N_KILLS = int(os.environ.get("CXR_KILLS", "3"))
MAX_GIB = 2


def encoded(picture: Image.Image, format: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format, **options)
    return stream.getvalue()


def png(width: int, height: int, rows: bytes, *, bits: int = 8, interlaced: bool = False) -> bytes:
    """A grey PNG with the header given and whatever pixels."""
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, int(interlaced))
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def interlaced(image: Image.Image) -> bytes:
    pixels = np.asarray(image)
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = [b"\0" + row.tobytes() for y, x, dy, dx in passes for row in pixels[y::dy, x::dx]]
    return png(image.width, image.height, b"".join(rows), interlaced=True)


def archive() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as zipped:
        zipped.writestr("image.jpeg", b"x")
    return stream.getvalue()


def torture(image: Image.Image) -> dict[str, tuple[bytes, str | None]]:
    """Files by name, each with its bytes and the reason to be expected, None for an image."""
    jpeg = encoded(image)
    colour = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    rotated = Image.Exif()
    rotated[0x0112] = 6
    frames = [image, ImageOps.invert(image)]
    return {
        "image.jpeg": (jpeg, None),
        "the same image.jpeg": (jpeg, None),
        "deep/down/here/nested.png": (encoded(image, "PNG"), None),
        "x.jpeg/inside a folder with a suffix.jpeg": (encoded(image, quality=60), None),
        "no suffix": (encoded(image, quality=61), None),
        "text suffix.txt": (encoded(image, quality=62), None),
        "line\nbreak.jpeg": (encoded(image, quality=63), None),
        "\x1b[31mred\r.jpeg": (encoded(image, quality=64), None),
        "<script>alert('x')</script>&\".jpeg".replace("/", "∕"): (encoded(image, quality=65), None),
        "'; DROP TABLE scores; --.jpeg": (encoded(image, quality=66), None),
        "n" * 245 + ".jpeg": (encoded(image, quality=67), None),
        "tab|pipe`tick`.jpeg": (encoded(image, quality=68), None),
        "cmyk.jpeg": (encoded(image.convert("CMYK")), None),
        "palette.png": (encoded(image.convert("P"), "PNG"), None),
        "alpha.png": (encoded(image.convert("LA"), "PNG"), None),
        "progressive.jpeg": (encoded(image, progressive=True), None),
        "rotated.jpeg": (encoded(image, exif=rotated), None),
        "16 bits.png": (encoded(Image.fromarray(np.asarray(image).astype(np.uint16) * 16), "PNG"), None),
        "1 bit.png": (encoded(image.convert("1"), "PNG"), None),
        "interlaced.png": (interlaced(image), None),
        "image.dcm": (make_dicom(np.asarray(image).astype(np.uint16) * 16), None),
        "empty.jpeg": (b"", "empty"),
        "half.jpeg": (jpeg[: len(jpeg) // 2], "truncated"),
        "header only.jpeg": (jpeg[:200], "not_an_image"),
        "text.jpeg": (b"Dear colleague", "not_an_image"),
        "archive.jpeg": (archive(), "not_an_image"),
        "images.zip": (archive(), "other_file"),
        "labels.csv": (b"path,label\nimage.jpeg,NORMAL\n", "other_file"),
        "animated.gif": (encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), "unsupported_format"),
        "scan.tiff": (encoded(image, "TIFF"), "unsupported_format"),
        "scan.bmp": (encoded(image, "BMP"), "unsupported_format"),
        "scan.webp": (encoded(image, "WEBP"), "unsupported_format"),
        "tiny.png": (encoded(image.resize((8, 8)), "PNG"), "too_small"),
        "bomb.png": (png(60_000, 60_000, b""), "too_large"),
        "lying header.png": (png(400, 400, b"\0" * 500), "truncated"),
        "half a header.png": (encoded(image, "PNG")[:20], "truncated"),
        "blank.png": (encoded(Image.new("L", (300, 300), 128), "PNG"), "blank"),
        "photograph.jpeg": (encoded(Image.fromarray(colour).resize((320, 240))), "colour_photograph"),
        "ct.dcm": (make_dicom(Modality="CT"), "dicom_of_something_else"),
        "damaged.dcm": (make_dicom()[:3000], "truncated"),
    }


@pytest.fixture(scope="module")
def tortured(home: Path, sample: Path, new_folder: NewFolder) -> tuple[Path, Path, float, str]:
    """An inbox of trouble, scored once with code 0: inbox, scores, peak memory in GiB, output."""
    inbox, out = new_folder("trouble"), new_folder("scores")
    image = Image.open(next((sample / "train" / "NORMAL").glob("*.jpeg"))).convert("L").resize((400, 300))
    batch = inbox / "<b>batch 'of'\n\"trouble\""
    for name, (data, _) in torture(image).items():
        (batch / name).parent.mkdir(parents=True, exist_ok=True)
        (batch / name).write_bytes(data)
    (batch / os.fsdecode(b"latin-\xe9.jpeg")).write_bytes(encoded(image, quality=69))
    os.mkfifo(batch / "pipe.jpeg")
    (batch / "loop").symlink_to(batch / "loop")
    (batch / "out.jpeg").symlink_to(home / "models" / "tiny" / "1" / "README.md")
    (batch / "folder").symlink_to(batch / "deep")
    (batch / ".DS_Store").write_bytes(b"x")
    (inbox / "many").mkdir()
    for number in range(10_000):
        (inbox / "many" / f"{number}.jpeg").touch()
    before = snapshot(inbox)
    ended = run_measured(command(home, inbox, out))
    assert ended.code == 0, ended.output
    assert snapshot(inbox) == before, "the inbox is not ours"
    return inbox, out, ended.peak_gib, ended.output


def snapshot(folder: Path) -> list[tuple[str, int, int]]:
    found = [(str(p), p.lstat().st_size, p.lstat().st_mtime_ns) for p in folder.rglob("*")]
    return sorted(found, key=lambda row: row[0].encode("utf-8", "surrogateescape"))


def test_every_file_of_a_torture_inbox_is_accounted_for(tortured: tuple[Path, Path, float, str], sample: Path) -> None:
    _, out, _, output = tortured
    image = Image.open(next((sample / "train" / "NORMAL").glob("*.jpeg"))).convert("L").resize((400, 300))
    expected = {name: reason for name, (_, reason) in torture(image).items()} | {
        "latin-\\xe9.jpeg": None,
        "pipe.jpeg": "not_a_file",
        "loop": "broken_link",
        "out.jpeg": "link_leaves_inbox",
        "folder": "link_to_folder",
    }
    rows = table(out)
    trouble = rows[rows["batch"] != "many"].set_index("path")
    assert {path: None if pd.isna(r) else r for path, r in trouble["reason"].items()} == expected
    assert (trouble["status"] == "ok").sum() == sum(reason is None for reason in expected.values())
    many = rows[rows["batch"] == "many"]
    assert len(many) == 10_000
    assert set(many["reason"]) == {"empty"}
    assert "Traceback" not in output


def test_names_cannot_inject_into_the_page_or_the_log(tortured: tuple[Path, Path, float, str]) -> None:
    _, out, _, output = tortured
    page = next(out.glob("_scoring_runs/*/report.html")).read_text()
    assert "<script" not in page
    assert "<b>batch" not in page
    assert "\x1b" not in output
    assert not any(line.startswith('"trouble"') for line in output.splitlines()), "a name broke a line of the log"


def test_memory_stays_within_bounds(tortured: tuple[Path, Path, float, str]) -> None:
    _, _, peak_gib, _ = tortured
    assert peak_gib < MAX_GIB


def test_identical_images_and_images_seen_before_go_through_the_network_once(
    tortured: tuple[Path, Path, float, str], home: Path, tmp_path: Path
) -> None:
    inbox, out, _, _ = tortured
    batch = next(folder for folder in inbox.iterdir() if folder.name != "many")
    rows = table(out).set_index("path")
    same = [column for column in rows.columns if column not in ("changed_ns", "n_bytes")]
    pd.testing.assert_series_equal(
        rows.loc["image.jpeg", same], rows.loc["the same image.jpeg", same], check_names=False
    )
    before = table(out)
    copy = batch / "a third copy.jpeg"
    shutil.copy(batch / "image.jpeg", copy)
    try:
        run, batches = scoring_runs.open_scoring_run(inbox, config(home, out))
        again = {b.name: [a.path for a in b.arrivals] for b in batches}
        assert again == {batch.name: ["a third copy.jpeg"], "many": []}
        restarted = scorer.Scorer(run)
        (row,) = restarted.score(batch.name, batches[0].arrivals).to_dict("records")
        assert "ensemble" not in vars(restarted.predictor), "the network is not asked again"
        for name in ("probability_NORMAL", "fold_spread", "novelty", "predicted_label", "in_training"):
            assert row[name] == rows.loc["image.jpeg", name]
    finally:
        copy.unlink()
    pd.testing.assert_frame_equal(table(out), before)


def config(home: Path, out: Path, **fields: object) -> ScoreConfig:
    usual = {"name": "tiny", "out": out, "models": home / "models", "cache": home / "cache", "settle": 0.0}
    return ScoreConfig(**(usual | {"compile": "off"} | fields))


def fill_inbox(inbox: Path, n_images: int) -> None:
    """Two batches of images, with a few files that are not images."""
    draw_inbox(inbox, n_images=n_images, seed=7)
    late = inbox / "ward-4"
    late.mkdir()
    for index, image in enumerate(sorted((inbox / "ward-3").glob("image-*.jpeg"))[: n_images // 2]):
        ImageOps.autocontrast(Image.open(image).convert("L"), cutoff=1).save(late / f"{index}.jpeg", quality=80)


@pytest.fixture(scope="module")
def undisturbed(home: Path, new_folder: NewFolder) -> tuple[Path, pd.DataFrame]:
    """An inbox, and the table of an undisturbed scoring run."""
    inbox, out = new_folder("undisturbed") / "inbox", new_folder("scores")
    fill_inbox(inbox, 60)
    result = score(home, inbox, out)
    assert result.returncode == 0, result.stderr
    return inbox, table(out)


@pytest.mark.faults
def test_kills_at_any_moment_only_delay_the_scoring_run(
    home: Path, undisturbed: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    inbox, expected = undisturbed
    out, moments = tmp_path / "scores", random.Random(0)
    for _ in range(N_KILLS):
        process = subprocess.Popen(command(home, inbox, out), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        time.sleep(moments.uniform(2, 9))
        process.send_signal(signal.SIGKILL)
        process.wait()
        for part in out.glob("[!_]*/*.parquet"):
            pd.read_parquet(part)
    result = score(home, inbox, out)
    assert result.returncode == 0, result.stderr
    assert_same(table(out), expected)
    assert not list((out / "_work").rglob("part-*"))


def assert_same(rows: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert not rows.duplicated(["batch", "path", "image_id", "model", "model_version"]).any()
    pd.testing.assert_frame_equal(rows, expected, rtol=0, atol=1e-6)


@pytest.mark.faults
def test_two_runs_started_together_score_once(
    home: Path, undisturbed: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    inbox, expected = undisturbed
    out = tmp_path / "scores"
    both = [
        subprocess.Popen(command(home, inbox, out), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes in ([0, 0], [0, 2]), errors
    if codes == [0, 2]:
        assert any("is in use by process" in words for words in errors)
    assert_same(table(out), expected)


def test_images_that_come_later_are_scored_later_and_by_a_new_champion_into_its_own_rows(
    home: Path, tmp_path: Path
) -> None:
    inbox, out = tmp_path / "inbox", tmp_path / "scores"
    fill_inbox(inbox, 24)
    late = sorted((inbox / "ward-4").iterdir())[0].rename(tmp_path / "late.jpeg")
    score_all(home, inbox, out)
    first = table(out)
    shutil.copy(late, inbox / "ward-4" / "late.jpeg")
    assert score_all(home, inbox, out) == {"ward-4": 1}
    assert len(table(out)) == len(first) + 1
    other = tmp_path / "other"
    shutil.copytree(home, other)
    model = ModelFolder.named(other / "models", "tiny")
    run = load_run(RunFolder(home / "experiments" / "run"))
    registry.promote(model, make_package(run, model, operating_point="sensitivity_95").version)
    score_all(other, inbox, out)
    rows = table(out)
    assert rows["model_version"].value_counts().to_dict() == {"1": len(first) + 1, "2": len(first) + 1}
    assert score_all(other, inbox, out) == {}


def score_all(home: Path, inbox: Path, out: Path) -> dict[str, int]:
    """Score in this process and publish everything; return the number of new rows in each batch that has any."""
    _, outcomes = score_inbox(inbox, config(home, out), check=lambda *_: [])
    n_rows = {outcome.batch: outcome.n_scored + outcome.n_quarantined for outcome in outcomes}
    return {batch: n for batch, n in n_rows.items() if n}


def test_a_batch_of_inverted_images_is_held_and_released(home: Path, tmp_path: Path) -> None:
    inbox, out = tmp_path / "inbox", tmp_path / "scores"
    draw_inbox(tmp_path / "drawn", n_images=30, seed=8)
    (inbox / "negatives").mkdir(parents=True)
    for image in (tmp_path / "drawn" / "ward-3").glob("image-*.jpeg"):
        ImageOps.invert(Image.open(image).convert("L")).save(inbox / "negatives" / image.name)
    result = score(home, inbox, out)
    assert result.returncode == 1, result.stderr
    assert "held                 'negatives': 30 scored" in result.stdout
    assert not list(out.glob("[!_]*"))
    assert score_all(home, inbox, out) == {}, "held images are not scored again"
    later = score(home, inbox, out)
    assert later.returncode == 0
    assert re.search(r"held, earlier [^\n]*'negatives': 30 rows", later.stdout)
    assert "Still held from earlier scoring runs" in max(out.glob("_scoring_runs/*/report.html")).read_text()
    released = subprocess.run(
        [BIN / "cxr", "release", "negatives", f"--out={out}"], capture_output=True, text=True, timeout=60, check=False
    )
    assert released.returncode == 0, released.stderr
    assert len(table(out)) == 30


@pytest.mark.faults
def test_a_full_disk_is_reported_and_the_next_scoring_run_completes(
    home: Path, undisturbed: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    inbox, expected = undisturbed
    with disk_of("60k", tmp_path / "scores") as out:
        result = score(home, inbox, out)
        assert result.returncode == 2, result.stderr
        assert "no space is left to write" in result.stderr
        assert "Traceback" not in result.stderr
        for part in out.glob("[!_]*/*.parquet"):
            pd.read_parquet(part)
        resize_disk(out, "50m")
        assert score(home, inbox, out).returncode == 0
        assert_same(table(out), expected)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"--name": "nobody"}, "model 'nobody' in .* has no champion"),
        ({"--settle": -1}, "--settle must lie between 0 and 86400"),
        ({"--device": "cuda:7"}, "device 'cuda:7' does not exist"),
    ],
)
def test_a_mistake_is_one_sentence_and_writes_nothing(
    home: Path, tmp_path: Path, words: dict[str, object], sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "inbox").mkdir()
    usual = {"--name": "tiny", "--models": home / "models", "--out": tmp_path / "scores"}
    options = [f"{name}={value}" for name, value in (usual | words).items()]
    code, _, err = run_here(["score", str(tmp_path / "inbox"), *options], capfd)
    assert code == 2
    assert re.search(sentence, " ".join(err.split()))
    assert "Traceback" not in err
    assert not list(tmp_path.glob("scores/[!_]*"))


def test_scores_inside_the_inbox_and_a_missing_champion_are_refused(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is inside the inbox, which is never written to"):
        scoring_runs.open_scoring_run(tmp_path, config(home, tmp_path / "scores"))
    with pytest.raises(PackageError, match="has no champion"):
        scoring_runs.open_scoring_run(tmp_path, config(tmp_path / "nowhere", tmp_path.parent / "scores"))


def test_no_scoring_run_takes_the_name_of_another_where_the_clock_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StoppedClock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime(2026, 11, 25, tzinfo=tz)

    monkeypatch.setattr(scoring_runs, "datetime", StoppedClock)
    folder = ScoresFolder(tmp_path)
    for microsecond in range(3):
        name = scoring_runs._name_scoring_run(folder)
        assert name == f"2026-11-25T00-00-00-{microsecond:06d}Z"
        folder.scoring_run(name).path.mkdir(parents=True)
