"""TensorBoard curves and images of a run."""

import os
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import torch
from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from utils.files import write_atomically

# Written by the training steps, and all others by the validation of a step, after its checkpoint.
TRAINING_CURVES = {
    "loss/total",
    "loss/content",
    "loss/fft",
    "train/lr",
    "train/grad_norm",
    "train/skipped_steps",
    "train/images_per_second",
    "train/waiting_for_data",
}


def open_curves(output: Path, step: int, validated: bool) -> SummaryWriter:
    """Open a new event file of a run, and remove the points after its checkpoint, which will be written again.

    If the file cannot be written, the next ``add_scalar``, ``flush`` or ``close`` raises the OSError.

    Args:
        output: folder of the run.
        step: the last step of the checkpoint.
        validated: whether the validation after this step, if any, belongs to the checkpoint.

    Raises:
        OSError: an existing event file cannot be read or replaced.
    """

    def hook(args: threading.ExceptHookArgs) -> None:
        if isinstance(args.exc_value, OSError):
            # The writer's thread stores the error and raises it again in the main thread, which reports it.
            args.exc_value.filename = str(output)
        else:
            threading.__excepthook__(args)

    threading.excepthook = hook
    for path in sorted(output.glob("events.out.tfevents.*")):
        _keep_events(path, lambda event: _is_kept(event, step, validated))
    # The random suffix keeps the writer, which would follow a link, from opening a file that exists.
    return SummaryWriter(output, purge_step=step + 1, filename_suffix=f".{os.urandom(8).hex()}")


def _is_kept(event: Event, step: int, validated: bool) -> bool:
    if not event.HasField("summary") or event.step < step:
        return True
    return event.step == step and (validated or all(value.tag in TRAINING_CURVES for value in event.summary.value))


def _keep_events(path: Path, is_kept: Callable[[Event], bool]) -> None:
    """Drop all other events, and a damaged end, from an event file; it is removed if no point is left."""
    with open(path, "rb") as file:
        kept = [record for record, event in _records(file) if is_kept(event)]
        if sum(map(len, kept)) == os.fstat(file.fileno()).st_size:
            return
    write_atomically(path, b"".join(kept))


def _records(file: BinaryIO) -> Iterator[tuple[bytes, Event]]:
    """The records of an event file (TFRecord) up to the first that is cut off or damaged, and their events.

    A record is its length (uint64), a checksum of it (uint32), the content, and a checksum of that (uint32).
    """
    size = os.fstat(file.fileno()).st_size
    while len(header := file.read(12)) == 12:
        (length,) = struct.unpack_from("<Q", header)
        if length + 4 > size - file.tell():
            return
        content, checksum = file.read(length), file.read(4)
        try:
            yield header + content + checksum, Event.FromString(content)
        except DecodeError:
            return


def add_scalars(curves: SummaryWriter, values: dict[str, float], step: int) -> None:
    """Add one point to each curve named in ``values``."""
    for name, value in values.items():
        curves.add_scalar(name, value, step)


def side_by_side(*images: Tensor) -> Tensor:
    """Concatenate n images (1, 3, H, W) horizontally: (3, H, n * W), clamped to [0, 1]."""
    return torch.cat(images, dim=-1)[0].clamp(0, 1)
