"""Computational cost of a network, in multiply-accumulates."""

import torch
from torch import nn

from utils.padding import accepted_size


def count_gmacs(model: nn.Module, height: int = 256, width: int = 256) -> float:
    """Multiply-accumulates (in billions) for one image; only convolutions and matrix products are counted.

    If the network does not accept images of this size, they are counted at the next larger size that it accepts and
    scaled by the number of pixels, with which the cost grows.
    """
    from torch.utils.flop_counter import FlopCounterMode  # here, because it imports Triton

    sides = accepted_size(model, height, width)
    device = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, *sides, device=device))
    macs = counter.get_total_flops() / 2  # two operations per multiply-accumulate
    return macs * (height * width) / (sides[0] * sides[1]) / 1e9
