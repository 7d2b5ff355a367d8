"""Reading checkpoint files that may come from anyone: no stored code runs, and no claim in the file costs more than
the file itself.

``torch.load(weights_only=True)`` never runs stored code, but it allocates what a file claims to hold and builds every
kind of tensor that torch knows. The structure of a file (a pickle) is therefore looked through before it is loaded.
"""

import io
import os
import pickletools
import stat
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch

from utils.errors import InputError, shortened

# Bounds of a file's structure, which is everything but the tensors' values. A run with 16 blocks, optimizer state and
# moving average takes 0.3 MiB and 100,000 operations; the deepest network allowed takes 5 MiB and 1.6 million.
MAX_STRUCTURE = 8 * 2**20
MAX_OPERATIONS = 2_000_000
PROTOCOL = 2  # of the pickle, fixed in torch.save
MAX_BYTES = 256  # of a bytes object
MAX_TUPLE = 10_000  # leaves of a tuple, nested ones counted each time: hashing one visits them all

LEGACY_PICKLES = 5  # before torch 1.6, a file began with a magic number, a version, a description, objects and keys
STORAGES = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
ENCODE = "_codecs.encode"  # how protocol 2 writes bytes, those of NumPy scalars for example
NUMPY_SCALARS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
ALLOWED = {
    "collections.OrderedDict",
    "__builtin__.set",
    ENCODE,
    "numpy.dtype",
    *NUMPY_SCALARS,
    "torch.Size",
    "torch.device",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    *(f"torch.{name}Storage" for name in STORAGES),
    *(f"torch.{name}" for name in DTYPES),
}


class _Item(NamedTuple):
    """What is known of a part of a structure: the text, the name of a function, or the two values of a pair."""

    value: str | tuple | None
    leaves: int = 1  # of a tuple, with those of the tuples in it


NOTHING = _Item(None)


def load_checkpoint(path: str | Path) -> Any:
    """Load what was saved with ``torch.save`` onto the CPU: dense tensors, numbers, text and containers of these.

    The structure may still be any: it is for the caller to check.

    Raises:
        InputError: the file is missing or damaged, contains other objects, or unfolds to more than its own size.
    """
    check_regular_file(path)
    try:
        with open(path, "rb") as file:
            for structure in _structures(file):
                _check_structure(structure, path)
        with warnings.catch_warnings(), torch.serialization.safe_globals(_numpy_scalars()):
            warnings.simplefilter("ignore")  # about the protocol of a foreign pickle
            return torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except PermissionError:
        raise InputError(f"{path}: permission denied (chmod u+r makes a file readable)") from None
    except Exception:  # a damaged file fails anywhere in torch, zipfile or pickle
        raise InputError(
            f"{path}: not a PyTorch checkpoint, or damaged (expected a whole .pt, .pth or .pkl file)"
        ) from None


def check_regular_file(path: str | Path) -> None:
    """Refuse what cannot be read to an end, such as a pipe or a device.

    Raises:
        InputError: ``path`` is not an existing regular file.
    """
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a null character in the name
        raise InputError(f"{path}: no such weights file; check the path for a spelling mistake") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    if stat.S_ISDIR(mode):
        raise InputError(f"{path}: is a folder; expected a weights file")
    if not stat.S_ISREG(mode):
        raise InputError(f"{path}: is not a regular file; expected a weights file")


def _structures(file: BinaryIO) -> list[BinaryIO]:
    """The pickles of a file, as streams that each begin with one.

    Raises:
        ValueError, zipfile.BadZipFile: there is none, or the archive claims to hold more than the file.
    """
    if file.read(4) != b"PK\x03\x04":
        file.seek(0)
        return [io.BytesIO(file.read(MAX_STRUCTURE))] * LEGACY_PICKLES  # one stream: they follow each other
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("torch.save does not compress")
        if sum(entry.file_size for entry in entries) > os.fstat(file.fileno()).st_size:
            raise ValueError("the entries overlap")
        (pickle,) = (entry for entry in entries if entry.filename.endswith("data.pkl"))
        if pickle.file_size > MAX_STRUCTURE:
            raise ValueError("the structure is too large")
        if archive.testzip() is not None:  # torch itself ignores the checksums
            raise ValueError("a checksum differs")
        return [io.BytesIO(archive.read(pickle))]


def _check_structure(stream: BinaryIO, path: str | Path) -> None:
    """Follow the operations of a pickle without carrying them out.

    Raises:
        InputError: it needs a function or class that is not in ``ALLOWED``.
        ValueError, IndexError: it is damaged or too large.
    """
    stack: list[_Item | None] = []  # None is a mark
    memo: dict[int, _Item] = {}
    for number, (operation, argument, _) in enumerate(pickletools.genops(stream)):
        if number > MAX_OPERATIONS or operation.proto > PROTOCOL:
            raise ValueError("the structure is too large, or not written by torch.save")
        name, needed, result = operation.name, operation.stack_before, NOTHING
        taken = []
        if pickletools.markobject in needed:
            while (top := stack.pop()) is not None:
                taken.append(top)
            needed = needed[: needed.index(pickletools.markobject)]
        taken += [stack.pop() for _ in needed]
        if name == "GLOBAL":
            result = _Item(argument.replace(" ", "."))
            if result.value not in ALLOWED:
                raise _refusal(path, result.value)
        elif name in ("BINUNICODE", "SHORT_BINSTRING"):
            result = _Item(argument)
        elif name.startswith("TUPLE"):
            pair = tuple(item.value for item in reversed(taken)) if len(taken) == 2 else None
            result = _Item(pair, sum(item.leaves for item in taken))
            if result.leaves > MAX_TUPLE:
                raise ValueError("a tuple is too large")
        elif name in ("BINGET", "LONG_BINGET"):
            result = memo[argument]
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "REDUCE" and taken[1].value == ENCODE and not _is_short_latin1(taken[0].value):
            raise ValueError("more than the bytes of a number")
        stack += [None if after is pickletools.markobject else result for after in operation.stack_after]


def _is_short_latin1(arguments: str | tuple | None) -> bool:
    """Whether ``ENCODE`` gives few bytes at once; codecs such as IDNA take minutes for long texts."""
    if not isinstance(arguments, tuple) or len(arguments) != 2:
        return False
    text, codec = arguments
    return isinstance(text, str) and len(text) <= MAX_BYTES and codec == "latin1"


def _refusal(path: str | Path, name: str) -> InputError:
    if name.startswith("torch."):
        return InputError(
            f"{path}: not loaded, because it contains {shortened(name)}; a checkpoint may contain only dense tensors, "
            "numbers and text"
        )
    return InputError(
        f"{path}: not loaded, because it could run code stored in the file ({shortened(name)}); a checkpoint may "
        "contain only tensors, numbers and text"
    )


def _numpy_scalars() -> list[tuple[Callable, str]]:
    """Stand-ins for NumPy's own functions, which were not made for hostile arguments."""
    return [(_NumpyType, "numpy.dtype"), *((_numpy_scalar, name) for name in NUMPY_SCALARS)]


class _NumpyType:
    """The type of a stored NumPy scalar, such as "f8", and its byte order."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code = code

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]


def _numpy_scalar(dtype: _NumpyType, value: bytes) -> bool | int | float:
    plain = np.dtype(f"{dtype.order}{dtype.code}")
    if plain.kind not in "biuf":
        raise ValueError(f"not a number: {plain}")
    return np.frombuffer(value, plain, count=1).item()
