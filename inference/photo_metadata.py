"""Parts of image files that Pillow does not expose: a WebP's compression, thumbnails in EXIF and XMP."""

import re
import struct
from collections.abc import Iterator

# Tags of a thumbnail's offset and length (EXIF 2.3, section 4.5.5): compressed as JPEG, and uncompressed in one strip.
THUMBNAIL_TAGS = ((0x0201, 0x0202), (0x0111, 0x0117))
XMP_THUMBNAILS = re.compile(rb"<(xmp|xap):Thumbnails>.*?</\1:Thumbnails>\s*", re.DOTALL)


def is_lossless_webp(content: bytes) -> bool:
    """Whether the pixels of a WebP file (of its first frame, in an animation) are stored without loss."""
    return next((kind == b"VP8L" for kind, _ in _webp_images(content)), False)


def _webp_images(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The chunks "VP8 " and "VP8L" of a WebP file, in order, also those within animation frames (RFC 9649)."""
    for kind, data in _riff_chunks(content[12:]):
        if kind == b"ANMF":
            yield from ((kind, part) for kind, part in _riff_chunks(data[16:]) if kind in (b"VP8 ", b"VP8L"))
        elif kind in (b"VP8 ", b"VP8L"):
            yield kind, data


def _riff_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 0
    while position + 8 <= len(content):
        kind, length = struct.unpack_from("<4sI", content, position)
        yield kind, content[position + 8 : position + 8 + length]
        position += 8 + length + length % 2


def without_thumbnail(exif: bytes) -> bytes:
    """An EXIF block, beginning with its TIFF header, without its thumbnail; all other bytes stay where they are.

    Maker notes contain offsets into the block, so nothing may move. The thumbnail's pixels become zeros, and the first
    directory (IFD0) no longer points at the thumbnail's (IFD1). A block that cannot be parsed is returned as it is.
    """
    block = bytearray(exif)
    order = {b"II": "<", b"MM": ">"}.get(exif[:2], "")
    try:
        (first,) = struct.unpack_from(f"{order}I", exif, 4)
        link = _next_directory(exif, first, order)
        (second,) = struct.unpack_from(f"{order}I", exif, link)
        if not order or not second:
            return exif
        (count,) = struct.unpack_from(f"{order}H", exif, second)
        entries = [struct.unpack_from(f"{order}HHII", exif, second + 2 + 12 * index) for index in range(count)]
        values = {tag: value for tag, _, _, value in entries}
        for offset, length in THUMBNAIL_TAGS:
            start = values.get(offset, 0)
            end = min(start + values.get(length, 0), len(block))
            block[start:end] = bytes(max(0, end - start))
        struct.pack_into(f"{order}I", block, link, 0)
    except struct.error:
        return exif
    return bytes(block)


def without_xmp_thumbnails(xmp: bytes) -> bytes:
    """An XMP packet without the property xmp:Thumbnails (XMP specification, part 1, section 8.4)."""
    return XMP_THUMBNAILS.sub(b"", xmp)


def _next_directory(exif: bytes, directory: int, order: str) -> int:
    """Position of the offset of the directory that follows ``directory``."""
    (count,) = struct.unpack_from(f"{order}H", exif, directory)
    return directory + 2 + 12 * count
