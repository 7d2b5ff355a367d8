"""Networks by name: ``build_model("irnext", num_blocks=4)``."""

import inspect

import torch
from torch import Tensor, nn

from models.irnext import IRNeXt

MODELS: dict[str, type[nn.Module]] = {
    "irnext": IRNeXt,
}


def build_model(name: str = "irnext", **options) -> nn.Module:
    """Build the network ``name`` with random weights; ``options`` are the arguments of its constructor.

    The weights are channels-last: convolutions are fastest in this memory format on tensor cores and with AVX-512.

    Returns:
        The network, with the attributes ``size_multiple`` and ``min_size``: those of its class, or 1 and
        ``size_multiple``.

    Raises:
        ValueError: the name is unknown, an option is out of range, or the network does not have it.
    """
    if not isinstance(name, str) or name not in MODELS:
        raise ValueError(f"unknown model {str(name)[:40]!r}: choose from {', '.join(MODELS)}")
    try:
        inspect.signature(MODELS[name]).bind(**options)
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from None
    model = MODELS[name](**options)
    model.size_multiple = getattr(model, "size_multiple", 1)
    model.min_size = getattr(model, "min_size", model.size_multiple)
    return in_format(model, torch.channels_last)


def in_format(model: nn.Module, memory_format: torch.memory_format) -> nn.Module:
    """The network with its 4-D parameters and buffers in a memory format; ``Module.to`` fails if it has 5-D ones."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.to(memory_format=memory_format)
    return model


def full_size(outputs: list[Tensor] | Tensor) -> Tensor:
    """The restored images (N, 3, H, W): the last of a network's outputs, coarse to fine, or its only one."""
    return outputs if isinstance(outputs, Tensor) else outputs[-1]
