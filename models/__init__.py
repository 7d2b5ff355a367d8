"""Networks by name: ``build_model(name="irnext", num_blocks=4)``."""

import torch
from torch import nn

from models.irnext import IRNeXt

MODELS: dict[str, type[nn.Module]] = {"irnext": IRNeXt}


def build_model(name: str = "irnext", **options) -> nn.Module:
    """The network ``name`` with random weights; ``options`` are its constructor's arguments.

    Its weights are channels-last, the layout in which convolutions are fastest, on the CPU as on tensor cores.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}: choose from {', '.join(MODELS)}")
    return MODELS[name](**options).to(memory_format=torch.channels_last)


__all__ = ["MODELS", "IRNeXt", "build_model"]
