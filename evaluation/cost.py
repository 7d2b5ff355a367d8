"""Computational cost of a network, in multiply-accumulates."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_gmacs(model: nn.Module, height: int = 256, width: int = 256) -> float:
    """Multiply-accumulates (in billions) for one image; only convolutions and matrix products are counted."""
    device = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, height, width, device=device))
    return counter.get_total_flops() / 2e9  # two operations per multiply-accumulate
