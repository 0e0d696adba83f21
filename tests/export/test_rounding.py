from pathlib import Path

import numpy as np
import pandas as pd

from cxr.export.rounding import evenly_spread, measure_rounding
from cxr.images.decoding import decode_square
from cxr.images.synthetic import draw_examples
from cxr.metrics.calibration import Calibration
from cxr.serving.registry import load_champion


def test_rounding_moves_probabilities_a_little_and_not_at_all_where_all_are_alike(home: Path, tmp_path: Path) -> None:
    package = load_champion(home / "models", "tiny")
    squares = np.stack([decode_square(image, package.size) for image in draw_examples().values()])
    found = measure_rounding(package.networks, package.calibration, squares, tmp_path)
    assert 0 < found["largest_probability_difference"] < 0.1
    assert found["n_images"] == 3
    flat = Calibration(1e12, package.calibration.bias)
    assert measure_rounding(package.networks, flat, squares, tmp_path)["largest_probability_difference"] < 1e-9
    assert not list(tmp_path.iterdir())


def test_a_package_knows_what_rounding_costs_it(home: Path) -> None:
    known = load_champion(home / "models", "tiny").facts["bfloat16"]
    assert known["n_images"] == 64
    assert 0 < known["largest_probability_difference"] < 1


def test_a_sample_is_spread_evenly_from_the_first_image_to_the_last() -> None:
    images = pd.DataFrame({"number": range(10)})
    assert evenly_spread(images, 4)["number"].tolist() == [0, 3, 6, 9]
    assert evenly_spread(images, 99)["number"].tolist() == list(range(10))
    assert evenly_spread(images[:0], 4).empty
