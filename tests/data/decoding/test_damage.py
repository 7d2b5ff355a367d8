"""Damaged files end in pixels or in one line, cut-off ones always in one line, and decoders print nothing."""

import random
import struct
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import errors_of, run_script
from image_bytes import chunk, encoded, exif_of, png, segment, tiff, with_segments
from zoo import DEEP, RGB, SMOOTH, ZOO

from data.decoding.reading import structure_of
from data.images import image_header, read_image
from inference.photo_files import photograph_size, read_photograph
from utils.errors import InputError

READERS = (image_header, photograph_size, read_image, read_photograph)
SECONDS = 20  # nothing here takes a tenth of a second; a decoder that was led astray takes minutes
BY_SUFFIX = {
    suffix: [name for name in ZOO if name.endswith(suffix)]
    for suffix in (".png", ".jpg", ".tif", ".webp", ".bmp", ".gif", ".avif", ".jp2", ".j2k", ".ppm")
}


def outcome(read, path: Path):
    """What a reader returns, or None if it refuses the file in one line."""
    start = time.monotonic()
    try:
        return read(path)
    except InputError as error:
        message = str(error)
        assert message.startswith(f"{path}: ")
        assert message.isprintable()
        assert "object at 0x" not in message
        return None
    finally:
        assert time.monotonic() - start < SECONDS


def refused(path: Path, reason: str = r".", readers=READERS) -> None:
    for read in readers:
        with pytest.raises(InputError, match=reason) as error:
            read(path)
        assert str(path) in str(error.value)


def mutant(content: bytes, rng: random.Random) -> bytes:
    """The file after a random accident: bits turned, bytes changed, lost, inserted or exchanged."""
    damaged = bytearray(content)
    place = rng.randrange(len(damaged))
    match rng.randrange(6):
        case 0:
            damaged[place] ^= 1 << rng.randrange(8)
        case 1:
            for _ in range(20):
                damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        case 2:
            for _ in range(4):
                damaged[rng.randrange(min(len(damaged), 150))] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        case 3:
            damaged[place:place] = rng.randbytes(rng.choice((1, 4, 100)))
        case 4:
            del damaged[place : place + rng.choice((1, 4, 100))]
        case 5:
            other = rng.randrange(len(damaged))
            damaged[place : place + 8], damaged[other : other + 8] = (
                damaged[other : other + 8],
                damaged[place : place + 8],
            )
    return bytes(damaged)


@pytest.mark.parametrize("suffix", BY_SUFFIX)
def test_damaged_files_end_in_pixels_or_in_one_line(tmp_path, capfd, suffix):
    rng = random.Random(suffix)
    path = tmp_path / f"a{suffix}"
    for _ in range(60):
        path.write_bytes(mutant(ZOO[rng.choice(BY_SUFFIX[suffix])].content, rng))
        header, size, image, photograph = (outcome(read, path) for read in READERS)
        assert (image is None) == (photograph is None)
        if image is not None:
            assert header[:2] == size == image.shape[:2] == photograph.colour.shape[:2]
            colour = photograph.colour if photograph.colour.ndim == 3 else np.dstack([photograph.colour] * 3)
            np.testing.assert_array_equal(image, colour)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("suffix", BY_SUFFIX)
