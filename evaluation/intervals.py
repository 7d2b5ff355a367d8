"""Confidence intervals of scores."""

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from statistics import mean

from scipy.stats import t

CONFIDENCE = 0.95


def mean_interval(values: Sequence[float], clusters: Sequence[Hashable]) -> tuple[float, float | None]:
    """The mean and half the width of its 95 % interval, by Student's t with cluster-robust variance.

    Values of one cluster, such as the scores of several inputs with the same target, need not be independent of each
    other; clusters are. If every value is a cluster of its own, this is the usual t interval. The half-width is None if
    there is one cluster only.
    """
    centre = mean(values)
    deviations: dict[Hashable, float] = defaultdict(float)
    for value, cluster in zip(values, clusters, strict=True):
        deviations[cluster] += value - centre
    count = len(deviations)
    if count < 2:
        return centre, None
    variance = count / (count - 1) * sum(total**2 for total in deviations.values()) / len(values) ** 2
    return centre, float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * math.sqrt(variance)
