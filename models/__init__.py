"""Networks by name, ``build_model(name="irnext", num_blocks=4)``, and from a file, ``load_pretrained("best.pt")``."""

from pathlib import Path

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


def load_pretrained(weights: str | Path, device: str | torch.device | None = None) -> IRNeXt:
    """The trained network that a file holds, in eval mode: ``load_pretrained("best.pt").restore("photo.jpg")``.

    Args:
        weights: a checkpoint trained here, one that the authors released, or a .safetensors file.
        device: where it computes; a CUDA GPU where there is one, if not said.

    Raises:
        InputError: the file is missing, damaged, or holds another network.
    """
    from utils.checkpoint import load_model  # it builds on this package

    return load_model(weights).to(device or ("cuda" if torch.cuda.is_available() else "cpu"))


__all__ = ["MODELS", "IRNeXt", "build_model", "load_pretrained"]
