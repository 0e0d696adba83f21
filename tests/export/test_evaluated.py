from pathlib import Path

import numpy as np
import pandas as pd

from cxr.export.evaluated import in_float32
from cxr.serving.registry import load_champion
from cxr.storage.run_folder import RunFolder
from cxr.training.run import load_run


def test_predictions_in_float32_are_those_that_the_run_has_published(home: Path) -> None:
    run = load_run(RunFolder.named(home / "experiments", "run"))
    found = in_float32(load_champion(home / "models", "tiny").networks, run)
    pd.testing.assert_frame_equal(found.out_of_fold.predictions, pd.read_parquet(run.folder.predictions))
    pd.testing.assert_frame_equal(found.summary, pd.read_parquet(run.folder.summary))
    assert found.judged == {}
    squares = run.squares(run.images())[:3]
    features = found.features(squares)
    assert features.shape == (3, 2048)
    assert np.isfinite(features).all()
