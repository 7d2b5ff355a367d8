"""The first directory of a TIFF file (TIFF 6.0, section 2; BigTIFF), and whether its pixels are all there."""

import struct
from collections.abc import Iterator, Sequence
from math import ceil

from data.decoding.orientation import orientation_of, upright_xmp
from data.decoding.structure import Content, Structure, Unreadable

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION = 256, 257, 258, 259, 262, 274
OFFSETS, SAMPLES, ROWS, COUNTS, PLANAR, EXTRA, FORMAT = 273, 277, 278, 279, 284, 338, 339
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS = 322, 323, 324, 325
XMP, IPTC = TEXTS = 700, 33723  # bytes, though some programs declare them as 32-bit integers
COLOUR_MAP, JPEG_TABLES = 320, 347
DEFAULTS = {BITS: (1,), COMPRESSION: (1,), SAMPLES: (1,), PLANAR: (1,), EXTRA: (), FORMAT: (1,), ORIENTATION: (1,)}
NEEDED = {WIDTH, HEIGHT, PHOTOMETRIC, OFFSETS, ROWS, COUNTS, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS, *TEXTS}
NEEDED |= {COLOUR_MAP, JPEG_TABLES}
INTEGERS = {1: "B", 3: "H", 4: "I", 7: "B", 16: "Q"}  # types: BYTE, SHORT, LONG, UNDEFINED, LONG8
BIG_ENDIAN_BIG = b"MM\0+"
MAX_ENTRIES, MAX_PAGES, MAX_SAMPLES = 4096, 100, 8

JPEG, START, END = 7, b"\xff\xd8", b"\xff\xd9"  # compression, and markers
MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
MODES = {MIN_IS_WHITE: "L", MIN_IS_BLACK: "L", RGB: "RGB", PALETTE: "P", CMYK: "CMYK", YCBCR: "RGB"}
DEPTHS = ({1}, {2}, {4}, {8}, {16})
FORMATS = {1: "unsigned", 2: "signed", 3: "floating-point", 4: "unsigned", 5: "complex", 6: "complex"}  # 4: any
ASSOCIATED, UNASSOCIATED = 1, 2  # kinds of alpha among the extra samples


def parse(content: Content) -> Structure:
    """Read the first directory; count the others."""
    order = "<" if content[:2] == b"II" else ">"
    big = content[2:4] in (b"+\0", b"\0+")
    (first,) = struct.unpack(order + "Q", content[8:16]) if big else struct.unpack(order + "I", content[4:8])
    tags, following = _directory(content, first, order, big)
    try:
        width, height, bits = tags[WIDTH][0], tags[HEIGHT][0], max(tags[BITS])
        samples, photometric = tags[SAMPLES][0], tags.get(PHOTOMETRIC, (MIN_IS_BLACK,))[0]
    except (KeyError, IndexError, ValueError):
        raise Unreadable("not a readable image: a TIFF without a size") from None
    if not width or not height or not 1 <= samples <= MAX_SAMPLES:
        raise Unreadable(f"not a readable image: a TIFF of {width}x{height} pixels and {samples} channels")
    kinds = {FORMATS.get(kind, "unknown") for kind in tags[FORMAT]}
    if set(tags[BITS]) not in DEPTHS or kinds != {"unsigned"}:
        found = " and ".join(str(bits) for bits in sorted(set(tags[BITS])))
        raise Unreadable(f"{found} bits per channel, {', '.join(sorted(kinds))}; expected 8 or 16, unsigned")
    structure = Structure("TIFF", width, height, _mode(photometric, tags), bits, parts={"tags": tags})
    structure.truncated = not _all_pixels(len(content), tags, width, height)
    structure.xmp = bytes(tags.get(XMP, ()))
    if ORIENTATION in tags["found"]:
        value = tags[ORIENTATION][0]
        structure.orientation = value if 1 <= value <= 8 else 1
    else:
        structure.orientation = orientation_of(b"", structure.xmp)
    structure.pages = _count_pages(content, following, order, big)
    return structure


def upright(content: bytes, structure: Structure) -> bytes:
    """The file with orientation 1 in its tag and its XMP packet: Pillow would turn the pixels itself."""
    if structure.orientation == 1:
        return content
    turned = content.replace(structure.xmp, upright_xmp(structure.xmp)) if structure.xmp else content
    at, value = structure.parts["tags"].get("upright", (0, b""))
    return turned[:at] + value + turned[at + len(value) :]


def jpeg_streams(content: bytes, structure: Structure) -> Iterator[bytes]:
    """The strips or tiles of a TIFF compressed as JPEG, each as a JPEG file; nothing for other compressions."""
    tags = structure.parts["tags"]
    if tags[COMPRESSION][0] != JPEG:
        return
    tables = bytes(tags.get(JPEG_TABLES, ()))[2:-2]  # without the markers of start and end
    tiled = TILE_OFFSETS in tags
    places = tags[TILE_OFFSETS if tiled else OFFSETS], tags.get(TILE_COUNTS if tiled else COUNTS, ())
    for offset, length in zip(*places, strict=False):
        yield START + tables + content[offset + len(START) : offset + length] + END  # which some programs leave out


