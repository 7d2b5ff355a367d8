"""Damaged or large metadata are not damaged pixels, and what is turned upright says so afterwards."""

import os
import random
import struct
import threading
import zlib

import numpy as np
import pytest
from conftest import run_script
from image_bytes import chunk, encoded, exif_of, png, segment, tiff, turned, webp_with, with_segments
from zoo import RGB, SMOOTH, ZOO

from data.decoding.orientation import orientation_of
from data.decoding.quiet import captured_messages
from data.images import image_header, read_image
from inference.photo_files import read_photograph

NOISE = random.Random(0).randbytes(300)
WEBP = encoded(RGB, "WEBP", lossless=True)
JPEG = encoded(SMOOTH, "JPEG", quality=98, subsampling=0)
LARGE = b"k\0\0" + zlib.compress(b"0123456789abcdef" * 112_500)  # 1.8 MB
DAMAGED_EXIF = "damaged EXIF data are not kept"


def dropped(kind: str) -> str:
    return f"damaged or too large metadata are not kept (PNG {kind})"


# Content, what it shows, how far that may be off, and the note.
CASES = {
    "large_text.png": (png(RGB, 2, 8, chunk(b"zTXt", LARGE)), RGB, 0, None),
    "large_text_after.png": (png(RGB, 2, 8, after=chunk(b"zTXt", LARGE)), RGB, 0, None),
    "cut_text.png": (png(RGB, 2, 8, chunk(b"zTXt", LARGE[:-20])), RGB, 0, dropped("zTXt")),
    "text.png": (png(RGB, 2, 8, chunk(b"tEXt", b"no keyword")), RGB, 0, dropped("tEXt")),
    "itxt.png": (png(RGB, 2, 8, chunk(b"iTXt", b"k\0\1\0no end")), RGB, 0, dropped("iTXt")),
    "checksum.png": (png(RGB, 2, 8, chunk(b"tEXt", b"k\0v", checksum=1)), RGB, 0, dropped("tEXt")),
    "exif_checksum.png": (png(RGB, 2, 8, chunk(b"eXIf", exif_of(6), checksum=1)), RGB, 0, dropped("eXIf")),
    "exif.png": (png(RGB, 2, 8, chunk(b"eXIf", NOISE)), RGB, 0, DAMAGED_EXIF),
    "empty_exif.png": (png(RGB, 2, 8, chunk(b"eXIf", b"")), RGB, 0, DAMAGED_EXIF),
    "cut_exif.png": (png(RGB, 2, 8, chunk(b"eXIf", exif_of(6)[:11])), RGB, 0, None),
    "profile.png": (png(RGB, 2, 8, chunk(b"iCCP", b"n\0\0" + zlib.compress(NOISE))), RGB, 0, dropped("iCCP")),
    "profile_noise.png": (png(RGB, 2, 8, chunk(b"iCCP", NOISE)), RGB, 0, dropped("iCCP")),
    "gamma.png": (png(RGB, 2, 8, chunk(b"gAMA", b"\0\0")), RGB, 0, dropped("gAMA")),
    "zero_gamma.png": (png(RGB, 2, 8, chunk(b"gAMA", bytes(4))), RGB, 0, dropped("gAMA")),
    "primaries.png": (png(RGB, 2, 8, chunk(b"cHRM", NOISE)), RGB, 0, dropped("cHRM")),
    "xmp.png": (png(RGB, 2, 8, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + NOISE)), RGB, 0, None),
    "unknown.png": (png(RGB, 2, 8, chunk(b"vpAg", NOISE)), RGB, 0, None),
    "exif.jpg": (with_segments(JPEG, segment(0xE1, b"Exif\0\0" + NOISE)), SMOOTH, 8, DAMAGED_EXIF),
    "cut_exif.jpg": (with_segments(JPEG, segment(0xE1, b"Exif\0\0" + exif_of(6)[:11])), SMOOTH, 8, None),
    "profile.jpg": (with_segments(JPEG, segment(0xE2, b"ICC_PROFILE\0\1\1" + NOISE)), SMOOTH, 8, None),
    "photoshop.jpg": (with_segments(JPEG, segment(0xED, b"Photoshop 3.0\x008BIM" + NOISE)), SMOOTH, 8, None),
    "pictures.jpg": (with_segments(JPEG, segment(0xE2, b"MPF\0" + NOISE)), SMOOTH, 8, None),
    "adobe.jpg": (with_segments(JPEG, segment(0xED, NOISE), segment(0xFE, NOISE)), SMOOTH, 8, None),
    "exif.webp": (webp_with(WEBP, NOISE), RGB, 0, DAMAGED_EXIF),
    "xmp.webp": (webp_with(WEBP, xmp=NOISE), RGB, 0, None),
    "xmp.tif": (tiff(RGB, extratags=[(700, "B", len(NOISE), NOISE, True)]), RGB, 0, None),
    "profile.tif": (tiff(RGB, iccprofile=NOISE), RGB, 0, None),
    "exif.tif": (tiff(RGB, extratags=[(34665, "I", 1, 2**31, True)]), RGB, 0, None),
    "iptc.tif": (tiff(RGB, extratags=[(33723, "I", 3, (1, 2, 3), True)]), RGB, 0, None),
    "orientation.tif": (tiff(RGB, extratags=[(274, "H", 1, 77, True)]), RGB, 0, None),
}


