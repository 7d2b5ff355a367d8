"""The structure of WebP, GIF, BMP and netpbm files: their size, where they end, which way up they are."""

import io
import re
import struct
from math import ceil

from PIL import Image

from data.decoding.orientation import orientation_of, without_prefix
from data.decoding.quiet import no_warnings
from data.decoding.structure import TRUNCATED, Content, FileBytes, Structure, Unreadable

MAX_CHUNKS = 100_000
NETPBM_HEADER = re.compile(rb"P([1-6])(?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})")
NETPBM_MAXIMUM = re.compile(rb"(?:\s|#[^\n]*\n)+(\d{1,5})(?:#[^\n]*)?\s")
BMP_RUN_LENGTHS = (1, 2)


def opened(content: Content, format: str) -> Image.Image:
    """The image as Pillow opens it, pixels not yet decoded."""
    if isinstance(content, FileBytes):
        content.file.seek(0)
        return Image.open(content.file, formats=[format])
    return Image.open(io.BytesIO(content), formats=[format])


def of_pillow(content: Content, format: str, pages: int | None = None) -> Structure:
    """What Pillow finds in the header."""
    with no_warnings():
        image = opened(content, format)
        pages = getattr(image, "n_frames", 1) if pages is None else pages
    return Structure(format, *image.size, image.mode, pages=pages, parts={"info": dict(image.info)})


def parse_webp(content: Content) -> Structure:
    """Follow the chunks up to the length that the RIFF header gives (RFC 9649)."""
    end = 8 + int.from_bytes(content[4:8], "little")
    if end > len(content):
        raise Unreadable(TRUNCATED)
    chunks: dict[bytes, bytes] = {}
    position, frames = 12, 0
    for _ in range(MAX_CHUNKS):
        if position + 8 > end:
            break
        kind, size = struct.unpack("<4sI", content[position : position + 8])
        if kind in (b"EXIF", b"XMP ", b"ICCP"):
            chunks.setdefault(kind, content[position + 8 : position + 8 + size])
        elif kind in (b"VP8X", b"VP8 ", b"VP8L"):
            chunks.setdefault(kind, content[position + 8 : position + 18])
        frames += kind == b"ANMF"
        position += 8 + size + size % 2
    structure = _webp_header(chunks)
    structure.pages = max(1, frames)
    structure.parts["info"] = {"icc_profile": chunks.get(b"ICCP")}
    structure.xmp = chunks.get(b"XMP ", b"")
    structure.exif = without_prefix(chunks.get(b"EXIF", b""))
    if chunks.get(b"EXIF") and not structure.exif:
        structure.notes.append("damaged EXIF data are not kept")
    structure.orientation = orientation_of(structure.exif, structure.xmp)
    return structure


def _webp_header(chunks: dict[bytes, bytes]) -> Structure:
    """Size and alpha from the header of the extended format, or from that of the only frame."""
    if head := chunks.get(b"VP8X"):
        size = (int.from_bytes(head[at : at + 3], "little") + 1 for at in (4, 7))
        return Structure("WEBP", *size, "RGBA" if head[0] & 0x10 else "RGB")
    if head := chunks.get(b"VP8L"):
        bits = int.from_bytes(head[1:5], "little")
        return Structure("WEBP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, "RGBA" if bits >> 28 & 1 else "RGB")
    head = chunks.get(b"VP8 ", b"")
    if len(head) < 10:
        raise Unreadable("not a readable image: a WebP without pixels")
    return Structure("WEBP", *(int.from_bytes(head[at : at + 2], "little") & 0x3FFF for at in (6, 8)), "RGB")


def parse_gif(content: Content) -> Structure:
    """Follow the blocks to the trailer (GIF89a specification, appendix B)."""
    position, frames = 13 + _gif_table(content[10:11]), 0
    while (kind := content[position : position + 1]) != b";":
        if kind == b"!":
            position += 2
        elif kind == b",":
            frames += 1
            position += 11 + _gif_table(content[position + 9 : position + 10])
        elif kind == b"":
            raise Unreadable(TRUNCATED)
        else:
            raise Unreadable("not a readable image: damaged GIF blocks")
        while size := content[position : position + 1]:
            position += 1 + size[0]
            if size == b"\0":
                break
    return of_pillow(content, "GIF", frames)


def _gif_table(flags: bytes) -> int:
    """Length in bytes of the colour table that a descriptor's flags announce."""
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0


def parse_bmp(content: Content) -> Structure:
    """Compare the length of the file with what its header announces."""
    start, header = struct.unpack("<II", content[10:18])
    if header == 12:  # OS/2 1.x
        width, height, _, bits = struct.unpack("<HHHH", content[18:26])
        compression = length = 0
    else:
        width, height, _, bits, compression, length = struct.unpack("<iiHHII", content[18:38])
        if header < 40:  # OS/2 2.x may end after the depth
            compression = 0
    if compression not in BMP_RUN_LENGTHS:
        row = ceil(width * bits / 32) * 4
        length = row * (abs(height) - 1) + ceil(width * bits / 8)
    if start + length > len(content):
        return Structure("BMP", width, abs(height), "RGB", truncated=True)
    return of_pillow(content, "BMP")


def parse_netpbm(content: Content) -> Structure:
    """PBM, PGM and PPM (netpbm's manual pages); the length follows for binary ones, and is counted for text."""
    head = content[:4096]
    found = NETPBM_HEADER.match(head)
    if not found:
        raise Unreadable("not a readable image: damaged netpbm header")
    kind, width, height = (int(part) for part in found.groups())
    maximum, start = 1, found.end() + 1
    if kind in (2, 3, 5, 6):
        found = NETPBM_MAXIMUM.match(head, found.end())
        if not found or not 1 <= int(found[1]) <= 65535:
            raise Unreadable("not a readable image: damaged netpbm header")
        maximum, start = int(found[1]), found.end()
    if not width or not height:
        raise Unreadable("not a readable image: an image without pixels")
    samples, bits = 3 if kind in (3, 6) else 1, 16 if maximum > 255 else 8
    row = ceil(width / 8) if kind == 4 else width * samples * bits // 8
    if kind >= 4:
        truncated = start + row * height > len(content)
    else:
        text = re.sub(rb"#[^\n]*", b"", content[start:])
        found = text.count(b"0") + text.count(b"1") if kind == 1 else len(text.split())
        truncated = found < width * height * samples
    mode = "RGB" if samples == 3 else "1" if kind in (1, 4) else "L"
    parts = {"kind": kind, "start": start, "maximum": maximum, "samples": samples}
    return Structure("PPM", width, height, mode, bits, truncated=truncated, parts=parts)