def _directory(content: Content, position: int, order: str, big: bool) -> tuple[dict, int]:
    """The tags that matter with their values, and the position of the next directory (0: none)."""
    head, size, entry, inline = ("Q", 8, order + "HHQ", 8) if big else ("H", 2, order + "HHI", 4)
    if position + size > len(content):
        raise Unreadable("the image is truncated or damaged (its TIFF directory is missing)")
    (number,) = struct.unpack(order + head, content[position : position + size])
    length = struct.calcsize(entry) + inline
    if not 1 <= number <= MAX_ENTRIES:
        raise Unreadable(f"not a readable image: a TIFF directory of {number} entries")
    table = content[position + size : position + size + number * length + inline]
    if len(table) < number * length:
        raise Unreadable("the image is truncated or damaged (its TIFF directory is incomplete)")
    tags: dict = dict(DEFAULTS)
    found = set()
    for start in range(0, number * length, length):
        tag, kind, count = struct.unpack_from(entry, table, start)
        if kind not in INTEGERS or not (tag in NEEDED or tag in DEFAULTS) or tag in found:
            continue
        format = f"{order}{count}{INTEGERS[kind]}"
        place, extent = start + length - inline, count * struct.calcsize(INTEGERS[kind])
        if extent > len(content) and tag in TEXTS:
            continue
        if extent > len(content):
            raise Unreadable(f"not a readable image: a TIFF tag of {count} values")
        if extent <= inline:
            values = table[place : place + extent]
        else:
            (at,) = struct.unpack_from(order + ("Q" if big else "I"), table, place)
            values = content[at : at + extent]
        if tag == ORIENTATION and count == 1:
            at = position + size + place
            tags["upright"] = at, struct.pack(format, 1)
        if len(values) == extent and count:
            tags[tag] = values if tag in TEXTS else struct.unpack(format, values)
            found.add(tag)
        elif tag not in TEXTS:
            raise Unreadable("the image is truncated or damaged (its TIFF directory is incomplete)")
    tags["found"] = found
    end = table[number * length :]
    return tags, int.from_bytes(end, "little" if order == "<" else "big") if len(end) == inline else 0


def _mode(photometric: int, tags: dict) -> str:
    mode = MODES.get(photometric, "unknown")
    if mode == "L" and tags[BITS] == (1,):
        return "1"
    if mode in ("L", "RGB") and alpha_sample(tags) is not None:
        return "LA" if mode == "L" else "RGBA"
    return mode


def alpha_sample(tags: dict) -> int | None:
    """Index of the sample that is alpha; None if there is none."""
    kinds = [index for index, kind in enumerate(tags[EXTRA]) if kind in (ASSOCIATED, UNASSOCIATED)]
    return tags[SAMPLES][0] - len(tags[EXTRA]) + kinds[0] if kinds else None


def _all_pixels(size: int, tags: dict, width: int, height: int) -> bool:
    """Whether there are as many strips or tiles as the size needs, all within the file and none too short."""
    samples, separate = tags[SAMPLES][0], tags[PLANAR][0] == 2
    bits = sum(tags[BITS]) if len(tags[BITS]) == samples else samples * tags[BITS][0]
    if TILE_OFFSETS in tags:
        across, down = tags[TILE_WIDTH][0], tags[TILE_HEIGHT][0]
        if not across or not down:
            raise Unreadable("not a readable image: a TIFF with empty tiles")
        offsets, counts = tags[TILE_OFFSETS], tags.get(TILE_COUNTS, ())
        needed, rows = ceil(width / across) * ceil(height / down), [down]
    else:
        offsets, counts = tags.get(OFFSETS, ()), tags.get(COUNTS, ())
        strip = min(tags.get(ROWS, (height,))[0] or height, height)
        across, needed, rows = width, ceil(height / strip), [strip, height - (ceil(height / strip) - 1) * strip]
    planes = samples if separate else 1
    bits = bits // samples if separate else bits
    if not offsets:
        raise Unreadable("not a readable image: a TIFF without pixels")
    if len(offsets) < needed * planes:
        return False
    plain = tags[COMPRESSION][0] == 1 and tags.get(PHOTOMETRIC, (1,))[0] != YCBCR
    lengths: Sequence[int] = counts
    if len(counts) < len(offsets):
        if not plain:
            return max(offsets) < size
        lengths = [ceil(across * bits / 8) * row for row in (rows * len(offsets))[: len(offsets)]]
    for index, (offset, length) in enumerate(zip(offsets[: needed * planes], lengths, strict=False)):
        row = rows[-1] if index % needed == needed - 1 else rows[0]
        least = ceil(across * bits / 8) * row if plain else 1
        if offset + least > size or (offset + length > size and not plain) or length < least:
            return False
    return True


def _count_pages(content: Content, position: int, order: str, big: bool) -> int:
    """Number of directories, at most ``MAX_PAGES``: they may form a circle."""
    pages, seen = 1, set()
    size, format, entry, link = (8, "Q", 20, 8) if big else (2, "H", 12, 4)
    while position and position not in seen and pages < MAX_PAGES:
        seen.add(position)
        head = content[position : position + size]
        if len(head) < size:
            break
        (number,) = struct.unpack(order + format, head)
        end = content[position + size + number * entry : position + size + number * entry + link]
        if len(end) < link:
            break
        pages += 1
        position = int.from_bytes(end, "little" if order == "<" else "big")
    return pages
