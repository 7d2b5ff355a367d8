"""Read the structure of any image file."""

from collections.abc import Callable

from data.decoding import boxes, heif, jpeg, others, png, tiff
from data.decoding.formats import SIGNATURE_LENGTH, format_of
from data.decoding.structure import Content, Structure, Unreadable

PARSERS: dict[str, Callable[[Content], Structure]] = {
    "PNG": png.parse,
    "JPEG": jpeg.parse,
    "TIFF": tiff.parse,
    "WEBP": others.parse_webp,
    "GIF": others.parse_gif,
    "BMP": others.parse_bmp,
    "PPM": others.parse_netpbm,
    "AVIF": boxes.parse_avif,
    "JPEG2000": boxes.parse_jpeg2000,
    "HEIF": heif.parse,
}


def structure_of(content: Content) -> Structure:
    """The structure of a file.

    Raises:
        Unreadable: it is not an image, damaged beyond its size, or of a format that is not read.
    """
    if not len(content):
        raise Unreadable("file is empty")
    format = format_of(content[:SIGNATURE_LENGTH])
    if format is None:
        raise Unreadable("not an image, or in an unsupported format")
    return PARSERS[format](content)
