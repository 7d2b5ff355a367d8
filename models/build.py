"""Networks by name: ``build_model("irnext", num_blocks=4)``."""

import torch
from torch import nn

from models.irnext import IRNeXt

MODELS: dict[str, type[nn.Module]] = {"irnext": IRNeXt}


def build_model(name: str = "irnext", **options) -> nn.Module:
    """Build the network ``name`` with random weights; ``options`` are the arguments of its constructor.

    The weights are channels-last: convolutions are fastest in this memory format on tensor cores and with AVX-512.

    Raises:
        ValueError: the name is unknown or an option is out of range.
    """
    if not isinstance(name, str) or name not in MODELS:
        raise ValueError(f"unknown model {str(name)[:40]!r}: choose from {', '.join(MODELS)}")
    return MODELS[name](**options).to(memory_format=torch.channels_last)
