"""Images on disk: RGB, 8 or 16 bit, whatever the file holds (grey, alpha, palette, CMYK)."""

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

from utils.errors import InputError
from utils.files import write_atomically

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
# A JPEG or PNG cut off in the middle still decodes, to an image with a grey rest: look for its end marker, which
# some cameras follow with padding.
END_MARKERS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND"}
END_MARKER_REACH = 4096
PNG_START = b"\x89PNG\r\n\x1a\n"
MAX_MEGAPIXELS = 500  # a file of a few kilobytes can claim to hold more than any memory does

cv2.utils.logging.setLogLevel(
    cv2.utils.logging.LOG_LEVEL_SILENT
)  # what OpenCV has to say about a broken file, InputError says in one line
# OpenCV's thread pool does not survive the fork of a loader's worker, which would wait for it for ever; processes,
# not threads, are what decodes images in parallel here.
cv2.setNumThreads(0)
Image.MAX_IMAGE_PIXELS = None  # headers only are read with Pillow


class BrokenImage(InputError):
    """An image that cannot be used: its ``path`` and, in one line, the ``problem``."""

    def __init__(self, path: str | Path, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


def read_image(path: str | Path) -> np.ndarray:
    """RGB (H, W, 3), uint8 or uint16 as stored; grey is repeated, alpha dropped, EXIF orientation applied.

    Raises:
        BrokenImage: the file is missing, not an image, cut off, larger than ``MAX_MEGAPIXELS``, or holds other
            values than 8 or 16 bit.
    """
    try:
        with _open_file(path) as file:
            content = np.fromfile(file, np.uint8)
    except OSError as error:
        raise BrokenImage(path, f"cannot read the image: {error.strerror}") from None
    if not _is_complete(content[:2].tobytes(), content[-END_MARKER_REACH:].tobytes()):
        raise BrokenImage(path, "the image is cut off (its end is missing): fetch it again or remove its pair")
    image = None
    if content.size and _is_intact(content):
        _check_size(path, *_claimed_size(content))
        with contextlib.suppress(cv2.error):  # a side beyond OpenCV's limit, for one
            image = cv2.imdecode(content, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if image is None:
        raise BrokenImage(path, "not a readable image: replace it or remove its pair")
    if image.dtype not in (np.uint8, np.uint16):
        raise BrokenImage(path, f"{image.dtype} pixels; only 8- and 16-bit images are read")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write RGB (H, W, 3), uint8 or uint16, in the format of the path's suffix, whole or not at all; folders are made.

    Raises:
        OSError: the file cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    ok, content = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not ok:
        raise InputError(f"{path}: an image cannot be written as {path.suffix}")
    write_atomically(path, content.tobytes())


class Header(NamedTuple):
    """Sides in pixels as ``read_image`` gives them, and the kind of pixels in Pillow's words: RGB, L (grey), P ..."""

    height: int
    width: int
    mode: str


def image_header(path: str | Path) -> Header:
    """What the file says of itself; no pixel is decoded.

    Raises:
        BrokenImage: the file is missing, not an image, cut off or larger than ``MAX_MEGAPIXELS``.
    """
    try:
        with _open_file(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on damaged metadata
            with Image.open(file) as image:
                width, height = image.size
                mode = image.mode
                # Of a TIFF the size is that of the upright image already. Asked for its EXIF data a PNG without any
                # before its pixels decodes all of them.
                has_exif = "exif" in image.info if image.format == "PNG" else image.format != "TIFF"
                if has_exif and image.getexif().get(0x0112, 1) >= 5:  # an orientation that swaps the sides
                    width, height = height, width
            start = _read_at(file, 0, 2)
            end = _read_at(file, max(0, os.fstat(file.fileno()).st_size - END_MARKER_REACH), END_MARKER_REACH)
    except OSError as error:
        raise BrokenImage(path, f"not a readable image: {error.strerror or 'unknown format'}") from None
    except Exception as error:  # Pillow's readers raise nearly anything on a broken file
        raise BrokenImage(path, f"not a readable image: {type(error).__name__} in its header") from None
    if not _is_complete(start, end):
        raise BrokenImage(path, "the image is cut off (its end is missing): fetch it again")
    _check_size(path, width, height)
    return Header(height, width, mode)


def _open_file(path: str | Path) -> BinaryIO:
    """Open a regular file; a pipe would be waited for without end."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(None, "a folder or pipe, not an image")
    return open(path, "rb")


def _claimed_size(content: np.ndarray) -> tuple[int, int]:
    """(width, height) by the header; (0, 0) where it has none that can be read."""
    if content[:8].tobytes() == PNG_START:  # the most common format, and Pillow takes longer
        return int.from_bytes(content[16:20].tobytes()), int.from_bytes(content[20:24].tobytes())
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(content)) as image:
            return image.size
    return 0, 0


def _check_size(path: str | Path, width: int, height: int) -> None:
    if width * height > MAX_MEGAPIXELS * 1e6:
        raise BrokenImage(path, f"{width}x{height} are more than {MAX_MEGAPIXELS} megapixels")


def _is_intact(content: np.ndarray) -> bool:
    """Whether the checksums of a PNG's chunks are right; libpng would write about a wrong one to stderr itself."""
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
