"""Reading and writing images of every kind, sound and damaged."""

import os
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from album import CHELSEA, SOUND, save_image
from conftest import few
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data.images import image_header, read_image, write_image
from data.transforms import to_tensor
from inference.photo_files import read_photograph
from utils.errors import InputError


def test_every_kind_of_image_is_read_as_rgb(tmp_path):
    grey = cv2.cvtColor(CHELSEA, cv2.COLOR_RGB2GRAY)
    alpha = np.dstack([CHELSEA, np.full(grey.shape, 128, np.uint8)])
    palette = Image.fromarray(CHELSEA).quantize(64)
    palette.save(tmp_path / "palette.png")
    assert np.array_equal(read_image(save_image(tmp_path / "rgb.png", CHELSEA)), CHELSEA)
    assert np.array_equal(read_image(save_image(tmp_path / "alpha.png", alpha)), CHELSEA)
    assert np.array_equal(read_image(save_image(tmp_path / "grey.png", grey)), np.dstack([grey] * 3))
    assert np.array_equal(read_image(tmp_path / "palette.png"), np.asarray(palette.convert("RGB")))
    Image.fromarray(CHELSEA).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    assert read_image(tmp_path / "cmyk.jpg").shape == CHELSEA.shape
    for suffix in ("jpg", "webp", "bmp", "tif"):
        image = read_image(save_image(tmp_path / f"übung mit leerzeichen.{suffix}", CHELSEA, quality=95))
        assert np.abs(image.astype(int) - CHELSEA).mean() < 4


def test_sixteen_bits_survive_reading_writing_and_the_tensor(tmp_path):
    image = np.random.default_rng(0).integers(0, 65536, (20, 30, 3), np.uint16)
    write_image(tmp_path / "deep" / "16.png", image)
    assert np.array_equal(read_image(tmp_path / "deep" / "16.png"), image)
    tensor = to_tensor(image)
    assert tensor.dtype == torch.float32
    assert np.array_equal((tensor * 65535).round().numpy().astype(np.uint16), image.transpose(2, 0, 1))


def test_exif_orientation_counts_for_pixels_and_size(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save_image(tmp_path / "turned.jpg", CHELSEA, exif=exif)
    height, width = CHELSEA.shape[:2]
    assert read_image(path).shape == (width, height, 3)
    assert image_header(path)[:2] == (width, height)


def broken_files(folder):
    png = save_image(folder / "whole.png", CHELSEA).read_bytes()
    jpg = save_image(folder / "whole.jpg", CHELSEA).read_bytes()
    contents = {
        "cut.png": png[: len(png) // 2],
        "cut.jpg": jpg[: len(jpg) // 2],
        "text.png": b"no image",
        "empty.png": b"",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in (*contents, "missing.png")]


def test_broken_images_are_named(tmp_path):
    for path in broken_files(tmp_path):
        for look in (read_image, image_header):
            with pytest.raises(InputError, match=path.name):
                look(path)


BYTES = st.integers(0, 255)


def look(path: Path, whole: bool = False) -> None:
    """Each reader gives an image or an InputError that names the file; of whole files all agree on the size."""
    found = []
    for read in (image_header, read_image, read_photograph):
        try:
            found.append(read(path))
        except InputError as error:
            found.append(error)
    for error in found:
        assert not isinstance(error, InputError) or (str(path) in str(error) and "\n" not in str(error))
    header, image, photograph = (None if isinstance(item, InputError) else item for item in found)
    if image is not None:
        assert image.dtype in (np.uint8, np.uint16)
    if whole:
        assert image.shape == (header.height, header.width, 3)
        assert photograph.colour.shape[:2] == (header.height, header.width)


@pytest.mark.parametrize("name", SOUND)
def test_every_kind_of_image_is_read(tmp_path, name):
    (tmp_path / name).write_bytes(SOUND[name])
    look(tmp_path / name, whole=True)


@settings(few, max_examples=150)
@given(st.sampled_from(sorted(SOUND)), st.floats(0, 1), st.lists(st.tuples(st.floats(0, 1), BYTES), max_size=4))
def test_damaged_images(tmp_path, name, length, changes):
    """Cut off anywhere, and with any bytes changed."""
    content = bytearray(SOUND[name])
    for position, value in changes:
        content[int(position * (len(content) - 1))] = value
    (tmp_path / name).write_bytes(content[: int(length * len(content)) or 1] if length < 0.7 else content)
    look(tmp_path / name)


@few
@given(
    st.binary(max_size=40),
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\0", b"RIFF", b"GIF89a"]),
)
def test_bytes_that_are_no_image(tmp_path, content, start):
    (tmp_path / "a.png").write_bytes(start + content)
    look(tmp_path / "a.png")


def test_names_that_are_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "empty.png").touch()
    for path in [*tmp_path.iterdir(), tmp_path / ("a" * 300 + ".png"), Path("/dev/zero"), Path("/proc/self/mem")]:
        for read in (image_header, read_image, read_photograph):
            with pytest.raises(InputError):
                read(path)


def test_an_image_larger_than_any_memory(tmp_path):
    for name, content in (("bomb.png", SOUND["rgb.png"]), ("bomb.bmp", SOUND["rgb.bmp"])):
        content = bytearray(content)
        if name == "bomb.png":
            content[16:24] = (40_000).to_bytes(4) * 2
            content[29:33] = zlib.crc32(content[12:29]).to_bytes(4)
        else:
            content[18:26] = (40_000).to_bytes(4, "little") * 2
        (tmp_path / name).write_bytes(content)
        for read in (image_header, read_image, read_photograph):
            with pytest.raises(InputError, match="40000x40000 is more than 500 megapixels"):
                read(tmp_path / name)
