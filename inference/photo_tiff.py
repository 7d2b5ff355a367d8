"""Encode TIFF files, 8 or 16 bits per channel, with tags and EXIF."""

import io
import struct
from typing import Any

import numpy as np
import tifffile
from PIL import Image, TiffImagePlugin

from inference.photo_files import Photograph
from inference.tiff_tags import DESCRIPTIVE_TAGS, EXIF_IFD, GPS_IFD, INTEROPERABILITY, IPTC_TAG, XMP_TAG

# Tags that point at a directory of EXIF data, by tifffile's names.
EXIF_POINTERS = {EXIF_IFD: "ExifTag", GPS_IFD: "GPSTag"}
UNDEFINED = 7  # TIFF data type of bytes without a meaning
IPTC_START = b"\x1c"


def encoded_tiff(photograph: Photograph) -> bytes:
    """The bytes of a TIFF file, compressed without loss.

    Raises:
        TypeError, ValueError, struct.error: a tag has a value that the format cannot store.
    """
    pixels, more = photograph.colour, photograph.more
    if photograph.alpha is not None:  # as RGBA: few programs know greyscale with alpha
        colour = pixels if pixels.ndim == 3 else np.dstack([pixels] * 3)
        pixels = np.dstack([colour, photograph.alpha])
    exif = Image.Exif()
    if photograph.exif:
        exif.load(photograph.exif)
    directories = {pointer: exif.get_ifd(pointer) for pointer in EXIF_POINTERS if pointer in exif}
    described = {tag: exif[tag] for tag in DESCRIPTIVE_TAGS if tag in exif} | more["tags"]
    if photograph.xmp:
        described[XMP_TAG] = photograph.xmp
    tags = [_extra_tag(tag, value) for tag, value in described.items()]
    options: dict[str, Any] = {}
    if "dpi" in more:
        options |= {"resolution": tuple(map(float, more["dpi"])), "resolutionunit": "INCH"}
    if photograph.alpha is not None:
        options["extrasamples"] = ["unassalpha"]
    content = io.BytesIO()
    tifffile.imwrite(
        content,
        pixels,
        byteorder="<",
        photometric="minisblack" if pixels.ndim == 2 else "rgb",
        compression="zlib",
        iccprofile=photograph.icc,
        software=False,
        metadata=None,
        extratags=[*tags, *((EXIF_POINTERS[pointer], "I", 1, 0, True) for pointer in directories)],
        **options,
    )
    return _with_directories(content.getvalue(), directories)


def _extra_tag(tag: int, value: Any) -> tuple:
    if tag == IPTC_TAG:
        return (tag, UNDEFINED, *_counted(_iptc_bytes(value)), True)
    if tag == XMP_TAG:
        return (tag, "B", *_counted(value), True)
    # TIFF 6.0 allows ASCII alone. Pillow reads any bytes as Latin-1, which gives back UTF-8 unchanged as well.
    text = value if isinstance(value, bytes) else value.encode("latin-1")
    return (tag, "s", *_counted(text + b"\0"), True)


def _counted(value: bytes) -> tuple[int, bytes]:
    return len(value), value


def _iptc_bytes(value: Any) -> bytes:
    """IPTC data as bytes: some programs store them as 32-bit integers, whose byte order depends on the file's."""
    if isinstance(value, bytes):
        return value
    numbers = value if isinstance(value, tuple) else (value,)
    packed = [struct.pack(f"{order}{len(numbers)}I", *numbers) for order in "<>"]
    return next((content for content in packed if content.startswith(IPTC_START)), packed[0])


def _with_directories(content: bytes, directories: dict[int, dict[int, Any]]) -> bytes:
    """Append EXIF directories to a TIFF file whose tags point nowhere, and let these point at them."""
    content = bytearray(content)
    (main,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, main)
    entries = range(main + 2, main + 2 + 12 * count, 12)  # tag, type, count, value (TIFF 6.0, section 2)
    places = {struct.unpack_from("<H", content, entry)[0]: entry + 8 for entry in entries}
    for pointer, entries in directories.items():
        directory = TiffImagePlugin.ImageFileDirectory_v2(bytes(content[:8]))
        for tag, value in entries.items():
            if tag != INTEROPERABILITY:
                directory[tag] = value
        content += bytes(len(content) % 2)  # a directory begins on a word boundary
        struct.pack_into("<I", content, places[pointer], len(content))
        content += directory.tobytes(len(content))
    return bytes(content)