def test_cut_off_files_are_found_by_headers_and_readers(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    for name in BY_SUFFIX[suffix][:: max(1, len(BY_SUFFIX[suffix]) // 8)]:
        content = ZOO[name].content
        for place in range(1, 49):
            path.write_bytes(content[: len(content) * place // 49])
            refused(path, readers=READERS if place % 6 == 0 else READERS[:1])


def test_what_follows_the_end_of_an_image_does_not_matter(tmp_path):
    movie = b"\0\0\0\x18ftypmp42" + random.Random(0).randbytes(20_000)
    for name in ("rgb.jpg", "progressive_rgb.jpg", "exif6<.jpg", "rgb8.png", "lossless.webp", "grey.gif", "rgb.bmp"):
        for tail in (bytes(5000), movie, ZOO["rgb.jpg"].content, b"\xff"):
            path = tmp_path / name
            path.write_bytes(ZOO[name].content + tail)
            assert np.abs(read_photograph(path).colour.astype(int) - ZOO[name].colour).max() <= ZOO[name].tolerance
            assert image_header(path)[:2] == ZOO[name].colour.shape[:2]


def test_an_end_marker_elsewhere_is_not_the_end_of_a_jpeg(tmp_path, capfd):
    thumbnail = encoded(SMOOTH[:8, :8], "JPEG")
    for options in ({}, {"progressive": True}):
        jpeg = encoded(SMOOTH, "JPEG", quality=98, **options)
        with_thumbnail = with_segments(jpeg, segment(0xE1, b"Exif\0\0" + exif_of(1) + thumbnail))
        path = tmp_path / "a.jpg"
        for share in (0.4, 0.6, 0.9):
            path.write_bytes(with_thumbnail[: int(len(thumbnail) + share * len(jpeg))])
            refused(path, "truncated")
            # The pixels end too early, which only decoding shows.
            path.write_bytes(jpeg[: int(share * len(jpeg))] + b"\xff\xd9")
            refused(path, "damaged|truncated", (read_image, read_photograph))
    assert capfd.readouterr().err == ""


def test_truncated_images_are_restored_on_request(tmp_path, small_weights):
    names = {"rgb8.png": 0, "palette4.png": 0, "rgb.jpg": 8, "progressive_rgb.jpg": 255, "exif6<.jpg": 8, "rgb.bmp": 0}
    others = ("lossless.webp", "grey.gif", "rgb.avif", "rgb.jp2", "tiff_lzw.tif", "rgb16.png", "binary6_65535.ppm")
    whole = {name: ZOO[name].content for name in others} | {"a.tif": tiff(RGB), "deep.tif": tiff(DEEP)}
    (tmp_path / "in").mkdir()
    contents = {name: ZOO[name].content for name in names} | whole
    for name, content in contents.items():
        (tmp_path / "in" / name).write_bytes(content[: len(content) * 3 // 4])
    jpeg = ZOO["rgb.jpg"].content
    (tmp_path / "in" / "marked.jpg").write_bytes(jpeg[: len(jpeg) * 3 // 4] + b"\xff\xd9")
    options = ["--weights", small_weights, "--input", tmp_path / "in", "--output", tmp_path / "out"]
    result = run_script("restore.py", *options)
    assert len(errors_of(result)) == len(result.stderr.splitlines()) == len(contents) + 1
    result = run_script("restore.py", *options, "--accept-truncated")
    assert {name for name in whole if any(f"/{name}: " in line for line in errors_of(result))} == set(whole)
    assert len(errors_of(result)) == len(whole)
    assert all("truncated" in line and "--accept-truncated is for" in line for line in errors_of(result))
    filled = "the image is truncated; the missing part is filled"
    for name in (*names, "marked.jpg"):
        assert f"note: {tmp_path / 'in' / name}: {filled}" in result.stderr
        assert (tmp_path / "out" / name).exists()
    for name, tolerance in names.items():
        if "exif" in name or name == "rgb.bmp":  # stored in another order
            continue
        top = read_photograph(tmp_path / "in" / name, accept_truncated=True).colour[:20].astype(int)
        assert np.abs(top - ZOO[name].colour[:20]).max() <= tolerance
    refused(tmp_path / "in" / "rgb8.png", "truncated")  # the option of one file is not that of the next


def test_pixels_that_end_too_early_within_sound_files_are_refused(tmp_path, capfd):
    whole = png(RGB, 2, 8)
    half = zlib.compress(zlib.decompress(b"".join(parts_of(whole)))[:3000])
    short = whole[:33] + chunk(b"IDAT", half) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(short)
    refused(tmp_path / "a.png", "damaged", (read_image, read_photograph))
    for compression in (None, "zlib"):
        content = bytearray(tiff(RGB, compression=compression, rowsperstrip=7))
        for tag in (b"\x17\x01", b"\x11\x01"):  # one strip less than the image has rows for
            entry = content.index(tag + b"\4\0") if tag + b"\4\0" in content else content.index(tag + b"\3\0")
            content[entry + 4 : entry + 8] = struct.pack("<I", struct.unpack_from("<I", content, entry + 4)[0] - 1)
        (tmp_path / "a.tif").write_bytes(content)
        refused(tmp_path / "a.tif", "truncated")
    assert capfd.readouterr().err == ""


def test_pngs_that_lack_what_they_need_are_refused(tmp_path):
    palette = ZOO["palette4.png"].content
    header = palette[:33]
    for content in (
        header + chunk(b"IEND", b""),  # no pixels
        palette.replace(palette[33 : palette.index(b"IDAT") - 4], b""),  # no palette
        header[:25] + b"\1" + palette[26:],  # colour type 1
        header[:24] + b"\0" + palette[25:],  # no bits
        header[:29] + b"abcd" + palette[33:],  # wrong checksum
    ):
        (tmp_path / "a.png").write_bytes(content)
        refused(tmp_path / "a.png")
    for name in ("grey8.png", "rgb16.png", "rgba8.png"):  # a transparent colour of the wrong length
        whole = ZOO[name].content
        (tmp_path / "a.png").write_bytes(whole[:33] + chunk(b"tRNS", b"\1") + whole[33:])
        np.testing.assert_array_equal(read_photograph(tmp_path / "a.png").colour, ZOO[name].colour)


def parts_of(content: bytes) -> list[bytes]:
    """The contents of a PNG's IDAT chunks."""
    found, position = [], 8
    while position < len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        if kind == b"IDAT":
            found.append(content[position + 8 : position + 8 + length])
        position += 12 + length
    return found


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("damage", ["zeros", "another end", "noise"])
def test_a_tiff_whose_jpeg_strips_are_incomplete_is_refused(tmp_path, mode, damage):
    """libtiff fills them with grey, and says nothing."""
    whole = encoded(cv2.resize(SMOOTH, (300, 400)), "TIFF", mode, compression="jpeg")
    path = tmp_path / "a.tif"
    path.write_bytes(whole)
    expected = read_image(path)
    tags = structure_of(whole).parts["tags"]
    start = tags[273][-1]  # of the last strip
    end = start + tags[279][-1] - 2
    middle = (start + end) // 2
    damaged = {
        "zeros": whole[:middle] + bytes(end - middle) + whole[end:],
        "another end": whole[:middle] + b"\xff\xd9" + whole[middle + 2 :],
        "noise": whole[:middle] + random.Random(0).randbytes(end - middle) + whole[end:],
    }[damage]
    path.write_bytes(damaged)
    refused(path, "the image is damaged", (read_image, read_photograph))
    assert "is filled" in read_photograph(path, accept_truncated=True).notes[0]
    path.write_bytes(whole[:end] + b"\0\0" + whole[end + 2 :])  # some programs leave out the end
    assert (read_image(path) == expected).all()
