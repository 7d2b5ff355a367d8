"""Image files of every format, depth, layout and orientation, with the values that they hold by construction."""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from image_bytes import (
    bmp,
    chunk,
    encoded,
    exif_of,
    packed,
    png,
    segment,
    tiff,
    turned,
    webp_with,
    with_segments,
    xmp_of,
)
from PIL import Image

HEIGHT, WIDTH = 53, 46
SIZE = WIDTH, HEIGHT
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


def bmps() -> Iterator[tuple[str, Animal]]:
    shades = RNG.integers(0, 256, (256, 4), np.uint8)
    for bits in (1, 4, 8):
        samples = GREY >> 8 - bits
        table = shades[: 2**bits]
        pixels = packed(samples, bits) if bits < 8 else None
        rows = np.frombuffer(pixels, np.uint8).reshape(HEIGHT, -1)[:, 1:] if pixels else samples
        yield f"palette{bits}", Animal(bmp(SIZE, bits, rows.copy(), table.tobytes()), table[samples][..., 2::-1])
    runs = b"".join(b"".join(bytes([1, value]) for value in row) + b"\0\0" for row in GREY[::-1]) + b"\0\1"
    content = bmp(SIZE, 8, GREY, shades.tobytes(), run_lengths=runs)
    yield "run_lengths", Animal(content, shades[GREY][..., 2::-1])
    red, green, blue = (RGB[..., channel].astype("<u2") >> 3 for channel in range(3))
    five = np.floor(np.dstack([red, green, blue]) * (255 / 31)).astype(np.uint8)
    yield "555", Animal(bmp(SIZE, 16, red << 10 | green << 5 | blue), five, tolerance=1)
    masks = struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    yield "565", Animal(bmp(SIZE, 16, red << 11 | green << 6 | blue, masks=masks), five, tolerance=5)
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    yield "alpha", Animal(bmp(SIZE, 32, np.dstack([RGB[..., ::-1], ALPHA]), masks=masks), RGB, ALPHA)
    head = struct.pack("<IHHIIHHHH", 0, 0, 0, 26, 12, WIDTH, HEIGHT, 1, 24)
    yield "os2", Animal(b"BM" + head + bmp(SIZE, 24, RGB[..., ::-1])[54:], RGB)


def animations() -> Iterator[tuple[str, Animal]]:
    for format, first, options in (
        ("PNG", RGB, {}),
        ("WEBP", RGB, {"lossless": True}),
        ("AVIF", SMOOTH, {"quality": 98, "subsampling": "4:4:4"}),
        ("MPO", SMOOTH, {"quality": 98, "subsampling": 0}),
        ("TIFF", RGB, {}),
    ):
        more = [Image.fromarray(first[::-1].copy())]
        content = encoded(first, format, save_all=True, append_images=more, **options)
        alpha = np.full_like(GREY, 255) if format == "WEBP" else None  # Pillow says that it could be transparent
        yield format, Animal(content, first, alpha, tolerance=8 if first is SMOOTH else 0)


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
    yield "tiles.jp2", Animal(encoded(RGB, "JPEG2000", tile_size=(16, 16)), RGB)
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
    filled = encoded(SMOOTH, "JPEG", quality=98, subsampling=0).replace(b"\xff\xdb", b"\xff\xff\xff\xdb")
    yield "filled.jpg", Animal(filled, SMOOTH, tolerance=8)
    yield "stored_as_rgb.jpg", Animal(encoded(SMOOTH, "JPEG", quality=98, keep_rgb=True), SMOOTH, tolerance=8)
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
    parts = {
        ".png": pngs(),
        ".tif": tiffs(),
        ".ppm": netpbms(),
        ".bmp": bmps(),
        ".animation": animations(),
        "": rest(),
        " ": oriented(),
    }
    return {f"{name}{suffix.strip()}": animal for suffix, part in parts.items() for name, animal in part}


ZOO = zoo()
