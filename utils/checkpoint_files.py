"""Checkpoint files: written atomically, with the ones before kept."""

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from utils.files import replacing


def save_checkpoint(path: str | Path, checkpoint: Mapping[str, Any], keep: int = 1) -> None:
    """Save tensors, numbers and text atomically: ``path`` contains either the old checkpoint or the new one.

    The ``keep - 1`` checkpoints before it are kept under the names listed in ``kept_checkpoints``.

    Raises:
        OSError: the file cannot be written; the old checkpoint is unchanged.
    """

    path = Path(path)
    with replacing(path, sync=True) as file:
        try:
            torch.save(dict(checkpoint), file)
        except RuntimeError as error:  # torch reports a full disk as an unexpected position
            raise OSError(None, f"cannot write the checkpoint, is the disk full? ({error})", str(path)) from None
        file.flush()
        os.fsync(file.fileno())  # before an older checkpoint is removed
        if path.exists():
            _rotate(path, keep)


def kept_checkpoints(path: Path) -> list[Path]:
    """The existing checkpoints, newest first: last.pt, last.previous.pt, last.previous2.pt, ..."""
    older = [(int(match[1] or 1), file) for file in path.parent.glob("*") if (match := _match_previous(path, file))]
    return [path] * path.exists() + [file for _, file in sorted(older)]


def _match_previous(path: Path, file: Path) -> re.Match | None:
    return re.fullmatch(rf"{re.escape(path.stem)}\.previous(\d*){re.escape(path.suffix)}", file.name)


def _rotate(path: Path, keep: int) -> None:
    """Rename the older checkpoints by one position and link ``path`` as the newest of them."""
    older = [file for file in kept_checkpoints(path) if file != path]
    staying = max(0, keep - 2)
    for file in older[staying:]:
        file.unlink()
    for number, file in reversed(list(enumerate(older[:staying], 2))):
        os.replace(file, path.with_name(f"{path.stem}.previous{number}{path.suffix}"))
    if keep > 1:
        previous = path.with_name(f"{path.stem}.previous{path.suffix}")
        try:
            os.link(path, previous)
        except OSError:  # file systems without hard links
            with replacing(previous) as copy, open(path, "rb") as source:
                shutil.copyfileobj(source, copy)
