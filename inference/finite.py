"""Find values that are not finite: as NaN, they survive clamping, and one sum of the result finds them."""

import math

from torch import Tensor

ADVICE = "the weights are damaged, or the precision is too low: try --precision float32"


def infinite_to_nan_(x: Tensor) -> Tensor:
    """Replace infinite values by NaN, in place."""
    return x.nan_to_num_(nan=math.nan, posinf=math.nan, neginf=math.nan)


def is_finite(x: Tensor) -> bool:
    """Whether every value is finite, for values in [0, 1] or NaN; waits for the device once."""
    return bool(x.sum().isfinite())  # takes no memory, unlike isfinite of every value
