import os
import signal
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from cxr.config import Execution
from cxr.dataset.examination import examine
from cxr.errors import DiskFullError
from cxr.storage import files
from cxr.storage.run_folder import FoldFolder, RunFolder
from cxr.training.beginning import begin_run
from cxr.training.fold.loop import FoldTrainer
from cxr.training.run import Run
from cxr.training.supervision import StopRequest
from cxr.training.trainer import train_fold
from tests.support.collections import write
from tests.support.runs import small_config

Begin = Callable[..., Run]


def assert_same_weights(left: Run, right: Run) -> None:
    weights = [load_file(run.folder.fold(0).weights) for run in (left, right)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


EVERYTHING = {
    "augment": "strong",
    "flip": True,
    "standardise": "percentile",
    "mixup": 0.2,
    "label_smoothing": 0.1,
    "average": 0.9,
    "loss": "focal",
    "schedule": "cosine",
    "size": 64,
    "progressive": 0.4,  # the first of three epochs
}


def test_a_fold_resumed_after_any_epoch_ends_with_the_same_weights_bit_for_bit(begin: Begin) -> None:
    whole, broken = (begin(name, epochs=3, **EVERYTHING) for name in ("whole", "broken"))
    train_fold(whole, 0, "cpu")
    for _ in range(2):
        trainer = FoldTrainer(broken, 0, "cpu")
        trainer.resume(broken.folder.fold(0))
        trainer.train_epoch()
        trainer.save(broken.folder.fold(0))
    train_fold(broken, 0, "cpu")
    assert_same_weights(whole, broken)
    tables = [files.read_table(run.folder.fold(0).epochs) for run in (whole, broken)]
    unlike_by_nature = ["seconds", "images_per_s"]
    pd.testing.assert_frame_equal(*(table.drop(columns=unlike_by_nature) for table in tables))
    assert tables[0]["epoch"].tolist() == [1, 2, 3]


def test_a_fold_asked_to_stop_within_an_epoch_keeps_its_batches_and_ends_with_the_same_weights(begin: Begin) -> None:
    whole, stopped = begin("whole", epochs=2), begin("stopped", epochs=2)
    train_fold(whole, 0, "cpu")
    before, stop = signal.getsignal(signal.SIGTERM), StopRequest()
    stop.listen()
    try:
        trainer = FoldTrainer(stopped, 0, "cpu", stop)
        trainer.layers.register_forward_pre_hook(lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(SystemExit, match="143"):
            trainer.train(stopped.folder.fold(0))
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert (trainer.epoch, len(trainer.losses), trainer.steps_per_epoch) == (0, 1, 2)
    train_fold(stopped, 0, "cpu")
    assert_same_weights(whole, stopped)


def test_a_checkpoint_that_finds_the_disk_full_is_reported_and_leaves_nothing_half_written(
    begin: Begin, small_disk: Path
) -> None:
    with pytest.raises(DiskFullError, match=r"no space is left to write .*checkpoint"):
        FoldTrainer(begin(), 0, "cpu").save(FoldFolder(small_disk))
    assert not list(small_disk.iterdir())


def test_the_average_is_kept_and_not_the_last_weights(begin: Begin) -> None:
    run = begin(average=0.9, epochs=2)
    trainer = FoldTrainer(run, 0, "cpu")
    trainer.train_epoch()
    last = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.finish(run.folder.fold(0))
    kept = load_file(run.folder.fold(0).weights)
    assert not torch.equal(kept["network.fc.weight"], last["network.fc.weight"])
    assert torch.equal(kept["mean"], last["mean"])


def test_a_batch_in_parts_has_the_gradients_of_the_whole(begin: Begin, weights_file: str) -> None:
    run = begin(weights=weights_file, trainable="head", epochs=2)
    whole, parted = FoldTrainer(run, 0, "cpu"), FoldTrainer(run, 0, "cpu")
    parted.micro_batch = 5  # of 16: three whole parts and a rest
    for trainer in (whole, parted):
        trainer.train_epoch()
        trainer.train_epoch()
    for left, right in zip(whole.layers.parameters(), parted.layers.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-6)
    assert whole.history[1]["training_loss"] == pytest.approx(parted.history[1]["training_loss"], rel=1e-5)


def test_out_of_memory_halves_the_parts_and_is_logged(begin: Begin, caplog: pytest.LogCaptureFixture) -> None:
    trainer = FoldTrainer(begin(), 0, "cpu")

    def small_device(_: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        if len(inputs[0]) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")

    trainer.layers.register_forward_pre_hook(small_device)
    trainer.train_epoch()
    assert trainer.micro_batch == 4
    assert "each batch of 16 images goes through in parts of 4 from now on" in caplog.text


def test_an_image_that_does_not_fit_alone_is_an_error(begin: Begin) -> None:
    trainer = FoldTrainer(begin(), 0, "cpu")

    def no_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    trainer.layers.register_forward_pre_hook(no_memory)
    with pytest.raises(torch.OutOfMemoryError):
        trainer.train_epoch()


def test_an_image_that_weighs_twice_counts_as_if_it_were_there_twice(begin: Begin) -> None:
    trainer = FoldTrainer(begin(augment="none"), 0, "cpu")
    trainer.model.eval()  # batch norm would take its statistics from the batch
    labels_BC = trainer.labels[:4]
    x_B = trainer.inputs.take(torch.arange(4), torch.Generator(), 0)
    twice = trainer._backward(torch.cat([x_B, x_B[:1]]), torch.cat([labels_BC, labels_BC[:1]]))
    trainer.optimiser.zero_grad()
    weighted = trainer._backward(x_B, labels_BC * torch.tensor([[2.0], [1.0], [1.0], [1.0]]))
    assert weighted.item() == pytest.approx(twice.item(), rel=1e-5)


def test_weights_of_a_table_reach_the_loss(tmp_path: Path) -> None:
    for k in range(8):
        write(tmp_path / "data" / f"{k}.png", k, is_sick=k % 2 == 0)
    rows = [f"{k}.png,{'xy'[k % 2]},{1 + k}" for k in range(8)]
    (tmp_path / "t.csv").write_text("\n".join(["file,label,w", *rows]))
    config = small_config(tmp_path / "data", labels=(str(tmp_path / "t.csv"),), positive="y", weight_column="w")
    folder = RunFolder.named(tmp_path, "run")
    examine(config, folder, cache=tmp_path / "cache", size=config.size)
    run = begin_run(config, folder, Execution(cache=tmp_path / "cache", devices="cpu"))
    trainer = FoldTrainer(run, 0, "cpu")
    paths = run.training_images(0)["path"]
    weights = [1 + int(path.removesuffix(".png")) for path in paths]
    seen = []
    trainer._accumulate = lambda x_B, labels_BC: seen.append(labels_BC) or torch.zeros(())  # pyright: ignore
    trainer._step(torch.arange(len(paths)))
    assert seen[0].sum(dim=1).tolist() == weights
