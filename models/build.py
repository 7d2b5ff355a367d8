"""Networks by name: ``build_model("irnext", num_blocks=4)``."""

import torch
from torch import nn

from models.irnext import IRNeXt

MODELS: dict[str, type[nn.Module]] = {"irnext": IRNeXt}


def build_model(name: str = "irnext", **options) -> nn.Module:
    """The network ``name`` with random weights; ``options`` are its constructor's arguments.

    Weights are channels-last, the layout in which convolutions are fastest on tensor cores and with AVX-512.

    Raises:
        ValueError: unknown name, or an option out of range.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}: choose from {', '.join(MODELS)}")
    return MODELS[name](**options).to(memory_format=torch.channels_last)
