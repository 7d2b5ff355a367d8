"""Image files byte by byte, for what no library writes."""

import io
import struct
import zlib

import numpy as np
import tifffile
from PIL import Image


def turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """How an upright image is stored so that ``orientation`` (EXIF 2.3, tag 0x0112) makes it upright."""
    if orientation in (6, 8):
        return np.rot90(image, 1 if orientation == 6 else -1)
    if orientation in (5, 7):
        image = image.swapaxes(0, 1)
        return image if orientation == 5 else image[::-1, ::-1]
    return {1: image, 2: image[:, ::-1], 3: image[::-1, ::-1], 4: image[::-1]}[orientation]


def encoded(image: np.ndarray, format: str, mode: str | None = None, **options) -> bytes:
    """What Pillow writes."""
    content = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(image))
    (picture.convert(mode) if mode else picture).save(content, format, **options)
    return content.getvalue()


def chunk(kind: bytes, body: bytes, checksum: int = 0) -> bytes:
    """A PNG chunk; ``checksum`` makes its checksum wrong."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) ^ checksum)


def packed(rows: np.ndarray, bits: int) -> bytes:
    """Rows of samples (H, N) as PNG stores them, each preceded by filter type 0."""
    if bits == 16:
        rows = rows.astype(">u2").view(np.uint8)
    elif bits < 8:
        shifts = np.arange(bits - 1, -1, -1)
        rows = np.packbits((rows[..., None] >> shifts & 1).reshape(len(rows), -1).astype(np.uint8), axis=1)
    return b"".join(b"\0" + row.tobytes() for row in np.asarray(rows, rows.dtype))


ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def png(
    image: np.ndarray, colour: int, bits: int, before: bytes = b"", after: bytes = b"", adam7: bool = False
) -> bytes:
    """A PNG of samples (H, W) or (H, W, C), with chunks before and after its pixels."""
    height, width = image.shape[:2]
    image = image.reshape(height, width, -1)
    passes = [image[y::dy, x::dx] for y, x, dy, dx in ADAM7] if adam7 else [image]
    data = b"".join(packed(part.reshape(len(part), -1), bits) for part in passes if part.size)
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, adam7)
    compressed = zlib.compress(data)
    pixels = b"".join(chunk(b"IDAT", compressed[at : at + 500]) for at in range(0, len(compressed), 500))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + pixels + after + chunk(b"IEND", b"")


def exif_of(orientation: int, order: str = "<") -> bytes:
    """An EXIF block with an orientation and the name of a maker, without prefix."""
    entries = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0) + struct.pack(
        order + "HHI4s", 271, 2, 4, b"abc\0"
    )
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, 2) + entries + bytes(4)


def xmp_of(orientation: int) -> bytes:
    return b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="%d"/></x:xmpmeta>' % orientation


def segment(code: int, body: bytes) -> bytes:
    """A JPEG segment."""
    return bytes([0xFF, code]) + struct.pack(">H", len(body) + 2) + body


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    """A JPEG with segments after its start marker."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def webp_with(content: bytes, exif: bytes = b"", xmp: bytes = b"") -> bytes:
    """A WebP in the extended format, with the chunks given."""
    with Image.open(io.BytesIO(content)) as image:
        size = (image.width - 1).to_bytes(3, "little") + (image.height - 1).to_bytes(3, "little")
        flags = 8 * bool(exif) | 4 * bool(xmp) | 16 * (image.mode == "RGBA")
    chunks = [(b"VP8X", bytes([flags, 0, 0, 0]) + size)]
    body = b"".join(riff(*part) for part in chunks) + content[12:]
    body += b"".join(riff(kind, data) for kind, data in ((b"EXIF", exif), (b"XMP ", xmp)) if data)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def riff(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def tiff(image: np.ndarray, **options) -> bytes:
    """What tifffile writes."""
    content = io.BytesIO()
    options = {"metadata": None, "photometric": "rgb" if image.ndim == 3 else "minisblack"} | options
    tifffile.imwrite(
        content, image, **{key: options.pop(key) for key in ("byteorder", "bigtiff") if key in options}, **options
    )
    return content.getvalue()


def bmp(
    size: tuple[int, int],
    bits: int,
    rows: np.ndarray,
    colours: bytes = b"",
    masks: bytes = b"",
    run_lengths: bytes = b"",
) -> bytes:
    """A BMP of (width, height) pixels and packed rows (H, bytes), top row first, padded here to multiples of four."""
    data = run_lengths or b"".join(row.tobytes() + bytes(-row.nbytes % 4) for row in rows[::-1])
    compression = 1 if run_lengths else 3 if masks else 0
    header = 108 if len(masks) == 16 else 40
    counts = len(data), 0, 0, len(colours) // 4, 0
    info = struct.pack("<IiiHHIIiiII", header, *size, 1, bits, compression, *counts)
    info += masks.ljust(header - 40, b"\0") + colours
    return b"BM" + struct.pack("<IHHI", 14 + len(info) + len(data), 0, 0, 14 + len(info)) + info + data
