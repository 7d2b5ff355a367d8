"""The interval of a mean: against scipy, with clusters, and its coverage."""

import numpy as np
import pytest
import scipy.stats

from evaluation.intervals import mean_interval

VALUES = [26.1, 30.4, 24.9, 28.8, 33.0, 27.2]


def test_of_independent_values_it_is_the_t_interval():
    centre, half = mean_interval(VALUES, range(len(VALUES)))
    low, high = scipy.stats.t.interval(0.95, len(VALUES) - 1, np.mean(VALUES), scipy.stats.sem(VALUES))
    assert (centre - half, centre + half) == pytest.approx((low, high))


def test_the_same_values_again_in_their_clusters_tell_nothing_new():
    assert mean_interval(VALUES * 2, [*range(6)] * 2) == pytest.approx(mean_interval(VALUES, range(6)))


def test_one_cluster_has_a_mean_and_no_interval():
    assert mean_interval(VALUES, ["scene"] * 6) == (pytest.approx(np.mean(VALUES)), None)


def test_the_interval_covers_the_true_mean_of_clustered_values_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = {"clustered": 0, "independent": 0}
    clusters = np.repeat(np.arange(15), 4)
    for _ in range(1000):
        values = rng.normal(size=15)[clusters] + 0.3 * rng.normal(size=60)  # of mean 0
        for name, groups in (("clustered", clusters), ("independent", range(60))):
            centre, half = mean_interval(values.tolist(), list(groups))
            covered[name] += abs(centre) <= half
    assert 930 <= covered["clustered"] <= 970
    assert covered["independent"] < 750
