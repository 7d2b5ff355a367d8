"""How much of an epoch each of several training sets has."""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple


class Share(NamedTuple):
    """The crops of a training set, each once, and how many of them an epoch draws."""

    crops: int
    drawn: int


def weighted_shares(crops: Sequence[int], weights: Sequence[float]) -> list[Share]:
    """Shares that divide an epoch of as many samples as there are crops by ``weights``, rounded by largest remainder.

    Args:
        crops: number of crops of each set.
        weights: of each set, relative to the others; decimal fractions are exact.
    """
    exact = [Fraction(str(weight)) for weight in weights]
    quotas = [sum(crops) * weight / sum(exact) for weight in exact]
    drawn = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(quotas)), key=lambda number: drawn[number] - quotas[number])
    for number in by_remainder[: sum(crops) - sum(drawn)]:
        drawn[number] += 1
    return [Share(*share) for share in zip(crops, drawn, strict=True)]
