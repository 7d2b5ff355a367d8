"""Which way up an image is, by its EXIF block or its XMP packet, and how it is turned."""

import re
import struct
from collections.abc import Iterator

import numpy as np

ORIENTATION, DETAILS, PIXEL_SIZE = 0x0112, 0x8769, (0xA002, 0xA003)
BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
SHORT, LONG = 3, 4
XMP_ORIENTATION = re.compile(rb"(tiff:Orientation\s*(?:=\s*[\"']|>)\s*)([1-8])(?=\s*[\"'<])")
EXIF_PREFIX = b"Exif\0\0"


def without_prefix(exif: bytes) -> bytes:
    """An EXIF block from its TIFF header on; empty if it has none."""
    exif = exif.removeprefix(EXIF_PREFIX)
    return exif if exif[:4] in BYTE_ORDERS else b""


def orientation_of(exif: bytes, xmp: bytes) -> int:
    """Orientation, 1 to 8: that of EXIF if it has one, else that of XMP, else 1.

    Args:
        exif: block starting with its TIFF header, may be damaged or empty.
        xmp: packet, may be damaged or empty.
    """
    for tag, position, format in entries(exif):
        if tag == ORIENTATION:
            (value,) = struct.unpack_from(format, exif, position)
            return value if 1 <= value <= 8 else 1
    found = XMP_ORIENTATION.search(xmp)
    return int(found[2]) if found else 1


def upright_exif(exif: bytes, orientation: int) -> bytes:
    """The EXIF block after ``orientation`` has been applied to the pixels; all other bytes keep their places."""
    block = bytearray(exif)
    details = None
    for tag, position, format in entries(exif):
        if tag == ORIENTATION:
            struct.pack_into(format, block, position, 1)
        elif tag == DETAILS:
            (details,) = struct.unpack_from(format, exif, position)
    if details and orientation >= 5:
        sizes = [(position, format) for tag, position, format in entries(exif, details) if tag in PIXEL_SIZE]
        if len(sizes) == 2 and sizes[0][1] == sizes[1][1]:
            values = [struct.unpack_from(format, exif, position)[0] for position, format in sizes]
            for (position, format), value in zip(sizes, reversed(values), strict=True):
                struct.pack_into(format, block, position, value)
    return bytes(block)


def upright_xmp(xmp: bytes) -> bytes:
    """The XMP packet with every orientation set to 1."""
    return XMP_ORIENTATION.sub(rb"\g<1>1", xmp)


def entries(exif: bytes, directory: int | None = None) -> Iterator[tuple[int, int, str]]:
    """The single integers of a directory (TIFF 6.0, section 2): tag, position of the value, its struct format.

    Entries that lie outside of the block are left out.

    Args:
        exif: block starting with its TIFF header.
        directory: position of the directory; that of the first one by default.
    """
    order = BYTE_ORDERS.get(exif[:4])
    if order is None or len(exif) < 8:
        return
    if directory is None:
        (directory,) = struct.unpack_from(order + "I", exif, 4)
    if directory + 2 > len(exif):
        return
    (count,) = struct.unpack_from(order + "H", exif, directory)
    for start in range(directory + 2, min(directory + 2 + 12 * count, len(exif) - 11), 12):
        tag, kind, number = struct.unpack_from(order + "HHI", exif, start)
        if number == 1 and kind in (SHORT, LONG):
            yield tag, start + 8, order + ("H" if kind == SHORT else "I")


def upright(pixels: np.ndarray | None, orientation: int) -> np.ndarray | None:
    """Apply an orientation, 1 to 8 (EXIF 2.3, tag 0x0112), to (H, W) or (H, W, C)."""
    if pixels is None or orientation == 1:
        return pixels
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
