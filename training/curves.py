"""TensorBoard: scalars and images of a run."""

import threading
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter


def open_curves(output: Path, step: int) -> SummaryWriter:
    """The event file of a run that continues with ``step``; what an earlier start wrote of later steps is hidden.

    If the file cannot be written, the next scalar that is added, or closing it, raises the OSError.
    """

    def hook(args: threading.ExceptHookArgs) -> None:
        if isinstance(args.exc_value, OSError):
            # The writer's thread keeps it to raise in the main thread, which reports it once, with a name.
            args.exc_value.filename = str(output)
        else:
            threading.__excepthook__(args)

    threading.excepthook = hook
    return SummaryWriter(output, purge_step=step)


def add_scalars(curves: SummaryWriter, values: dict[str, float], step: int) -> None:
    """Add one point to each of the curves."""
    for name, value in values.items():
        curves.add_scalar(name, value, step)


def side_by_side(*images: Tensor) -> Tensor:
    """Images (1, 3, H, W) in [0, 1] in a row: (3, H, W * n), clamped."""
    return torch.cat(images, dim=-1)[0].clamp(0, 1)
