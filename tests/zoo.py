"""Image files of every format, depth, layout and orientation, with the values that they hold by construction."""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
import tifffile
from PIL import Image

HEIGHT, WIDTH = 53, 46
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
DEEP = RNG.integers(0, 65536, (HEIGHT, WIDTH, 3), np.uint16)
ALPHA, DEEP_ALPHA = RGB[::-1, :, 0].copy(), DEEP[::-1, :, 0].copy()
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
SMOOTH = np.dstack([3 * ROWS + 40, 4 * COLUMNS + 30, 2 * ROWS + 2 * COLUMNS + 20]).astype(np.uint8)
GREY, DEEP_GREY, SMOOTH_GREY = RGB[..., 1].copy(), DEEP[..., 1].copy(), SMOOTH[..., 0].copy()


class Animal(NamedTuple):
    """A file's content, the upright colour and alpha that it holds, and how far a lossy decoder may be off."""

    content: bytes
    colour: np.ndarray
    alpha: np.ndarray | None = None
    tolerance: int = 0


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


def pngs() -> Iterator[tuple[str, Animal]]:
    for adam7 in (False, True):
        end = "_adam7" if adam7 else ""
        for bits in (1, 2, 4):
            samples = GREY >> 8 - bits
            scaled = samples * np.uint8(255 // (2**bits - 1))
            yield f"grey{bits}{end}", Animal(png(samples, 0, bits, adam7=adam7), scaled)
            key = int(samples[0, 0])
            transparent = png(samples, 0, bits, chunk(b"tRNS", struct.pack(">H", key)), adam7=adam7)
            yield f"grey{bits}_key{end}", Animal(transparent, scaled, np.where(samples == key, 0, 255).astype(np.uint8))
            colours = RNG.integers(0, 256, (2**bits, 3), np.uint8)
            table = chunk(b"PLTE", colours.tobytes())
            yield f"palette{bits}{end}", Animal(png(samples, 3, bits, table, adam7=adam7), colours[samples])
        for bits, rgb, grey, alpha in ((8, RGB, GREY, ALPHA), (16, DEEP, DEEP_GREY, DEEP_ALPHA)):
            full = 2**bits - 1
            yield f"grey{bits}{end}", Animal(png(grey, 0, bits, adam7=adam7), grey)
            yield f"rgb{bits}{end}", Animal(png(rgb, 2, bits, adam7=adam7), rgb)
            yield f"grey_alpha{bits}{end}", Animal(png(np.dstack([grey, alpha]), 4, bits, adam7=adam7), grey, alpha)
            yield f"rgba{bits}{end}", Animal(png(np.dstack([rgb, alpha]), 6, bits, adam7=adam7), rgb, alpha)
            key = chunk(b"tRNS", struct.pack(">H", int(grey[5, 5])))
            mask = np.where(grey == grey[5, 5], 0, full).astype(grey.dtype)
            yield f"grey{bits}_key{end}", Animal(png(grey, 0, bits, key, adam7=adam7), grey, mask)
            key = chunk(b"tRNS", struct.pack(">HHH", *map(int, rgb[5, 5])))
            mask = np.where((rgb == rgb[5, 5]).all(-1), 0, full).astype(grey.dtype)
            yield f"rgb{bits}_key{end}", Animal(png(rgb, 2, bits, key, adam7=adam7), rgb, mask)
        colours, opacity = RNG.integers(0, 256, (256, 3), np.uint8), RNG.integers(0, 256, 256, np.uint8)
        table = chunk(b"PLTE", colours.tobytes()) + chunk(b"tRNS", opacity[:100].tobytes())
        alpha = np.where(GREY < 100, opacity[GREY], 255).astype(np.uint8)
        yield f"palette8_alpha{end}", Animal(png(GREY, 3, 8, table, adam7=adam7), colours[GREY], alpha)


def tiffs() -> Iterator[tuple[str, Animal]]:
    for bits, rgb, grey, alpha in ((8, RGB, GREY, ALPHA), (16, DEEP, DEEP_GREY, DEEP_ALPHA)):
        full = grey.dtype.type(2**bits - 1)
        for order in "<>":
            for name, storage in {
                "strip": {},
                "strips": {"rowsperstrip": 7},
                "tiles": {"tile": (16, 32)},
                "zip": {"compression": "zlib", "rowsperstrip": 7},
                "zip_differences": {"compression": "zlib", "predictor": 2, "rowsperstrip": 7},
                "big": {"bigtiff": True},
            }.items():
                storage = storage | {"byteorder": order}
                end = f"{bits}_{name}{order}"
                yield f"grey{end}", Animal(tiff(grey, **storage), grey)
                yield f"white_is_zero{end}", Animal(tiff(full - grey, photometric="miniswhite", **storage), grey)
                yield f"rgb{end}", Animal(tiff(rgb, **storage), rgb)
                planes = np.moveaxis(rgb, -1, 0)
                yield f"planes{end}", Animal(tiff(planes, planarconfig="separate", **storage), rgb)
        rgba = np.dstack([rgb, alpha])
        yield f"rgba{bits}", Animal(tiff(rgba, extrasamples=["unassalpha"]), rgb, alpha)
        yield f"further_channel{bits}", Animal(tiff(rgba, extrasamples=["unspecified"]), rgb)
        planes = np.moveaxis(rgba, -1, 0)
        pair = np.dstack([grey, alpha])
        grey_alpha = tiff(pair, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"])
        yield f"grey_alpha{bits}", Animal(grey_alpha, grey, alpha)
        separate = tiff(planes, planarconfig="separate", extrasamples=["unassalpha"])
        yield f"rgba_planes{bits}", Animal(separate, rgb, alpha)
        half = np.full_like(alpha, full // 3)
        content = tiff(np.dstack([rgb // 3, half]), extrasamples=["assocalpha"])
        yield f"premultiplied{bits}", Animal(content, rgb // 3 * 3, half, tolerance=0 if bits == 16 else 1)
    for name, image in (("rgb", DEEP), ("grey", DEEP_GREY), ("rgba", np.dstack([DEEP, DEEP_ALPHA]))):
        stored = image[..., [2, 1, 0, 3][: image.shape[2]]] if image.ndim == 3 else image
        for predictor in (1, 2):
            options = [cv2.IMWRITE_TIFF_COMPRESSION, 5, cv2.IMWRITE_TIFF_PREDICTOR, predictor]
            content = cv2.imencode(".tif", stored, options)[1].tobytes()
            yield (
                f"{name}16_lzw{predictor}",
                Animal(content, image[..., :3] if image.ndim == 3 else image, DEEP_ALPHA if name == "rgba" else None),
            )
    for compression in ("tiff_lzw", "packbits"):
        yield compression, Animal(encoded(RGB, "TIFF", compression=compression), RGB)
    bilevel = np.where(GREY > 127, 255, 0).astype(np.uint8)
    yield "bilevel", Animal(encoded(bilevel, "TIFF", "1"), bilevel)
    yield "fax", Animal(encoded(bilevel, "TIFF", "1", compression="group4"), bilevel)
    palette = Image.fromarray(RGB).quantize(64)
    content = io.BytesIO()
    palette.save(content, "TIFF")
    yield "palette", Animal(content.getvalue(), np.asarray(palette.convert("RGB")))
    yield "jpeg", Animal(encoded(SMOOTH, "TIFF", compression="jpeg", quality=95), SMOOTH, tolerance=12)


def netpbms() -> Iterator[tuple[str, Animal]]:
    for maximum in (1, 31, 255, 256, 1023, 4095, 65535):
        full, dtype = (65535, np.uint16) if maximum > 255 else (255, np.uint8)
        for kind, image in ((5, DEEP_GREY), (6, DEEP)):
            values = (image.astype(np.int64) % (maximum + 1)).astype(">u2" if maximum > 255 else np.uint8)
            scaled = np.floor(values * (full / maximum) + 0.5).astype(dtype)
            head = f"# by hand\n{WIDTH} {HEIGHT}\n{maximum}\n".encode()
            yield f"binary{kind}_{maximum}", Animal(b"P%d\n" % kind + head + values.tobytes(), scaled)
            text = "\n".join(" ".join(map(str, row)) for row in values.reshape(HEIGHT, -1)).encode()
            yield f"text{kind}_{maximum}", Animal(b"P%d\n" % (kind - 3) + head + b"# more\n" + text + b"\n", scaled)
    black = GREY > 127
    bilevel = np.where(black, 0, 255).astype(np.uint8)
    head = f"{WIDTH} {HEIGHT}\n".encode()
    yield "bits", Animal(b"P4\n" + head + np.packbits(black, axis=1).tobytes(), bilevel)
    yield (
        "bits_text",
        Animal(b"P1\n" + head + "\n".join("".join("01"[int(v)] for v in row) for row in black).encode(), bilevel),
    )


def rest() -> Iterator[tuple[str, Animal]]:
    rgba = np.dstack([RGB, ALPHA])
    yield "rgb.bmp", Animal(encoded(RGB, "BMP"), RGB)
    yield "unused_channel.bmp", Animal(encoded(rgba, "BMP"), RGB)
    yield "grey.bmp", Animal(encoded(GREY, "BMP"), GREY)
    top_down = bytearray(encoded(RGB[::-1], "BMP"))
    top_down[22:26] = struct.pack("<i", -HEIGHT)
    yield "top_down.bmp", Animal(bytes(top_down), RGB)
    yield "grey.gif", Animal(encoded(GREY, "GIF"), GREY)
    yield "lossless.webp", Animal(encoded(RGB, "WEBP", lossless=True), RGB)
    yield "alpha.webp", Animal(encoded(rgba, "WEBP", lossless=True, exact=True), RGB, ALPHA)
    yield "lossy.webp", Animal(encoded(SMOOTH, "WEBP", quality=98), SMOOTH, tolerance=12)
    yield "rgb.avif", Animal(encoded(SMOOTH, "AVIF", quality=98, subsampling="4:4:4"), SMOOTH, tolerance=8)
    alpha = np.dstack([SMOOTH, SMOOTH_GREY])
    yield "alpha.avif", Animal(encoded(alpha, "AVIF", quality=98, subsampling="4:4:4"), SMOOTH, SMOOTH_GREY, 8)
    yield "rgb.jp2", Animal(encoded(RGB, "JPEG2000"), RGB)
    yield "grey.jp2", Animal(encoded(GREY, "JPEG2000"), GREY)
    yield "rgba.jp2", Animal(encoded(rgba, "JPEG2000"), RGB, ALPHA)
    yield "rgb.j2k", Animal(encoded(RGB, "JPEG2000", no_jp2=True), RGB)
    for name, image in (("deep", DEEP[..., ::-1]), ("deep_grey", DEEP_GREY)):
        content = cv2.imencode(".jp2", image, [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])[1].tobytes()
        yield f"{name}.jp2", Animal(content, DEEP if image.ndim == 3 else image)
    for name, options in {
        "": {},
        "progressive_": {"progressive": True},
        "restarts_": {"restart_marker_rows": 1},
    }.items():
        options |= {"quality": 98, "subsampling": 0}
        yield f"{name}rgb.jpg", Animal(encoded(SMOOTH, "JPEG", **options), SMOOTH, tolerance=8)
        yield f"{name}grey.jpg", Animal(encoded(SMOOTH_GREY, "JPEG", **options), SMOOTH_GREY, tolerance=8)
        yield f"{name}cmyk.jpg", Animal(encoded(SMOOTH, "JPEG", "CMYK", **options), SMOOTH, tolerance=12)
    yield "subsampled.jpg", Animal(encoded(SMOOTH, "JPEG", quality=98), SMOOTH, tolerance=30)


def oriented() -> Iterator[tuple[str, Animal]]:
    """Every format that says which way up it is, in every way that it can say it."""
    for orientation in range(1, 9):
        rgb, deep, smooth = (np.ascontiguousarray(turned(image, orientation)) for image in (RGB, DEEP, SMOOTH))
        jpeg = encoded(smooth, "JPEG", quality=98, subsampling=0)
        webp = encoded(rgb, "WEBP", lossless=True)
        xmp = xmp_of(orientation)
        itxt = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
        zipped = chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp))
        jpeg_xmp = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp)
        other = xmp_of(orientation % 8 + 1)  # EXIF counts
        turn = Image.Exif()
        turn[0x0112] = orientation  # which Pillow writes as irot and imir
        avif = encoded(smooth, "AVIF", quality=98, subsampling="4:4:4", exif=turn)
        yield f"irot{orientation}.avif", Animal(avif, SMOOTH, tolerance=8)
        for order in "<>":
            exif = exif_of(orientation, order)
            end = f"{orientation}{order}"
            jpeg_exif = segment(0xE1, b"Exif\0\0" + exif)
            yield f"exif{end}.jpg", Animal(with_segments(jpeg, jpeg_exif), SMOOTH, tolerance=8)
            yield f"before{end}.png", Animal(png(rgb, 2, 8, chunk(b"eXIf", exif)), RGB)
            yield f"after{end}.png", Animal(png(rgb, 2, 8, after=chunk(b"eXIf", exif)), RGB)
            yield f"prefix{end}.webp", Animal(webp_with(webp, b"Exif\0\0" + exif), RGB)
            yield f"plain{end}.webp", Animal(webp_with(webp, exif), RGB)
            tags = {"extratags": [(274, "H", 1, orientation, True)], "byteorder": order}
            yield f"rgb{end}.tif", Animal(tiff(rgb, **tags), RGB)
            yield f"deep{end}.tif", Animal(tiff(deep, **tags), DEEP)
        yield f"deep{orientation}.png", Animal(png(deep, 2, 16, chunk(b"eXIf", exif)), DEEP)
        yield (
            f"both{orientation}.png",
            Animal(png(rgb, 2, 8, chunk(b"eXIf", exif) + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + other)), RGB),
        )
        yield f"xmp{orientation}.png", Animal(png(rgb, 2, 8, itxt), RGB)
        yield f"xmp_after{orientation}.png", Animal(png(rgb, 2, 8, after=zipped), RGB)
        yield f"xmp{orientation}.jpg", Animal(with_segments(jpeg, jpeg_xmp), SMOOTH, tolerance=8)
        yield f"xmp{orientation}.webp", Animal(webp_with(webp, xmp=xmp), RGB)
        packet = {"extratags": [(700, "B", len(xmp), xmp, True)]}
        yield f"xmp{orientation}.tif", Animal(tiff(rgb, **packet), RGB)
        yield f"xmp_deep{orientation}.tif", Animal(tiff(deep, **packet), DEEP)


def zoo() -> dict[str, Animal]:
    """All of them by name."""
    parts = {".png": pngs(), ".tif": tiffs(), ".ppm": netpbms(), "": rest(), " ": oriented()}
    return {f"{name}{suffix.strip()}": animal for suffix, part in parts.items() for name, animal in part}


ZOO = zoo()
