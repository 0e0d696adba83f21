import numpy as np
import pandas as pd

from benchmarks.stranger_images import CANVAS_PX, strangers_of
from benchmarks.strangers import flagged_in_halves
from cxr.serving.novelty import novelty_limit


def test_every_kind_of_stranger_is_drawn_and_no_two_images_of_it_are_alike() -> None:
    generator = np.random.default_rng(0)
    ramp = np.linspace(0, 255, CANVAS_PX)
    chests = [
        (np.clip(ramp[:, None] * generator.uniform(0.5, 1) + 40 * np.sin(ramp / (9 + k)), 0, 255)).astype(np.uint8)
        for k in range(4)
    ]
    kinds = dict(strangers_of(chests, seed=3))
    assert {kind.partition(":")[0] for kind in kinds} > {"inverted", "lateral", "mask", "hand"}
    for kind, squares in kinds.items():
        assert {(square.shape, square.dtype) for square in squares} == {((CANVAS_PX, CANVAS_PX), np.dtype(np.uint8))}
        assert len({square.tobytes() for square in squares}) == len(squares) == 4, kind
        assert not any(np.array_equal(square, chest) for square in squares for chest in chests), kind


def test_a_half_is_judged_at_the_limit_of_the_other_and_a_patient_is_in_one_half() -> None:
    generator = np.random.default_rng(0)
    group = pd.Series([f"p{k // 3}" for k in range(3000)])
    distance = generator.lognormal(size=3000)
    distance[:3] = 1e6
    flagged = flagged_in_halves(distance, group, seed=1)
    halves = np.random.default_rng(1).permutation(1000) < 500
    is_first = np.repeat(halves, 3)
    for half in (is_first, ~is_first):
        limit = novelty_limit(distance[~half])
        assert flagged[half].tolist() == (distance[half] > limit).tolist()
    assert flagged[:3].all(), "an image far out does not raise its own limit"
    assert flagged.mean() < 0.01
