"""TensorBoard curves, images and hyper-parameters of a run."""

import os
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from utils.config import Config
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
    "train/gpu_memory_gib",
    "train/first_batch",
}
# The keys by which TensorBoard's HPARAMS page compares runs.
HYPER_PARAMETERS = {
    "task": (),
    "seed": (),
    "model": ("num_blocks", "channels", "mean_window"),
    "loss": ("fft_weight",),
    "data": ("crop_size",),
    "train": ("epochs", "batch_size", "lr", "warmup_epochs", "clip_norm", "precision", "ema_decay"),
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


def describe_run(curves: SummaryWriter, config: Config, step: int) -> None:
    """Add the configuration as text, and charts that show each set's scores and those of its inputs together."""
    curves.add_text("config", f"```\n{config.to_yaml()}```", step)
    sets = config.data.validation or config.data.test
    charts = {
        f"{name}: {metric}": ["Multiline", [f"validation/{name}/{metric}", f"validation/{name}/input_{metric}"]]
        for name in sets
        for metric in ("psnr", "ssim")
    }
    curves.add_custom_scalars({"restored and input": charts})


def add_first_batch(curves: SummaryWriter, batch: Mapping[str, Tensor], step: int) -> None:
    """Show the inputs of a batch above their targets."""
    rows = [torch.cat(list(batch[side]), dim=-1) for side in ("input", "target")]
    curves.add_image("train/first_batch", torch.cat(rows, dim=-2), step)


def add_hyper_parameters(curves: SummaryWriter, config: Config, best_psnr: float, step: int) -> None:
    """Add the run to TensorBoard's HPARAMS page, with its best mean PSNR over the validation sets in dB."""
    values = {}
    for section, keys in HYPER_PARAMETERS.items():
        part = getattr(config, section)
        values |= {f"{section}.{key}": getattr(part, key) for key in keys} if keys else {section: part}
    plain = {name: value if isinstance(value, bool | int | float) else str(value) for name, value in values.items()}
    for summary in hparams(plain, {"validation/best_psnr": best_psnr}):
        curves.file_writer.add_summary(summary, step)


def add_scalars(curves: SummaryWriter, values: dict[str, float], step: int) -> None:
    """Add one point to each curve named in ``values``."""
    for name, value in values.items():
        curves.add_scalar(name, value, step)


def side_by_side(*images: Tensor) -> Tensor:
    """Concatenate n images (1, 3, H, W) horizontally: (3, H, n * W), clamped to [0, 1]."""
    return torch.cat(images, dim=-1)[0].clamp(0, 1)
