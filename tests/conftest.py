"""Films and runs that several tests share: drawn, seeded, made once."""

import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr import experiment
from cxr.config import TrainConfig
from cxr.experiment import Experiment
from cxr.store import RunFolder
from cxr.synthetic import draw_films


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighty drawn films in the Kaggle layout, with three copies and a truncated file among them."""
    out = tmp_path_factory.mktemp("sample") / "chest_xray"
    draw_films(out, n_films=80, seed=1)
    return out


@pytest.fixture
def film() -> Callable[..., bytes]:
    """Make a small film's bytes: film(seed=0, size=(64, 48), format="JPEG")."""

    def make(seed: int = 0, size: tuple[int, int] = (64, 48), format: str = "JPEG") -> bytes:
        pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0]), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, format)
        return stream.getvalue()

    return make


@pytest.fixture
def tree(tmp_path: Path) -> Callable[[dict[str, bytes]], Path]:
    """Write files under a fresh folder: tree({"train/A/1.png": data})."""

    def write(files: dict[str, bytes]) -> Path:
        root = tmp_path / "films"
        for name, data in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        return root

    return write


@contextmanager
def lock_holder(lock: Path, what: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds a lock until it is killed or the block ends."""
    words = f"with store.locked(Path({str(lock)!r}), {what!r}): print(); input()"
    code = f"from pathlib import Path; from cxr import store\n{words}"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def begin(tmp_path: Path, sample: Path) -> Callable[..., Experiment]:
    """Begin a small run on the drawn films: begin("name", epochs=1, …)."""

    def begin_run(run_id: str = "run", devices: str = "cpu", **fields: object) -> Experiment:
        small = {"data": str(sample), "weights": "none", "trainable": "all", "size": 32, "folds": 2, "epochs": 1}
        config = TrainConfig(**(small | {"batch_size": 16} | fields))
        folder = RunFolder.named(tmp_path / "experiments", run_id)
        return experiment.begin(config, folder, cache=tmp_path / "cache", devices=devices)

    return begin_run
