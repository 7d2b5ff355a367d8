"""Reading and writing image files as 8- or 16-bit RGB, converting from greyscale, palette, CMYK and alpha."""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
from PIL import Image

from data.decoding.pixels import Pixels, decode
from data.decoding.reading import structure_of
from data.decoding.structure import NOT_FILLED, TRUNCATED, Content, FileBytes, Structure, Unreadable
from utils.errors import InputError, printable
from utils.files import write_atomically
from utils.main_memory import free_main_memory

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".avif", ".jp2", ".ppm", ".pgm", ".pbm", ".pnm"}
MAX_MEGAPIXELS = 500  # decompression-bomb guard: a file of a few kilobytes can declare any size
# Bytes per pixel while an image is decoded, for each byte per channel: the decoder's own rows or planes of up to four
# channels, the array made of them, and its upright copy.
DECODING_COST = 12
LITTLE = 2**26  # bytes: memory is only asked for where more is needed

# Broken files are reported by BrokenImage; silence OpenCV's own messages.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
# OpenCV's thread pool does not survive a fork: a forked loader worker would deadlock on it. Images are decoded in
# parallel by processes, not threads.
cv2.setNumThreads(0)
Image.MAX_IMAGE_PIXELS = None  # _check_size guards against decompression bombs


class BrokenImage(InputError):
    """An image file that cannot be used: its ``path`` and a one-line description of the ``problem``."""

    def __init__(self, path: str | Path, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


def read_image(path: str | Path) -> np.ndarray:
    """Read an image as RGB (H, W, 3), uint8 or uint16 as stored.

    Greyscale is expanded to three channels, alpha is dropped and the orientation is applied.

    Raises:
        BrokenImage: as ``decode_file``.
    """
    _, pixels, _ = decode_file(path)
    colour = pixels.colour
    return colour if colour.ndim == 3 else cv2.cvtColor(colour, cv2.COLOR_GRAY2RGB)


def decode_file(
    path: str | Path, max_megapixels: float = MAX_MEGAPIXELS, further_cost: int = 0, accept_truncated: bool = False
) -> tuple[Structure, Pixels, bytes]:
    """Read an image file: its structure, its pixels and its content.

    Args:
        max_megapixels: guard against decompression bombs.
        further_cost: bytes per pixel that the caller needs besides those for decoding.
        accept_truncated: decode what is there of a truncated image, with a note.

    Raises:
        BrokenImage: the file is missing, not an image, truncated, damaged, neither 8 nor 16 bit, or too large.
    """
    with _reported(path), _open_file(path) as file:
        content = file.read()
        structure = _structure(content, accept_truncated)
        _check_size(structure, max_megapixels)
        cost = DECODING_COST * (2 if structure.bits > 8 else 1) + further_cost
        _check_memory(structure, cost)
        return structure, decode(content, structure, accept_truncated), content


def file_structure(
    path: str | Path, max_megapixels: float = MAX_MEGAPIXELS, accept_truncated: bool = False
) -> Structure:
    """Read the structure of an image file without decoding any pixels.

    Raises:
        BrokenImage: the file is missing, not an image, truncated, or larger than ``max_megapixels``.
    """
    with _reported(path), _open_file(path) as file:
        structure = _structure(FileBytes(file), accept_truncated)
        _check_size(structure, max_megapixels)
        if structure.truncated and not accept_truncated:
            raise Unreadable(TRUNCATED)
        return structure


def _structure(content: Content, accept_truncated: bool) -> Structure:
    """The structure of a file; where it is cut off so that it has none, the message tells what can be accepted."""
    try:
        return structure_of(content)
    except Unreadable as error:
        if accept_truncated and "truncated" in str(error):
            raise Unreadable(f"{error} ({NOT_FILLED})") from None
        raise


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write RGB (H, W, 3), uint8 or uint16, atomically; the suffix determines the format. Creates missing folders.

    Raises:
        InputError: OpenCV cannot encode the image in this format.
        OSError: the file cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    ok, content = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not ok:
        raise InputError(f"{path}: cannot write {image.dtype} pixels as {path.suffix}; use .png")
    write_atomically(path, content.tobytes())


class Header(NamedTuple):
    """Height and width in pixels, as returned by ``read_image``, and Pillow's mode: RGB, L (greyscale), P, ..."""

    height: int
    width: int
    mode: str


def image_header(path: str | Path) -> Header:
    """Read the header without decoding any pixels.

    Raises:
        BrokenImage: as ``file_structure``.
    """
    structure = file_structure(path)
    return Header(*structure.upright_size, structure.mode)


@contextlib.contextmanager
def _reported(path: str | Path) -> Iterator[None]:
    """Whatever goes wrong with a file becomes one line about it."""
    try:
        yield
    except Unreadable as error:
        raise BrokenImage(path, str(error)) from None
    except MemoryError:
        raise BrokenImage(path, "not enough memory to decode the image") from None
    except Exception as error:  # decoders raise almost any exception on damaged files
        if isinstance(error, OSError) and error.strerror:
            raise BrokenImage(path, f"cannot read the image: {error.strerror}") from None
        if isinstance(error, cv2.error) and error.code == cv2.Error.StsNoMem:
            raise BrokenImage(path, "not enough memory to decode the image") from None
        if isinstance(error, Image.UnidentifiedImageError):
            raise BrokenImage(path, "not a readable image; the file may be damaged") from None
        reason = printable(str(error))[:120] or type(error).__name__
        raise BrokenImage(path, f"not a readable image; the file may be damaged ({reason})") from None


def _open_file(path: str | Path) -> BinaryIO:
    """Open a regular file; opening a pipe would block forever."""
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise Unreadable("is a folder, not an image")
    if not stat.S_ISREG(status.st_mode):
        raise Unreadable("not a regular file")
    if status.st_size > LITTLE and status.st_size > (free := free_main_memory()):
        raise Unreadable(f"a file of {status.st_size / 2**30:.1f} GiB, but {free / 2**30:.1f} GiB of memory are free")
    return open(path, "rb", buffering=0)  # a buffer would be filled anew after each jump


def _check_size(structure: Structure, max_megapixels: float) -> None:
    if structure.width * structure.height > max_megapixels * 1e6:
        raise Unreadable(
            f"{structure.width}x{structure.height} is more than {max_megapixels:g} megapixels "
            "(decompression-bomb guard; restore.py has --max-megapixels)"
        )


def _check_memory(structure: Structure, cost: int) -> None:
    """Refuse an image that needs more than the free memory; a file of a few kilobytes can declare any size.

    Args:
        cost: bytes per pixel.
    """
    needed = structure.width * structure.height * cost  # the file itself has been read
    if needed > LITTLE and needed > (free := free_main_memory()):
        raise Unreadable(
            f"{structure.width}x{structure.height} pixels need about {needed / 2**30:.1f} GiB of memory, "
            f"but {free / 2**30:.1f} GiB are free"
        )
