"""Parts of image files that Pillow does not expose: colour chunks of a PNG, the kind of compression of a WebP."""

import struct
from collections.abc import Iterator

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Chunks that say what a PNG's values mean, besides the ICC profile (PNG specification, third edition, section 11.3.2).
PNG_COLOUR_CHUNKS = (b"cICP", b"sRGB", b"gAMA", b"cHRM")


def png_colour_chunks(content: bytes) -> dict[bytes, bytes]:
    """The colour chunks ahead of a PNG's pixels, by type; empty for other files."""
    if not content.startswith(PNG_SIGNATURE):
        return {}
    chunks = {}
    position = len(PNG_SIGNATURE)
    while position + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        if kind == b"IDAT":
            break
        if kind in PNG_COLOUR_CHUNKS:
            chunks[kind] = bytes(content[position + 8 : position + 8 + length])
        position += 12 + length
    return chunks


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
