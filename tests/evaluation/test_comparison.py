"""The statistics behind a verdict, against SciPy, known answers and simulation."""

import numpy as np
import pytest
from scipy import stats

from evaluation.comparison import FEWEST, bootstrap_interval, compare_scores, spread_of


def test_a_constant_gain_is_found_exactly():
    first = [20.0, 25.0, 30.0, 28.0, 21.0]
    found = compare_scores(first, [score + 0.5 for score in first], list("abcde"))
    assert (found.images, found.scenes, found.won, found.lost) == (5, 5, 1.0, 0.0)
    assert found.difference == pytest.approx(0.5)
    assert found.interval == pytest.approx((0.5, 0.5))
    assert found.is_shown
    assert found.p_value == stats.wilcoxon([0.5] * 5).pvalue


def test_the_same_scores_are_no_difference():
    found = compare_scores([20.0, 25.0], [20.0, 25.0], list("ab"))
    assert (found.difference, found.won, found.lost, found.p_value) == (0, 0, 0, 1)
    assert not found.is_shown


def test_lower_is_better_for_errors():
    found = compare_scores([0.2, 0.3, 0.4], [0.1, 0.2, 0.5], list("abc"), lower_is_better=True)
    assert (found.won, found.lost) == pytest.approx((2 / 3, 1 / 3))
    assert found.difference < 0


@pytest.mark.parametrize("scenes", range(1, FEWEST))
def test_few_scenes_have_no_interval_however_many_images(scenes):
    names = [str(index % scenes) for index in range(20)]
    found = compare_scores([20.0] * 20, [21.0 + 0.1 * index for index in range(20)], names)
    assert found.interval is None
    assert found.naive_interval is not None
    assert not found.is_shown


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("gains", [[0.0], [0.5], [0.0] * 8, [0.0, 0.0, 0.3, -0.3, 0.3, -0.3], [0.5] * 30])
def test_ties_and_single_images_are_compared_without_warnings(gains):
    found = compare_scores([20.0] * len(gains), [20 + gain for gain in gains], [str(n) for n in range(len(gains))])
    assert 0 <= found.p_value <= 1
    assert found.is_shown == (gains == [0.5] * 30)


def test_wilcoxon_and_mean_are_scipys_on_scenes():
    rng = np.random.default_rng(1)
    first, gains = rng.normal(28, 3, 40), rng.normal(0.1, 0.4, 40)
    found = compare_scores(first, first + gains, [f"{index // 2}" for index in range(40)])
    assert found.p_value == pytest.approx(stats.wilcoxon(gains.reshape(20, 2).mean(1)).pvalue)
    assert found.difference == pytest.approx(gains.mean())


def test_for_many_scenes_the_interval_is_that_of_students_t():
    values = np.random.default_rng(2).normal(0.3, 1, 400)
    low, high = bootstrap_interval(values, [str(index) for index in range(400)])
    expected = stats.t.interval(0.95, 399, values.mean(), stats.sem(values))
    assert (low, high) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(("scenes", "images_per_scene"), [(FEWEST, 1), (6, 1), (12, 2), (25, 8)])
def test_the_interval_covers_the_true_mean_in_95_percent_of_cases(scenes, images_per_scene):
    rng = np.random.default_rng(scenes)
    names = [str(scene) for scene in range(scenes) for _ in range(images_per_scene)]
    covered = {"by scene": 0, "by image": 0}
    trials = 250
    for _ in range(trials):
        of_scene = rng.normal(0.2, 1, scenes).repeat(images_per_scene)
        values = of_scene + rng.normal(0, 0.3, len(names))
        for kind, clusters in (("by scene", names), ("by image", [str(index) for index in range(len(names))])):
            low, high = bootstrap_interval(values, clusters, int(rng.integers(2**31)), resamples=1000)
            covered[kind] += low <= 0.2 <= high
    assert 0.91 <= covered["by scene"] / trials <= 0.985
    if images_per_scene > 1:  # taken as independent, the images of a scene make the interval too narrow
        assert covered["by image"] / trials < 0.9


def test_a_further_run_lies_within_the_spread_in_95_percent_of_cases():
    rng = np.random.default_rng(3)
    runs = rng.normal(30, 0.1, (2000, 4))
    inside = [spread_of(run[:3].tolist()).contains(run[3]) for run in runs]
    assert 0.935 <= np.mean(inside) <= 0.965
