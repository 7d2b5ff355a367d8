"""Multiply-accumulates as published, and of networks that do not accept 256x256."""

import pytest

from evaluation.cost import count_gmacs
from models import IRNeXt


@pytest.mark.parametrize("num_blocks, gmacs", [(4, 38.7), (8, 67.7)])
def test_multiply_accumulates(num_blocks, gmacs):
    assert count_gmacs(IRNeXt(num_blocks)) == pytest.approx(gmacs, abs=0.1)


@pytest.mark.parametrize("pool_sizes", [(6, 3), (64, 4, 2), (7, 5)])
def test_the_cost_does_not_depend_on_the_size_that_a_network_accepts(pool_sizes):
    model = IRNeXt(1, 8, pool_sizes=pool_sizes)
    side = model.min_size
    assert count_gmacs(model) == pytest.approx(count_gmacs(model, side, side) * (256 / side) ** 2, rel=1e-3)