@pytest.mark.parametrize("name", CASES)
def test_damaged_metadata_leave_the_pixels_alone(tmp_path, capfd, name):
    content, pixels, tolerance, note = CASES[name]
    path = tmp_path / name
    path.write_bytes(content)
    photograph = read_photograph(path)
    assert np.abs(photograph.colour.astype(int) - pixels).max() <= tolerance
    assert photograph.notes == ((note,) if note else ())
    np.testing.assert_array_equal(read_image(path), photograph.colour)
    assert image_header(path)[:2] == pixels.shape[:2]
    assert capfd.readouterr().err == ""


def test_an_avif_with_damaged_exif_is_read(tmp_path):
    content = encoded(SMOOTH, "AVIF", quality=98, exif=b"II*\0" + NOISE)
    damaged = content.replace(b"II*\0" + NOISE, b"xxxx" + NOISE)
    assert damaged != content
    path = tmp_path / "a.avif"
    path.write_bytes(damaged)
    assert read_photograph(path).notes == (DAMAGED_EXIF,)
    assert np.abs(read_image(path).astype(int) - SMOOTH).max() <= 30


def test_a_wrong_checksum_of_pixels_is_damage(tmp_path):
    whole = png(RGB, 2, 8)
    for kind in (b"IHDR", b"IDAT", b"IEND"):
        content = bytearray(whole)
        at = content.index(kind)
        end = at + 4 + struct.unpack_from(">I", content, at - 4)[0]
        content[end] ^= 1
        path = tmp_path / "a.png"
        path.write_bytes(content)
        for read in (read_image, read_photograph):
            with pytest.raises(Exception, match=f"wrong checksum in its {kind.decode()} chunk"):
                read(path)


def test_texts_profile_and_resolution_of_a_png_are_read(tmp_path):
    profile = encoded(RGB, "PNG", icc_profile=(b"\0" * 36 + b"acsp" + bytes(88)))
    profile = profile[33 : profile.index(b"IDAT") - 4]
    before = chunk(b"tEXt", b"Title\0caf\xe9") + chunk(b"pHYs", struct.pack(">IIB", 11811, 5906, 1)) + profile
    after = chunk(b"zTXt", LARGE) + chunk(b"iTXt", b"Note\0\1\0de\0Notiz\0" + zlib.compress("schön".encode()))
    path = tmp_path / "a.png"
    path.write_bytes(png(RGB, 2, 8, before + chunk(b"gAMA", struct.pack(">I", 45455)), after))
    photograph = read_photograph(path)
    assert photograph.more["text"] == {"Title": "café", "k": "0123456789abcdef" * 112_500, "Note": "schön"}
    assert photograph.more["text"]["Note"].lang == "de"
    assert photograph.more["dpi"] == pytest.approx((300, 150), abs=0.1)
    assert photograph.more["png_colour"] == {b"gAMA": struct.pack(">I", 45455)}
    assert photograph.icc[36:40] == b"acsp"


@pytest.mark.parametrize("name", [name for name in ZOO if "exif6" in name or "xmp6" in name or "fix6" in name])
def test_the_metadata_of_an_upright_image_say_so(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(ZOO[name].content)
    photograph = read_photograph(path)
    exif = photograph.exif.removeprefix(b"Exif\0\0")
    assert orientation_of(exif, photograph.xmp or b"") == 1
    if "xmp" not in name and not name.endswith(".tif"):
        assert b"abc\0" in exif


def test_pixel_sizes_in_exif_follow_the_turn(tmp_path):
    details = struct.pack("<HHHIIHHII", 2, 0xA002, 4, 1, 53, 0xA003, 4, 1, 46)
    exif = b"II*\0" + struct.pack("<IH", 8, 2)
    exif += struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack("<HHII", 0x8769, 4, 1, 38) + bytes(4) + details
    path = tmp_path / "a.jpg"
    stored = np.ascontiguousarray(turned(SMOOTH, 6))
    path.write_bytes(with_segments(encoded(stored, "JPEG"), segment(0xE1, b"Exif\0\0" + exif)))
    photograph = read_photograph(path)
    assert photograph.colour.shape == SMOOTH.shape
    sizes = struct.pack("<HHHIIHHII", 2, 0xA002, 4, 1, 46, 0xA003, 4, 1, 53)
    assert photograph.exif.endswith(sizes)


def test_restoring_names_the_file_of_each_note(small_weights, tmp_path):
    (tmp_path / "in").mkdir()
    for name, (content, _, _, _) in CASES.items():
        (tmp_path / "in" / name).write_bytes(content)
    result = run_script(
        "restore.py", "--weights", small_weights, "--input", tmp_path / "in", "--output", tmp_path / "out"
    )
    assert result.returncode == 0, result.stderr
    lines = result.stderr.splitlines()
    for name, (_, _, _, note) in CASES.items():
        assert (f"note: {tmp_path / 'in' / name}: {note}" in lines) == (note is not None), name
    assert all(line.startswith("note: ") for line in lines)


def test_messages_of_threads_that_decode_at_once_stay_apart(capfd):
    found: dict[int, list[str]] = {}

    def work(number: int) -> None:
        for _ in range(20):
            with captured_messages() as lines:
                os.write(2, f"message {number}\n".encode())
            found.setdefault(number, []).extend(lines)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: [f"message {number}"] * 20 for number in range(4)}
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"
