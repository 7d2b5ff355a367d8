"""Reading and writing image files as 8- or 16-bit RGB, converting from greyscale, palette, CMYK and alpha."""

import contextlib
import io
import os
import stat
import warnings
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
from PIL import Image

from data.formats import SIGNATURE_LENGTH, format_of
from utils.errors import InputError
from utils.files import write_atomically

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
# A truncated JPEG or PNG still decodes, with the missing part filled in grey. It is detected by the missing end marker,
# which some cameras follow with padding.
END_MARKERS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND"}
END_MARKER_REACH = 4096
PNG_START = b"\x89PNG\r\n\x1a\n"
MAX_MEGAPIXELS = 500  # decompression-bomb guard: a file of a few kilobytes can declare any size

# Broken files are reported by BrokenImage; silence OpenCV's own messages.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
# OpenCV's thread pool does not survive a fork: a forked loader worker would deadlock on it. Images are decoded in
# parallel by processes, not threads.
cv2.setNumThreads(0)
Image.MAX_IMAGE_PIXELS = None  # Pillow reads headers only; _check_size guards against decompression bombs


class BrokenImage(InputError):
    """An image file that cannot be used: its ``path`` and a one-line description of the ``problem``."""

    def __init__(self, path: str | Path, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


def read_image(path: str | Path) -> np.ndarray:
    """Read an image as RGB (H, W, 3), uint8 or uint16 as stored.

    Greyscale is expanded to three channels, alpha is dropped and the EXIF orientation is applied.

    Raises:
        BrokenImage: the file is missing, not an image, truncated, larger than ``MAX_MEGAPIXELS``, or neither 8 nor
            16 bit.
    """
    try:
        with _open_file(path) as file:
            content = np.fromfile(file, np.uint8)
    except OSError as error:
        raise BrokenImage(path, f"cannot read the image: {error.strerror}") from None
    if not _is_complete(content[:2].tobytes(), content[-END_MARKER_REACH:].tobytes()):
        raise BrokenImage(path, "the image is truncated (end marker missing): download it again, or remove its pair")
    image = None
    if format_of(content[:SIGNATURE_LENGTH].tobytes()) is None:
        raise BrokenImage(path, "not an image, or in an unsupported format: replace it or remove its pair")
    if _is_intact(content):
        _check_size(path, *_declared_size(content))
        with contextlib.suppress(cv2.error):  # e.g. a side that exceeds OpenCV's limit
            image = cv2.imdecode(content, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if image is None:
        raise BrokenImage(path, "not a readable image: replace it or remove its pair")
    if image.dtype not in (np.uint8, np.uint16):
        raise BrokenImage(path, f"{image.dtype} pixels, expected 8 or 16 bit: convert the image, or remove its pair")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


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
        BrokenImage: the file is missing, not an image, truncated or larger than ``MAX_MEGAPIXELS``.
    """
    try:
        with _open_file(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damaged metadata
            format = format_of(file.read(SIGNATURE_LENGTH))
            if format is None:
                raise OSError(None, "not an image, or in an unsupported format")
            with Image.open(file, formats=[format]) as image:
                width, height = image.size
                mode = image.mode
                # For TIFF, Pillow already reports the upright size. For a PNG without EXIF data ahead of its pixels,
                # getexif() would decode the whole image.
                has_exif = "exif" in image.info if image.format == "PNG" else image.format != "TIFF"
                if has_exif and image.getexif().get(0x0112, 1) >= 5:  # orientations 5 to 8 swap height and width
                    width, height = height, width
            start = _read_at(file, 0, 2)
            end = _read_at(file, max(0, os.fstat(file.fileno()).st_size - END_MARKER_REACH), END_MARKER_REACH)
    except OSError as error:
        raise BrokenImage(path, f"not a readable image: {error.strerror or 'unknown format'}") from None
    except Exception as error:  # Pillow raises almost any exception on broken files
        raise BrokenImage(path, f"not a readable image: {type(error).__name__} in its header") from None
    if not _is_complete(start, end):
        raise BrokenImage(path, "the image is truncated (end marker missing): download it again")
    _check_size(path, width, height)
    return Header(height, width, mode)


def _open_file(path: str | Path) -> BinaryIO:
    """Open a regular file; opening a pipe would block forever."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(None, "not a regular file")
    return open(path, "rb")


def _declared_size(content: np.ndarray) -> tuple[int, int]:
    """(width, height) according to the header; (0, 0) if it cannot be parsed."""
    if content[:8].tobytes() == PNG_START:  # fast path for the most common format
        return int.from_bytes(content[16:20].tobytes()), int.from_bytes(content[20:24].tobytes())
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        format = format_of(content[:SIGNATURE_LENGTH].tobytes())
        with Image.open(io.BytesIO(content), formats=[format]) as image:
            return image.size
    return 0, 0


def _check_size(path: str | Path, width: int, height: int) -> None:
    if width * height > MAX_MEGAPIXELS * 1e6:
        raise BrokenImage(path, f"{width}x{height} is more than {MAX_MEGAPIXELS} megapixels (decompression-bomb guard)")


def _is_intact(content: np.ndarray) -> bool:
    """Verify a PNG's chunk checksums; on a mismatch, libpng would print to stderr itself."""
    if content[:8].tobytes() != PNG_START:
        return True
    data, position = memoryview(content), 8
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4])
        end = position + 8 + length
        if zlib.crc32(data[position + 4 : end]) != int.from_bytes(data[end : end + 4]):
            return False
        if data[position + 4 : position + 8] == b"IEND":
            return True
        position = end + 4
    return False


def _read_at(file: BinaryIO, position: int, length: int) -> bytes:
    file.seek(position)
    return file.read(length)


def _is_complete(start: bytes, end: bytes) -> bool:
    return start not in END_MARKERS or END_MARKERS[start] in end
