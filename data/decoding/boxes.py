"""The structure of AVIF and JPEG 2000 files, which consist of nested boxes (ISO/IEC 14496-12, 15444-1)."""

from collections.abc import Iterator

from data.decoding.orientation import orientation_of, without_prefix
from data.decoding.others import of_pillow
from data.decoding.structure import TRUNCATED, Content, Structure, Unreadable

MAX_BOXES = 10_000
HIGH_BIT_DEPTH, TWELVE_BITS = 0x40, 0x20  # in the configuration of AV1 (AV1 in ISO media, section 2.3)
TILE_PART, END = b"\xff\x90", b"\xff\xd9"
TAIL = 4096


def parse_avif(content: Content) -> Structure:
    """Orientation is that of the boxes irot and imir, which Pillow puts into EXIF."""
    meta = next((content[start:end] for kind, start, end in list(top_boxes(content)) if kind == b"meta"), b"")
    try:
        structure = of_pillow(content, "AVIF")
    except Exception:  # perhaps only because of EXIF data: once more without them
        hidden = without_exif(content[:])
        structure = of_pillow(hidden, "AVIF")
        structure.notes.append("damaged EXIF data are not kept")
        structure.parts["hidden"] = hidden
    depth = meta.find(b"av1C") + 6
    flags = meta[depth] if 6 <= depth < len(meta) else 0
    structure.bits = (12 if flags & TWELVE_BITS else 10) if flags & HIGH_BIT_DEPTH else 8
    info = structure.parts["info"]
    structure.exif = without_prefix(info.get("exif", b""))
    structure.xmp = info.get("xmp", b"")
    structure.orientation = orientation_of(structure.exif, b"")
    return structure


def without_exif(content: bytes) -> bytes:
    """An AVIF file in which no item is EXIF data."""
    hidden = bytearray(content)
    position = 0
    while (position := content.find(b"infe", position) + 4) > 3:
        if content[position + 8 : position + 12] == b"Exif":  # behind version, flags, number and protection
            hidden[position + 8 : position + 12] = b"none"
    return bytes(hidden)


def parse_jpeg2000(content: Content) -> Structure:
    """Follow the tile-parts to the end of the codestream (ISO/IEC 15444-1, annex A)."""
    start = 0
    if content[:4] != b"\xff\x4f\xff\x51":
        start = next((start for kind, start, _ in list(top_boxes(content)) if kind == b"jp2c"), len(content))
    size = content[start + 4 : start + 44]
    if len(size) < 40:
        raise Unreadable(TRUNCATED)
    components = int.from_bytes(size[36:38])
    depths = content[start + 42 : start + 42 + 3 * components : 1][::3]
    structure = of_pillow(content, "JPEG2000", pages=1)
    structure.bits = max(depth & 0x7F for depth in depths) + 1
    if any(depth & 0x80 for depth in depths):
        raise Unreadable("signed values; only unsigned ones are supported")
    position = start + 2
    while (marker := content[position : position + 2]) != END:
        if marker == TILE_PART:
            length = int.from_bytes(content[position + 6 : position + 10])
            if length == 0:  # up to the end
                if END not in content[max(position, len(content) - TAIL) :]:
                    raise Unreadable(TRUNCATED)
                break
            position += max(length, 12)
        elif marker[:1] == b"\xff":
            position += 2 + int.from_bytes(content[position + 2 : position + 4])
        else:
            raise Unreadable(TRUNCATED)
    return structure


def top_boxes(content: Content) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of each box's content at the top level.

    Raises:
        Unreadable: a box ends beyond the file.
    """
    position, size = 0, len(content)
    for _ in range(MAX_BOXES):
        head = content[position : position + 16]
        if len(head) < 8:
            return
        length, kind, start = int.from_bytes(head[:4]), head[4:8], position + 8
        if length == 1:
            length, start = int.from_bytes(head[8:16]), position + 16
        elif length == 0:  # up to the end
            length = size - position
        if length < start - position:
            return  # what follows is not a box
        if position + length > size:
            if not kind.isalnum() and b" " not in kind:
                return
            raise Unreadable(TRUNCATED)
        yield kind, start, position + length
        position += length
