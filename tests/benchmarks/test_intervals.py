import pandas as pd

from benchmarks.intervals import compare_intervals
from tests.support.predictions import manifest_of, simulate


def test_every_kind_of_interval_and_test_agrees_with_other_software_on_the_same_predictions() -> None:
    images = simulate(240, n_folds=3)
    rows = pd.DataFrame(compare_intervals(images, manifest_of(images), n_replicates=100))
    assert set(rows["peer"]) == {"scipy", "statsmodels", "statsmodels, cluster-robust", "MLstatkit"}
    assert len(rows) > 300
    apart = (rows["ours"] - rows["theirs"]).abs() > rows["tolerance"]
    assert not apart.any(), rows[apart].to_string()
