"""Whether one method is better than another: statistics of paired scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

import numpy as np
from scipy.stats import norm, t, wilcoxon

CONFIDENCE = 0.95
RESAMPLES = 10_000
CHUNK = 10**7  # draws at a time, to bound the memory
FEWEST = 5  # scenes; the percentiles of fewer end at their extremes, which four enclose the mean in 88 % of cases only
Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Scores of a second method compared with those of a first on the same images, for one metric.

    Attributes:
        images, scenes: how many; inputs with the same target are of one scene.
        first, second: mean score of each method.
        difference: ``second`` less ``first``.
        interval: its 95 % interval if scenes are independent; None with fewer than ``FEWEST``.
        naive_interval: as if all images were independent, which is too narrow if scenes have several.
        won, lost: share of the images on which the second method is better, and worse; the rest are equal.
        p_value: Wilcoxon's signed-rank test, two-sided, on the scenes' mean differences.
    """

    images: int
    scenes: int
    first: float
    second: float
    difference: float
    interval: Interval | None
    naive_interval: Interval | None
    won: float
    lost: float
    p_value: float

    @property
    def is_shown(self) -> bool:
        """Whether the interval excludes zero."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]


def compare_scores(
    first: Sequence[float], second: Sequence[float], scenes: Sequence[str], lower_is_better: bool = False
) -> Difference:
    """Compare the scores of two methods, image by image.

    Args:
        first, second: scores of the same images, in the same order.
        scenes: the scene of each image.
        lower_is_better: for errors such as LPIPS.
    """
    values = np.asarray(second, float) - np.asarray(first, float)
    better = -values if lower_is_better else values
    positions = np.unique(scenes, return_inverse=True)[1]
    by_scene = np.bincount(positions, values) / np.bincount(positions)
    return Difference(
        images=len(values),
        scenes=len(by_scene),
        first=mean(first),
        second=mean(second),
        difference=float(values.mean()),
        interval=bootstrap_interval(values, scenes),
        naive_interval=bootstrap_interval(values, [str(index) for index in range(len(values))]),
        won=float((better > 0).mean()),
        lost=float((better < 0).mean()),
        p_value=float(wilcoxon(by_scene).pvalue) if np.any(by_scene) else 1.0,
    )


def bootstrap_interval(
    values: Sequence[float] | np.ndarray, scenes: Sequence[str], seed: int = 0, resamples: int = RESAMPLES
) -> Interval | None:
    """95 % interval of the mean of ``values`` by the bootstrap over scenes; None if there are fewer than ``FEWEST``.

    Each of ``resamples`` draws as many scenes as there are, with replacement, and takes the mean over their images. The
    interval is the expanded percentile interval (Hesterberg, "What teachers should know about the bootstrap", The
    American Statistician 2015): with few scenes, plain percentiles give too narrow an interval, by the bias of the
    variance and for want of Student's t.
    """
    names, positions = np.unique(scenes, return_inverse=True)
    count = len(names)
    if count < FEWEST:
        return None
    totals, images = np.bincount(positions, values), np.bincount(positions)
    rng = np.random.default_rng(seed)
    means = []
    step = max(1, CHUNK // count)
    for start in range(0, resamples, step):
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=min(step, resamples - start))
        means.append((drawn @ totals) / (drawn @ images))
    tail = norm.cdf(np.sqrt(count / (count - 1)) * t.ppf((1 - CONFIDENCE) / 2, count - 1))
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return float(low), float(high)


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A method's mean score in runs that differ in their seed only.

    Attributes:
        runs: how many.
        mean, deviation: over the runs.
        half_width: a further run is expected within this of the mean, with 95 % probability.
        other: the mean score of another method on the same images.
    """

    runs: int
    mean: float
    deviation: float
    half_width: float
    other: float | None = None

    def contains(self, score: float) -> bool:
        """Whether ``score`` may well be that of a further run of the same method."""
        return abs(score - self.mean) <= self.half_width


def spread_of(scores: Sequence[float], other: float | None = None) -> Spread:
    """The spread of two or more runs; the half-width is that of Student's prediction interval."""
    runs, deviation = len(scores), stdev(scores)
    half_width = float(t.ppf((1 + CONFIDENCE) / 2, runs - 1)) * deviation * (1 + 1 / runs) ** 0.5
    return Spread(runs=runs, mean=mean(scores), deviation=deviation, half_width=half_width, other=other)
