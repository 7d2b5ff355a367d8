"""The chunks of a PNG file (PNG specification, third edition) and their metadata."""

import re
import zlib
from typing import Any, NamedTuple

from PIL.PngImagePlugin import iTXt

from data.decoding.orientation import orientation_of, without_prefix
from data.decoding.structure import Content, Structure, Unreadable

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS = 1_000_000  # an image of 3 GB in chunks of 8 kB, as libpng writes them, has 400,000
MAX_METADATA, MAX_TEXTS = 2**24, 2**26  # bytes of one text or profile after decompression, and of all texts
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6  # colour types (section 11.2.1)
MODES = {GREY: "L", RGB: "RGB", PALETTE: "P", GREY_ALPHA: "LA", RGBA: "RGBA"}
DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGBA: (8, 16)}
PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")  # all that a decoder needs
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
# What the values mean, besides the ICC profile (section 11.3.2): chunks and their lengths.
COLOUR_LENGTHS = {b"cICP": 4, b"sRGB": 1, b"gAMA": 4, b"cHRM": 32}
XMP_KEY, EXIF_KEY = "XML:com.adobe.xmp", "Raw profile type exif"


class Chunk(NamedTuple):
    """Type of a chunk, where its content starts in the file, and the content's length."""

    kind: bytes
    start: int
    length: int


def parse(content: Content) -> Structure:
    """Follow the chunks to IEND; what comes after it is not looked at."""
    header = content[8:33]
    if len(header) < 25 or header[:8] != b"\0\0\0\x0dIHDR":
        raise Unreadable("not a readable image: a PNG without a header")
    width, height = int.from_bytes(header[8:12]), int.from_bytes(header[12:16])
    bits, colour = header[16], header[17]
    if bits not in DEPTHS.get(colour, ()) or not width or not height or header[20] > 1:
        raise Unreadable("not a readable image: a PNG with a damaged header")
    chunks, end = _chunks(content)
    kinds = {chunk.kind for chunk in chunks}
    if chunks and not is_sound(content, chunks[0]):
        raise Unreadable("the image is damaged (wrong checksum in its IHDR chunk)")
    if end and (b"IDAT" not in kinds or (colour == PALETTE and b"PLTE" not in kinds)):
        raise Unreadable("not a readable image: a PNG without pixels or palette")
    structure = Structure("PNG", width, height, "1" if (colour, bits) == (GREY, 1) else MODES[colour], bits)
    structure.truncated = not end
    structure.parts = {"chunks": chunks, "colour": colour}
    if b"acTL" in kinds:
        structure.notes.append("only the still image of an animation is restored")
    _find_orientation(content, structure)
    return structure


def _chunks(content: Content) -> tuple[list[Chunk], bool]:
    """The chunks of a file, and whether the last one is IEND."""
    chunks: list[Chunk] = []
    position, size = len(SIGNATURE), len(content)
    while True:
        head = content[position : position + 8]
        length, kind = int.from_bytes(head[:4]), head[4:]
        if position + 12 + length > size:
            return chunks, False
        if not kind.isalpha() or len(chunks) == MAX_CHUNKS:
            raise Unreadable("not a readable image: damaged PNG chunks")
        chunks.append(Chunk(kind, position + 8, length))
        if kind == b"IEND":
            return chunks, True
        position += 12 + length


def pixels_only(content: bytes, structure: Structure) -> bytes:
    """The file without the chunks that pixels do not need, so that damage in those cannot matter.

    The chunk tRNS is kept for palettes only; see ``transparent_colour``.

    Raises:
        Unreadable: a chunk with pixels has a wrong checksum.
    """
    kept = []
    for chunk in structure.parts["chunks"]:
        if chunk.kind in PIXELS:
            if not is_sound(content, chunk):
                raise Unreadable(f"the image is damaged (wrong checksum in its {chunk.kind.decode()} chunk)")
            if chunk.kind != b"tRNS" or structure.parts["colour"] == PALETTE:
                kept.append(chunk)
        elif chunk.kind[:1].isupper():
            raise Unreadable(f"unknown kind of PNG chunk, {chunk.kind.decode()}")
    if len(kept) == len(structure.parts["chunks"]):
        return content
    view = memoryview(content)
    return b"".join([SIGNATURE, *(view[chunk.start - 8 : chunk.start + chunk.length + 4] for chunk in kept)])


def is_sound(content: Content, chunk: Chunk) -> bool:
    """Whether a chunk's checksum is right."""
    end = chunk.start + chunk.length
    body = memoryview(content)[chunk.start - 4 : end] if isinstance(content, bytes) else content[chunk.start - 4 : end]
    return zlib.crc32(body) == int.from_bytes(content[end : end + 4])


