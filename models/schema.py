"""What weights must be before they are used: the check between reading a file and loading it into a network."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
COUNTS = (torch.int64, torch.int32)  # batch norm counts its batches

NAME_LENGTH = 60  # characters of a parameter's name in a message


def check_weights(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], most: int) -> dict[str, Tensor]:
    """Check a state dict and convert it to the types of ``expected``, the state dict of the network.

    Args:
        weights: state dict of a file: any tensors by name.
        expected: names, shapes and types; may be on the meta device.
        most: size of the file in bytes. Strides can make a few bytes a tensor of terabytes.

    Returns:
        Dense tensors on the CPU, finite, with the names, shapes and types of ``expected``.

    Raises:
        ValueError: they are not; the message gives up to three names per problem.
    """
    common = expected.keys() & weights.keys()
    sound = {name for name in common if is_dense(weights[name])}
    differences = [
        some("missing", expected.keys() - weights.keys()),
        some("unexpected", weights.keys() - expected.keys()),
        some("of a different shape", (name for name in sound if weights[name].shape != expected[name].shape)),
    ]
    if any(differences):
        raise ValueError(f"weights of another network: {'; '.join(filter(None, differences))}")
    unusable = [name for name in common if name not in sound or weights[name].dtype not in _types(expected[name])]
    _refuse(some("not dense float32, float16, bfloat16 or float64", unusable))
    if sum(value.numel() * value.itemsize for value in weights.values()) > most:
        raise ValueError("damaged weights: they claim to be larger than their file")
    values = {name: value.detach().to(expected[name].dtype) for name, value in weights.items()}
    # Finite as they are used: float64 may overflow in float32.
    floats = {name: value for name, value in values.items() if value.is_floating_point()}
    _refuse(some("not finite", (name for name, value in floats.items() if not value.isfinite().all())))
    counts = values.keys() - floats.keys()
    _refuse(some("not a count", (name for name in counts if weights[name] != values[name] or values[name] < 0)))
    _refuse(some("negative", (name for name in floats if name.endswith("running_var") and (values[name] < 0).any())))
    return values


def is_dense(value: Tensor) -> bool:
    """Whether a tensor is an ordinary one on the CPU: not sparse, quantised, nested, meta or of another class."""
    return (
        type(value) in (Tensor, nn.Parameter)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
        and not value.is_nested
        and not value.is_neg()  # a view that negates what is stored
    )


def some(problem: str, names: Iterable[str]) -> str:
    """``some("missing", names)`` is "2 missing (a, b)"; at most three names are shown; empty if there are none."""
    names = sorted(names)
    shown = [name if len(name) <= NAME_LENGTH else f"{name[:NAME_LENGTH]}…" for name in names[:3]]
    return f"{len(names)} {problem} ({', '.join(shown)}{', …' if len(names) > 3 else ''})" if names else ""


def _types(expected: Tensor) -> tuple[torch.dtype, ...]:
    return FLOATS if expected.is_floating_point() else (*COUNTS, *FLOATS)


def _refuse(problem: str) -> None:
    if problem:
        raise ValueError(f"damaged weights: {problem}")
