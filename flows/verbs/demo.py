"""The verb that shows everything at once, on synthetic images: demo."""

from pathlib import Path
from typing import Any

from cxr.cli import groups
from cxr.cli.app import app
from cxr.cli.verbs.models import package
from cxr.config import Execution, ScoreConfig, TrainConfig
from flows.verbs.scoring import score
from flows.verbs.training import train

DRAWN: dict[str, Any] = {
    "preset": "quick",
    "weights": "none",
    "zero_init_residual": True,
    "size": 96,
    "standardise": "percentile",
    "augment": "none",
    "epochs": 9,
    "batch_size": 16,
    "learning_rate": 5e-4,
}
"""A recipe that learns what is drawn within minutes, from random weights and a few hundred images."""


@app.command(group=groups.TRAINING)
def demo() -> None:
    """Draw synthetic images, cross-validate on them, package the model, and score a new folder with bad files in it.

    Example: cxr demo
    """
    from cxr.images.synthetic import draw_images, draw_inbox

    images, inbox = Path("demo") / "chest_xray", Path("demo") / "inbox"
    if not images.exists():
        draw_images(images, n_images=400, seed=0)
    train(
        config=TrainConfig(data=str(images), folds=4, **DRAWN),
        execution=Execution(run_id="demo"),
    )
    package("demo", name="demo", promote=True)
    if not inbox.exists():
        draw_inbox(inbox, n_images=40, seed=1)
    score(inbox, config=ScoreConfig(name="demo", out=Path("demo") / "scores", settle=0))
