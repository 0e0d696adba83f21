import pytest

from benchmarks.scale import Rates, SourceImage, _costs, _kept_up_with, _limits, _rounded


@pytest.fixture
def rates() -> Rates:
    """A machine of two cores that scores 100 images a second, in a night of which Prefect runs 20 tasks a second."""
    grown = {"preparing: images, s, peak GiB": [(10, 1.0, 1.0), (1000, 36.0, 1.0)], "preparing: exponent": 1.5}
    head = {"five folds of a head: images, s, peak GiB": [(1000, 36.0, 1.0)], "five folds of a head: exponent": 0.5}
    return Rates(
        {"first image opened to table closed, images/s": 100.0},
        grown | head,
        2,
        {"sqlite": 20.0},
        trained=1000.0,
        gpu="GPU",
    )


def test_costs_by_hand(rates: Rates) -> None:
    costs = {name: cost(3_600_000) for name, cost in _costs(rates, SourceImage(1000, 2000, 50_000), hours=5).items()}
    assert costs["scoring, hours of one machine of 2 cores"] == pytest.approx(10)
    assert costs["the same in CPU-hours, each of one core"] == pytest.approx(20)
    assert costs["machines needed to finish within 5 h"] == 2
    assert costs["scores, GB"] == pytest.approx(3.6)
    assert costs["task runs"] == 7032 + 3  # 3.6 million in chunks of 512, rounded up
    assert costs["hours of Prefect's bookkeeping, sqlite"] == pytest.approx(7035 / 20 / 3600)
    assert costs["preparing at 64 px, hours of one machine of 2 cores"] == pytest.approx(36 * 3600**1.5 / 3600)
    assert costs["five folds of a head at 64 px, the same"] == pytest.approx(36 * 3600 / 3600), "0.5 is not believed"
    epoch = costs["an epoch of five folds from scratch at 224 px, hours of one GPU"]
    assert epoch == pytest.approx(5 * 0.8 * 3600 / 3600), "each fold trains on the images of the four others"


def test_limits_by_hand(rates: Rates) -> None:
    limits = _limits(rates, SourceImage(1000, 2**10, 50_000), hours=1, memory_gib=1)
    assert limits["one machine of 2 cores that scores"] == 360_000
    assert limits["1 GiB of the one process that lists and checks a batch"] == 2**20
    assert limits["Prefect on sqlite"] == 20 * 3600 * 512


def test_a_server_keeps_up_with_the_tasks_whose_end_it_learns_while_and_after_they_run() -> None:
    trials = {1000: (4.0, 16.0, 0), 10_000: (30.0, 70.0, 6000)}
    names = ("tasks/s", "s", "s until the server was through", "the server never learnt the end of")
    figures = {
        f"{n_tasks} tasks, {name}": value
        for n_tasks, trial in trials.items()
        for name, value in zip(names, (n_tasks / trial[0], *trial), strict=True)
    }
    assert _kept_up_with(figures) == (10_000 - 6000) / (30 + 70)


@pytest.mark.parametrize(
    ("value", "shown"), [(195_313, "195,313"), (321.9, "320"), (0.00821, "0.0082"), (41.0, "41"), (7.638, "7.6")]
)
def test_numbers_have_two_significant_digits(value: float, shown: str) -> None:
    assert _rounded(value) == shown
