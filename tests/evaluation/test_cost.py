"""Multiply-accumulates as published."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from models import IRNeXt


@pytest.mark.parametrize("num_blocks, gmacs", [(4, 38.7), (8, 67.7)])
def test_multiply_accumulates(num_blocks, gmacs):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        IRNeXt(num_blocks)(torch.rand(1, 3, 256, 256))
    assert counter.get_total_flops() / 2e9 == pytest.approx(gmacs, abs=0.1)
