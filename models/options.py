"""The values that the options of IRNeXt may take, checked before anything is built.

A configuration and a weights file may both come from others. Without upper bounds, one wrong number in either of them
would fill the memory or build layers for hours.
"""

import math
import reprlib
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

MAX_BLOCKS = 256  # sixteen times the deepest published network
MAX_CHANNELS = 256  # eight times the published width
MAX_BLOCK_CHANNELS = 2**20  # num_blocks * channels^2; a billion parameters, 3.8 GiB in float32
MAX_POOLING = 256  # least common multiple of pool_sizes; inputs are then multiples of 1024 pixels, at least 2048


def check_options(
    num_blocks: int,
    channels: int,
    mean_window: float | None,
    pool_sizes: Sequence[int],
    local_attention: bool,
    frequency_modulation: bool,
) -> None:
    """Check the arguments of ``IRNeXt``.

    Raises:
        ValueError: an option has the wrong type or is out of range; the message names the option.
    """
    _check_integer("num_blocks", num_blocks, MAX_BLOCKS)
    if not _is_integer(channels) or not 8 <= channels <= MAX_CHANNELS or channels % 8:
        raise ValueError(f"channels must be a multiple of 8 from 8 to {MAX_CHANNELS}, not {_shown(channels)}")
    if num_blocks * channels**2 > MAX_BLOCK_CHANNELS:
        raise ValueError(
            f"num_blocks x channels^2 must be at most {MAX_BLOCK_CHANNELS} (about a billion parameters), not "
            f"{num_blocks} x {channels}^2; choose fewer blocks or channels"
        )
    number = isinstance(mean_window, Real) and not isinstance(mean_window, bool)
    if mean_window is not None and not (number and 0 < mean_window <= 1):
        raise ValueError(f"mean_window must be None or in (0, 1], not {_shown(mean_window)}")
    _check_pool_sizes(pool_sizes)
    for name, value in (("local_attention", local_attention), ("frequency_modulation", frequency_modulation)):
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be true or false, not {_shown(value)}")


def _check_pool_sizes(pool_sizes: Sequence[int]) -> None:
    if not isinstance(pool_sizes, (list, tuple)):
        raise ValueError(f"pool_sizes must be a list of integers, such as 8, 4, 2, not {_shown(pool_sizes)}")
    for size in pool_sizes:
        _check_integer("each of pool_sizes", size, MAX_POOLING)
    if list(pool_sizes) != sorted(set(pool_sizes), reverse=True):
        raise ValueError(
            f"pool_sizes must be decreasing (coarse to fine), such as 8, 4, 2, not {_shown(tuple(pool_sizes))}"
        )
    if math.lcm(*pool_sizes) > MAX_POOLING:
        raise ValueError(
            f"pool_sizes must have a least common multiple of at most {MAX_POOLING}, not {_shown(tuple(pool_sizes))}"
        )


def _check_integer(name: str, value: Any, most: int) -> None:
    if not _is_integer(value) or not 1 <= value <= most:
        raise ValueError(f"{name} must be an integer from 1 to {most}, not {_shown(value)}")


def _is_integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    """The value in a few characters. Python refuses to print integers of more than 4300 digits."""
    if _is_integer(value) and abs(value) > 10**15:
        return f"a number of {int(value).bit_length()} bits"
    return reprlib.repr(value)
