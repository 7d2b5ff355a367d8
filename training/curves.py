"""TensorBoard curves and images of a run."""

import threading
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter


def open_curves(output: Path, step: int) -> SummaryWriter:
    """Open the event file of a run whose next step is ``step``; points from this step on of earlier starts are hidden.

    If the file cannot be written, the next ``add_scalar`` or ``close`` raises the OSError.
    """

    def hook(args: threading.ExceptHookArgs) -> None:
        if isinstance(args.exc_value, OSError):
            # The writer's thread stores the error and raises it again in the main thread, which reports it.
            args.exc_value.filename = str(output)
        else:
            threading.__excepthook__(args)

    threading.excepthook = hook
    return SummaryWriter(output, purge_step=step)


def add_scalars(curves: SummaryWriter, values: dict[str, float], step: int) -> None:
    """Add one point to each curve named in ``values``."""
    for name, value in values.items():
        curves.add_scalar(name, value, step)


def side_by_side(*images: Tensor) -> Tensor:
    """Concatenate n images (1, 3, H, W) horizontally: (3, H, n * W), clamped to [0, 1]."""
    return torch.cat(images, dim=-1)[0].clamp(0, 1)