def transparent_colour(content: bytes, structure: Structure) -> tuple[int, ...] | None:
    """The grey value or RGB colour that is transparent (chunk tRNS), as stored; None if there is none."""
    samples = {GREY: 1, RGB: 3}.get(structure.parts["colour"], 0)
    for chunk in structure.parts["chunks"]:
        if chunk.kind == b"tRNS" and samples and chunk.length == 2 * samples:
            body = content[chunk.start : chunk.start + chunk.length]
            return tuple(int.from_bytes(body[at : at + 2]) for at in range(0, len(body), 2))
    return None


def _find_orientation(content: Content, structure: Structure) -> None:
    """Set EXIF, XMP and orientation, from the first chunk of each kind, before or after the pixels."""
    seen = set()
    for chunk in structure.parts["chunks"]:
        if chunk.kind == b"eXIf":
            key = "eXIf"
        elif chunk.kind in TEXTS:
            key = content[chunk.start : chunk.start + min(chunk.length, 64)].partition(b"\0")[0].decode("latin-1")
        else:
            continue
        if key not in ("eXIf", XMP_KEY, EXIF_KEY) or key in seen or not is_sound(content, chunk):
            continue
        seen.add(key)
        body = content[chunk.start : chunk.start + chunk.length]
        if key == "eXIf":
            structure.exif = without_prefix(body)
            if not structure.exif:
                structure.notes.append("damaged EXIF data are not kept")
            continue
        _, text = _text(chunk.kind, body) or ("", "")
        if key == XMP_KEY:
            structure.xmp = text.encode()
        elif not structure.exif:
            structure.exif = without_prefix(_raw_profile(text))
    structure.orientation = orientation_of(structure.exif, structure.xmp)


def metadata(content: bytes, structure: Structure) -> dict[str, Any]:
    """ICC profile, resolution, texts and colour chunks: keys ``icc``, ``dpi``, ``text``, ``png_colour``.

    What is damaged or too large is left out, with a note.
    """
    found: dict[str, Any] = {"text": {}, "png_colour": {}}
    dropped, total = set(), 0
    for chunk in structure.parts["chunks"]:
        kind, body = chunk.kind, content[chunk.start : chunk.start + chunk.length]
        if kind in PIXELS:
            continue
        kept = is_sound(content, chunk)
        if kept and kind in TEXTS:
            text = _text(kind, body) if total <= MAX_TEXTS else None
            total += len(text[1]) if text else MAX_METADATA
            kept = text is not None
            if text is not None:
                found["text"].setdefault(*text)
        elif kept and kind == b"iCCP":
            profile = _inflated(body.partition(b"\0")[2][1:]) if "icc" not in found else None
            found["icc"] = profile
            kept = profile is not None and profile[36:40] == b"acsp"
        elif kept and kind == b"pHYs" and chunk.length == 9 and body[8] == 1:
            dpi = tuple(int.from_bytes(body[at : at + 4]) * 0.0254 for at in (0, 4))
            if all(dpi):
                found["dpi"] = dpi
        elif kept and kind in COLOUR_LENGTHS:
            kept = chunk.length == COLOUR_LENGTHS[kind] and body != bytes(4)
            if kept:
                found["png_colour"].setdefault(kind, body)
        if not kept:
            dropped.add(kind)
            if kind == b"iCCP":
                found["icc"] = None
    if dropped:
        kinds = b", ".join(sorted(dropped)).decode()
        structure.notes.append(f"damaged or too large metadata are not kept (PNG {kinds})")
    return found


def _text(kind: bytes, body: bytes) -> tuple[str, str] | None:
    """Keyword and text of a chunk tEXt, zTXt or iTXt; None if it is damaged or too large.

    The text of an iTXt chunk is an ``iTXt`` of Pillow, a string with its language.
    """
    keyword, separator, rest = body.partition(b"\0")
    if not separator or not keyword:
        return None
    value: bytes | None = rest
    language = translated = b""
    if kind == b"zTXt":
        value = _inflated(rest[1:])
    elif kind == b"iTXt":
        parts = rest[2:].split(b"\0", 2)
        if len(parts) < 3:
            return None
        language, translated, value = parts
        if rest[:1] == b"\1":
            value = _inflated(value)
    if value is None or len(value) > MAX_METADATA:
        return None
    key = keyword.decode("latin-1")
    if kind != b"iTXt":
        return key, value.decode("latin-1")
    return key, iTXt(*(part.decode("utf-8", "replace") for part in (value, language, translated)))


def _inflated(data: bytes) -> bytes | None:
    """Decompressed data; None if they are damaged or larger than ``MAX_METADATA``."""
    inflater = zlib.decompressobj()
    try:
        result = inflater.decompress(data, MAX_METADATA)
    except zlib.error:
        return None
    return result if inflater.eof else None


def _raw_profile(text: str) -> bytes:
    """The bytes of a profile that ImageMagick wrote as text: name, length, then hexadecimal digits."""
    digits = re.sub(r"\s", "", "".join(text.split("\n")[3:]))
    return bytes.fromhex(digits) if re.fullmatch(r"(?:[0-9a-fA-F]{2})*", digits) else b""
