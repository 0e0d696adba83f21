import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cxr.errors import DamagedError, RunError
from cxr.images.decoding import open_prepared
from cxr.storage import files, verified
from cxr.training.run import Run
from cxr.training.trainer import train_fold
from tests.support.processes import run_to_the_end

Begin = Callable[..., Run]


def weights_of(run: Run, fold: int = 0) -> dict[str, torch.Tensor]:
    return load_file(run.folder.fold(fold).weights)


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_a_finished_fold_leaves_weights_predictions_curve_and_no_checkpoint(begin: Begin) -> None:
    run = begin()
    train_fold(run, 1, "cpu")
    folder = run.folder.fold(1)
    names = {"weights.safetensors", "predictions.parquet", "epochs.parquet", "complete.json", "SHA256SUMS"}
    assert {path.name for path in folder.path.iterdir() if not path.name.startswith(".")} == names
    predictions = files.read_table(folder.predictions)
    assert predictions.columns.tolist() == [
        "image_id",
        "path",
        "group_id",
        "fold",
        "label",
        "subtype",
        "logit_NORMAL",
        "logit_PNEUMONIA",
        "probability_NORMAL",
        "probability_PNEUMONIA",
    ]
    images = run.images()
    assert predictions["path"].tolist() == images.loc[images["fold"] == 1, "path"].tolist()
    probability = predictions.filter(like="probability_").to_numpy()
    logit = predictions.filter(like="logit_").to_numpy()
    np.testing.assert_allclose(probability, np.exp(logit) / np.exp(logit).sum(axis=1, keepdims=True), atol=1e-12)


def test_a_finished_fold_is_not_trained_again_and_a_forgotten_one_is(begin: Begin) -> None:
    run = begin()
    train_fold(run, 0, "cpu")
    first, marker = weights_of(run), run.folder.fold(0).complete.stat().st_mtime_ns
    train_fold(run, 0, "cpu")
    assert run.folder.fold(0).complete.stat().st_mtime_ns == marker
    run.forget_fold(0)
    train_fold(run, 0, "cpu")
    assert run.folder.fold(0).complete.stat().st_mtime_ns != marker
    assert_same(first, weights_of(run))


def test_held_out_images_teach_nothing(begin: Begin) -> None:
    honest, blinded = begin("honest"), begin("blinded")
    train_fold(honest, 0, "cpu")
    held_out = honest.images().query("fold == 0")["image_id"]
    white = np.full((32, 32), 255, np.uint8)
    open_prepared(blinded.cache, 32).add(dict.fromkeys(held_out, white))  # in a later shard, so it wins, or
    for shard in sorted((blinded.cache / "prepared").rglob("*.parquet")):  # wherever it is found first
        ids = files.read_table(shard)["image_id"]
        squares = np.load(shard.with_suffix(".npy"))
        squares[ids.isin(held_out).to_numpy()] = 255
        np.save(shard.with_suffix(".npy"), squares)
    train_fold(blinded, 0, "cpu")
    assert_same(weights_of(honest), weights_of(blinded))
    probabilities = [files.read_table(r.folder.fold(0).predictions)["probability_NORMAL"] for r in (honest, blinded)]
    assert probabilities[0].nunique() > probabilities[1].nunique() == 1


SMALL_MEMORY = """
import resource, sys
from pathlib import Path
from cxr.cli import terminal
from cxr.storage.run_folder import RunFolder
from cxr.training.run import load_run
from cxr.training.trainer import train_fold

warm, run = (load_run(RunFolder(Path(word))) for word in sys.argv[1:3])

def train():
    with terminal.log_lines():
        train_fold(warm, 0, "cpu")  # from here on every library is loaded and every thread started
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        most = held + int(sys.argv[3]) * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))
        train_fold(run, 0, "cpu")

terminal.run_command(train)
"""


@pytest.mark.faults
def test_a_batch_that_memory_is_too_small_for_goes_through_in_parts_and_a_sentence_tells_where_none_does(
    begin: Begin,
) -> None:
    warm, run = begin("warm", batch_size=64), begin("run", batch_size=64, size=112, precision="fp32")

    def train(more_mib: int) -> subprocess.CompletedProcess[str]:
        """Train in a process that may take so much more memory than its libraries hold."""
        warm.forget_fold(0)
        words = [str(warm.folder.path), str(run.folder.path), str(more_mib)]
        environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"}  # what is freed goes back to the system
        return run_to_the_end([sys.executable, "-c", SMALL_MEMORY, *words], environment)

    tight = train(450)  # much less, and a library that no code of Python reaches may crash
    assert tight.returncode == 2, tight.stderr
    assert "goes through in parts of" in tight.stderr, "it is the checkpoint that does not fit"
    assert tight.stderr.splitlines()[-1].startswith(
        "error: fold 0 ran out of memory on cpu, even with batches in parts"
    )
    assert "Traceback" not in tight.stderr
    assert not run.is_complete(0)

    small = train(700)  # a checkpoint is written in some 600; the whole batch needs over 1,000
    assert small.returncode == 0, small.stderr
    assert "out of memory; each batch of 64 images goes through in parts of" in small.stderr
    assert run.is_complete(0)


@pytest.mark.parametrize(("trainable", "trained"), [("head", ("fc.",)), ("layer4", ("fc.", "layer4."))])
def test_what_is_frozen_keeps_its_weights_and_batch_statistics(
    begin: Begin, weights_file: str, trainable: str, trained: tuple[str, ...]
) -> None:
    run = begin(weights=weights_file, trainable=trainable)
    train_fold(run, 0, "cpu")
    before = torch.load(weights_file, weights_only=True)
    after = {name.removeprefix("network."): tensor for name, tensor in weights_of(run).items()}
    for name, tensor in before.items():
        if name.startswith("fc."):
            assert after[name].shape[0] == 2
        elif not name.endswith("num_batches_tracked"):
            assert torch.equal(tensor, after[name]) != name.startswith(trained), name


def test_a_damaged_checkpoint_says_how_to_go_on(begin: Begin) -> None:
    run = begin()
    verified.write_text(run.folder.fold(0).checkpoint, "written")
    run.folder.fold(0).checkpoint.write_text("half")
    with pytest.raises(DamagedError, match=r"checkpoint\.pt' was changed since cxr wrote it.* --redo-fold 0\.$"):
        train_fold(run, 0, "cpu")


def test_a_fold_that_the_run_does_not_have_is_named(begin: Begin) -> None:
    with pytest.raises(RunError, match="has folds 0 to 1, got 2"):
        train_fold(begin(), 2, "cpu")


def test_fewer_images_than_a_batch_make_one_step(begin: Begin) -> None:
    run = begin(batch_size=4096)
    train_fold(run, 0, "cpu")
    assert run.is_complete(0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here; the same code runs on the CPU above")
def test_a_fold_trains_on_a_gpu_and_repeats_itself_when_deterministic(begin: Begin) -> None:
    runs = [begin(name, devices="cuda:0", deterministic=True, epochs=2) for name in ("one", "two")]
    try:
        for run in runs:
            train_fold(run, 0, "cuda:0")
    finally:
        torch.use_deterministic_algorithms(False)
    assert_same(*(weights_of(run) for run in runs))


def test_temporary_files_of_a_killed_process_are_swept(begin: Begin) -> None:
    run = begin()
    leftover = run.folder.fold(0).path / ".checkpoint.pt.99999.tmp"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half")
    train_fold(run, 0, "cpu")
    assert not leftover.exists()
    assert Path(run.folder.fold(0).complete).exists()
