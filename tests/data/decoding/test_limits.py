"""Files that would keep a decoder busy, or take more memory than there is, are refused before they are decoded."""

import os
import resource
import struct
import time
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from image_bytes import chunk, encoded, png, segment, tiff
from zoo import DEEP_GREY, RGB, SMOOTH

from data.images import image_header, read_image
from inference.photo_files import photograph_size, read_photograph
from utils.errors import InputError

SIDE = 22_000
READERS = (image_header, photograph_size, read_image, read_photograph)


def claims() -> dict[str, bytes]:
    """Small files that claim an image of 22,000x22,000 pixels, and are whole as far as their structure goes."""
    gif = bytearray(encoded(RGB[..., 0], "GIF"))
    gif[6:10] = struct.pack("<HH", SIDE, SIDE)
    frame = gif.index(b",", 13 + 768)
    gif[frame + 5 : frame + 9] = struct.pack("<HH", SIDE, SIDE)
    run_lengths = b"\xff\0" * 1000 + b"\0\1"
    bmp = b"BM" + struct.pack("<IHHI", 0, 0, 0, 1078)
    bmp += (
        struct.pack("<IiiHHIIiiII", 40, SIDE, SIDE, 1, 8, 1, len(run_lengths), 0, 0, 256, 0) + bytes(1024) + run_lengths
    )
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(100_000))
    small = png(RGB, 2, 8)[:8] + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    jpeg = bytearray(encoded(SMOOTH, "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", SIDE, SIDE)
    return {"a.gif": bytes(gif), "a.bmp": bmp, "a.png": small, "a.jpg": bytes(jpeg)}


@pytest.mark.parametrize("name", ["a.gif", "a.bmp", "a.png", "a.jpg"])
def test_images_larger_than_the_free_memory_are_refused(tmp_path, monkeypatch, name):
    path = tmp_path / name
    path.write_bytes(claims()[name])
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=3 * 2**30))
    assert image_header(path)[:2] == (SIDE, SIDE)
    for read in (read_image, read_photograph):
        with pytest.raises(InputError, match=r"22000x22000 pixels need about [\d.]+ GiB of memory, but 3.0 GiB are"):
            read(path)


def test_files_larger_than_the_free_memory_are_refused(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(RGB, 2, 8))
    os.truncate(path, 2**40)  # takes no space on disk
    for read in READERS:
        with pytest.raises(InputError, match=r"a file of 1024\.0 GiB, but"):
            read(path)


def test_what_restoring_needs_counts_too(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(np.zeros((2000, 2000), np.uint8), "PNG"))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=100 * 2**20))
    assert read_image(path).shape == (2000, 2000, 3)
    with pytest.raises(InputError, match=r"2000x2000 pixels need about 0\.1 GiB"):
        read_photograph(path)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "BMP", "PPM"])
def test_running_out_of_memory_is_one_line_about_the_file(tmp_path, format):
    """The address space is limited to little more than what the process has."""
    path = tmp_path / "a.png"
    path.write_bytes(encoded(np.zeros((6000, 6000, 3), np.uint8), format))
    image_header(path)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    for read in (read_image, read_photograph):
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**23, limits[1]))
        try:
            with pytest.raises(InputError, match=f"{path}: not enough memory to decode the image"):
                read(path)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limits)


def progressive(scans: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    jpeg = encoded(SMOOTH, "JPEG", progressive=True)
    last = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    return jpeg[:-2] + last * (scans - jpeg.count(b"\xff\xda")) + b"\xff\xd9"


def test_progressive_jpegs_have_a_limited_number_of_scans(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(progressive(5000))
    for read in READERS:
        with pytest.raises(InputError, match="more than 100 JPEG scans"):
            read(path)
    large = bytearray(progressive(60))
    frame = large.index(b"\xff\xc2")
    large[frame + 5 : frame + 9] = struct.pack(">HH", 20_000, 20_000)
    path.write_bytes(large)
    for read in READERS:
        with pytest.raises(InputError, match="60 JPEG scans of 20000x20000 pixels"):
            read(path)
    path.write_bytes(encoded(SMOOTH, "JPEG", progressive=True))
    assert read_image(path).shape == SMOOTH.shape


def test_metadata_that_unfold_to_gigabytes_are_left_out(tmp_path):
    packed = zlib.compress(bytes(2**26))
    bombs = [chunk(b"zTXt", b"k%d\0\0" % number + packed) for number in range(40)]
    bombs += [chunk(b"iCCP", b"name\0\0" + packed)] * 40
    bombs += [chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + packed)] * 40
    path = tmp_path / "a.png"
    path.write_bytes(png(RGB, 2, 8, b"".join(bombs)))
    start = time.monotonic()
    photograph = read_photograph(path)
    assert time.monotonic() - start < 20
    np.testing.assert_array_equal(photograph.colour, RGB)
    assert photograph.notes == ("damaged or too large metadata are not kept (PNG iCCP, iTXt, zTXt)",)
    np.testing.assert_array_equal(read_image(path), RGB)


def test_tiff_directories_with_absurd_counts_are_refused(tmp_path):
    path = tmp_path / "a.tif"
    whole = tiff(RGB, rowsperstrip=7)
    for tag in (258, 273, 279):
        content = bytearray(whole)
        entry = next(at for at in range(len(content)) if content[at : at + 2] == struct.pack("<H", tag) and at > 8)
        content[entry + 4 : entry + 8] = struct.pack("<I", 2**31)
        path.write_bytes(content)
        for read in READERS:
            with pytest.raises(InputError, match=r"values|truncated"):
                read(path)
    circle = bytearray(whole)
    count = struct.unpack_from("<H", circle, 8)[0]
    circle[10 + 12 * count : 14 + 12 * count] = struct.pack("<I", 8)  # the next directory is the first one
    path.write_bytes(circle)
    np.testing.assert_array_equal(read_image(path), RGB)
    assert read_photograph(path).notes == ("only the first of 2 pages is restored",)


def with_bits(bits: int) -> bytes:
    """A TIFF whose tag BitsPerSample says something else than 16."""
    content = bytearray(tiff(DEEP_GREY))
    entry = next(at for at in range(10, len(content), 12) if content[at : at + 2] == struct.pack("<H", 258))
    content[entry + 8] = bits
    return bytes(content)


@pytest.mark.parametrize(
    "content",
    [
        tiff(RGB.astype(np.float32)),
        tiff(RGB.astype(np.float16)),
        tiff(RGB.astype(np.int16)),
        tiff(RGB.astype(np.int8)),
        tiff(RGB.astype(np.uint32)),
        with_bits(12),
        with_bits(10),
        tiff(np.dstack([DEEP_GREY] * 4), photometric="separated"),
        b"\xff\xd8" + segment(0xC1, b"\x0c\0\x10\0\x10\1\1\x11\0") + segment(0xDA, b"\1\1\0\0\x3f\0") + b"\0\xff\xd9",
    ],
    ids=["float32", "float16", "int16", "int8", "uint32", "12 bits", "10 bits", "CMYK 16", "JPEG 12"],
)
def test_other_kinds_of_values_are_refused_and_not_misread(tmp_path, content):
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    for read in (read_image, read_photograph):
        with pytest.raises(InputError, match=r"expected|bits per channel|signed"):
            read(path)
