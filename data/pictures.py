"""Pictures on disk: RGB, 8 or 16 bit, whatever the file holds (grey, alpha, palette, CMYK)."""

import contextlib
import os
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
from PIL import Image

from utils.errors import InputError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
# A JPEG or PNG cut off in the middle still decodes, to a picture with a grey rest: look for its end marker, which
# some cameras follow with padding.
END_MARKERS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND"}
END_MARKER_REACH = 4096

cv2.utils.logging.setLogLevel(
    cv2.utils.logging.LOG_LEVEL_SILENT
)  # what OpenCV has to say about a broken file, InputError says in one line
# OpenCV's thread pool does not survive the fork of a loader's worker, which would wait for it for ever; processes,
# not threads, are what decodes pictures in parallel here.
cv2.setNumThreads(0)
Image.MAX_IMAGE_PIXELS = None  # headers only are read with Pillow


def read_picture(path: str | Path) -> np.ndarray:
    """RGB (H, W, 3), uint8 or uint16 as stored; grey is repeated, alpha dropped, EXIF orientation applied.

    Raises:
        InputError: the file is missing, not a picture, cut off, or holds other values than 8 or 16 bit.
    """
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f"{path}: cannot read the picture: {error.strerror}") from None
    if not _is_complete(content[:2].tobytes(), content[-END_MARKER_REACH:].tobytes()):
        raise InputError(f"{path}: the picture is cut off (its end is missing): fetch it again or remove its pair")
    picture = None
    if content.size and _is_intact(content):
        with contextlib.suppress(cv2.error):  # a size beyond OpenCV's limit, for one
            picture = cv2.imdecode(content, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if picture is None:
        raise InputError(f"{path}: not a readable picture: replace it or remove its pair")
    if picture.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{path}: {picture.dtype} pixels; only 8- and 16-bit pictures are read")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def write_picture(path: str | Path, picture: np.ndarray) -> None:
    """Write RGB (H, W, 3), uint8 or uint16, in the format of the path's suffix; folders are made.

    Raises:
        OSError: the file cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    ok, content = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not ok:
        raise InputError(f"{path}: a picture cannot be written as {path.suffix}")
    path.write_bytes(content.tobytes())


class Header(NamedTuple):
    """Sides in pixels as ``read_picture`` gives them, and the kind of pixels in Pillow's words: RGB, L (grey), P ..."""

    height: int
    width: int
    mode: str


def picture_header(path: str | Path) -> Header:
    """What the file says of itself; no pixel is decoded.

    Raises:
        InputError: the file is missing, not a picture or cut off.
    """
    try:
        with open(path, "rb") as file:
            with Image.open(file) as picture:
                width, height = picture.size
                mode = picture.mode
                # Asked for its EXIF data a PNG without any before its pixels decodes all of them.
                has_exif = picture.format != "PNG" or "exif" in picture.info
                if has_exif and picture.getexif().get(0x0112, 1) >= 5:  # an orientation that swaps the sides
                    width, height = height, width
            start = _read_at(file, 0, 2)
            end = _read_at(file, max(0, os.fstat(file.fileno()).st_size - END_MARKER_REACH), END_MARKER_REACH)
    except OSError as error:
        raise InputError(f"{path}: not a readable picture: {error.strerror or 'unknown format'}") from None
    if not _is_complete(start, end):
        raise InputError(f"{path}: the picture is cut off (its end is missing): fetch it again")
    return Header(height, width, mode)


def _is_intact(content: np.ndarray) -> bool:
    """Whether the checksums of a PNG's chunks are right; libpng would write about a wrong one to stderr itself."""
    if content[:8].tobytes() != b"\x89PNG\r\n\x1a\n":
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
