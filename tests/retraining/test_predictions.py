from pathlib import Path

import numpy as np

from cxr.serving.package import load_package
from cxr.storage import verified
from tests.support.retraining import Site


def test_what_both_predict_is_what_their_packages_predict(retrained: Site) -> None:
    import cxr

    (file,) = (retrained.path / "experiments").glob("retrain-*/retraining/set_aside.parquet")
    table = verified.read_table(file).head(4)
    images = verified.read_table(file.with_name("data_set.parquet")).set_index("path").loc[table["path"]]
    paths = [Path(place, name) for place, name in images[["place", "file"]].to_numpy()]
    for version, who in (("1", "champion"), ("2", "challenger")):
        predictor = cxr.Predictor(load_package(retrained.model.version(version)), precision="fp32", device="cpu")
        found = predictor.predict_files(paths)["probability_PNEUMONIA"]
        np.testing.assert_allclose(found, table[f"{who}_PNEUMONIA"], atol=1e-5)
