import numpy as np
import pytest

from cxr.images.drawn_chest import CANVAS_PX, Body, Disease, draw_chest

HALF = CANVAS_PX // 2


def drawn(seed: int, disease: Disease | None, view: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return draw_chest(Body.drawn_from(np.random.default_rng(seed)), disease, np.random.default_rng((seed, view)))


def test_equal_numbers_draw_an_equal_chest_and_another_view_is_of_the_same_body() -> None:
    first, again, other_view, other_body = drawn(3, None), drawn(3, None), drawn(3, None, view=1), drawn(4, None)
    np.testing.assert_array_equal(first[0], again[0])
    assert np.abs(first[0] - other_view[0]).mean() > 0.01
    assert np.abs(first[0] - other_body[0]).mean() > 0.01
    assert (first[0].min(), first[0].max()) >= (0, 0.5)
    assert first[0].max() <= 1
    np.testing.assert_array_equal(drawn(3, None)[0], first[0], err_msg="another body was drawn in between")


@pytest.mark.parametrize("seed", range(5))
def test_air_is_dark_and_heart_spine_and_abdomen_are_bright(seed: int) -> None:
    image, _ = drawn(seed, None)
    right_lung = image[HALF - 30 : HALF + 20, 60:90].mean()
    left_lung = image[HALF - 60 : HALF - 20, CANVAS_PX - 90 : CANVAS_PX - 65].mean()
    middle = image[HALF : HALF + 30, HALF - 5 : HALF + 20].mean()
    below = image[-50:-20, 70:90].mean()
    assert max(right_lung, left_lung) + 0.15 < min(middle, below)
    beside = image[HALF + 20 : HALF + 40]  # the heart lies left, which is on the right of the image
    assert beside[:, HALF + 25 : HALF + 40].mean() > beside[:, HALF - 40 : HALF - 25].mean()


@pytest.mark.parametrize("seed", range(5))
def test_bacteria_are_in_one_lung_viruses_in_both_and_healthy_lungs_have_no_opacity(seed: int) -> None:
    assert not drawn(seed, None)[1].any()
    one, both = (drawn(seed, disease)[1] for disease in ("bacteria", "virus"))
    sides = [sorted((opacity[:, :HALF].sum(), opacity[:, HALF:].sum())) for opacity in (one, both)]
    assert sides[0][0] < 0.1 * sides[0][1]
    assert sides[1][0] > 0.2 * sides[1][1]
    for opacity in (one, both):
        assert 0.005 < (opacity > 0.05).mean() < 0.4
        assert opacity[:10].max() < 0.05


def test_an_opacity_makes_its_place_brighter() -> None:
    image, opacity = drawn(2, "bacteria")
    healthy, _ = drawn(2, None)
    inside = opacity > 0.5 * opacity.max()
    others = [drawn(seed, None)[0][inside].mean() for seed in range(10, 20)]
    assert image[inside].mean() > np.mean(others) + 0.05
    assert healthy.shape == opacity.shape == (CANVAS_PX, CANVAS_PX)
