"""TensorBoard's event files of a run: a new one for each start, and no point twice after resuming."""

import os
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event
from torch.utils.tensorboard import SummaryWriter

from utils.files import write_atomically

VALIDATION = "validation/"  # begins what the validation of a step writes, after the checkpoint of that step
DESCRIPTION = ".description"  # ends the name of the file that describes the run, before the random part


def open_event_file(output: Path, step: int, validated: bool) -> SummaryWriter:
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
    return SummaryWriter(output, purge_step=step + 1, filename_suffix=_random_suffix())


def open_description(output: Path) -> SummaryWriter:
    """Open an event file that replaces the one that an earlier start of the run has opened here.

    It is for what each start writes, but TensorBoard expects once: the layout of charts and the hyper-parameters.
    """
    for path in output.glob(f"events.out.tfevents.*{DESCRIPTION}.*"):
        path.unlink()
    return SummaryWriter(output, filename_suffix=DESCRIPTION + _random_suffix())


def _random_suffix() -> str:
    """Keeps the writer, which would follow a link, from opening a file that exists."""
    return f".{os.urandom(8).hex()}"


def _is_kept(event: Event, step: int, validated: bool) -> bool:
    if not event.HasField("summary"):
        return True
    if event.step == step and not validated:
        return not any(value.tag.startswith(VALIDATION) for value in event.summary.value)
    return event.step <= step


def _keep_events(path: Path, is_kept: Callable[[Event], bool]) -> None:
    """Drop all other events, and a damaged end, from an event file."""
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
