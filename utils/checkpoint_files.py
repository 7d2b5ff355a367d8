"""Checkpoint files: written atomically, rotated, and read without executing any code stored in them."""

import os
import pickle
import re
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from utils.errors import InputError
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


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint onto the CPU, accepting only tensors, numbers, text and containers of these.

    Raises:
        InputError: the file is missing or damaged, contains other objects, or has no state dict under "model".
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the protocol of a foreign pickle, which is rejected below
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such weights file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; expected a weights file") from None
    except PermissionError:
        raise InputError(f"{path}: permission denied") from None
    except pickle.UnpicklingError as error:
        if re.search("GLOBAL|reduce|instantiate", str(error)):
            raise InputError(
                f"{path}: not loaded, because it could run code stored in the file; "
                "a checkpoint may contain only tensors, numbers and text"
            ) from None
        raise InputError(f"{path}: not a PyTorch checkpoint, or damaged") from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, AttributeError, IndexError, TypeError):
        raise InputError(f"{path}: not a PyTorch checkpoint, or damaged") from None
    if not isinstance(checkpoint, dict) or not _is_state_dict(checkpoint.get("model")):
        raise InputError(f'{path}: no state dict under "model"; expected a checkpoint of this project or the authors')
    return checkpoint


def _is_state_dict(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(isinstance(item, Tensor) for item in value.values())
