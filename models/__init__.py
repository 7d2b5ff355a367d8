"""Networks by name: ``build_model(name="irnext", num_blocks=4)``."""

from torch import nn

from models.irnext import IRNeXt

MODELS: dict[str, type[nn.Module]] = {"irnext": IRNeXt}


def build_model(name: str = "irnext", **options) -> nn.Module:
    """The network ``name`` with random weights; ``options`` are its constructor's arguments."""
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}: choose from {', '.join(MODELS)}")
    return MODELS[name](**options)


__all__ = ["MODELS", "IRNeXt", "build_model"]
