"""restore.py as a user runs it, on files of every kind."""

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import tifffile
import torch
from conftest import run_script
from PIL import Image, ImageCms

from inference import Restorer

WIDTH, HEIGHT = 100, 70


PHOTO = cv2.resize(skimage.data.astronaut(), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)


DEEP = PHOTO.astype(np.uint16) * 257 + 13


ALPHA = np.linspace(1, 255, WIDTH).astype(np.uint8)[None].repeat(HEIGHT, 0)


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6"/>'


MAKER, EXPOSURE = 271, 33434


def turned_exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112], exif[MAKER] = 6, "Maker"
    exif.get_ifd(0x8769)[EXPOSURE] = 0.01
    return exif


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its content does not have."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def write_album(root: Path) -> None:
    """Sound images of every kind, some in subfolders."""
    (root / "sub" / "deep").mkdir(parents=True)
    photo = Image.fromarray(PHOTO)
    photo.save(root / "turned.jpg", exif=turned_exif(), icc_profile=PROFILE, dpi=(300, 300), xmp=XMP, quality=100)
    photo.save(root / "turned.tif", exif=turned_exif(), icc_profile=PROFILE, compression="tiff_lzw")
    photo.save(root / "turned.webp", exif=turned_exif(), lossless=True)
    photo.save(root / "plain.png", icc_profile=PROFILE, dpi=(300, 300))
    photo.save(root / "plain.bmp")
    photo.quantize(32).save(root / "palette.png")
    photo.convert("L").save(root / "sub" / "grey.jpg")
    photo.convert("L").save(root / "grey.png")
    photo.convert("1").save(root / "bits.png")
    photo.convert("CMYK").save(root / "sub" / "deep" / "cmyk.jpg")
    for suffix in ("png", "tif", "webp"):
        Image.fromarray(np.dstack([PHOTO, ALPHA])).save(
            root / f"alpha.{suffix}", **({"lossless": True} if suffix == "webp" else {})
        )
    Image.fromarray(np.dstack([PHOTO[..., 1], ALPHA])).save(root / "grey_alpha.png")
    cv2.imwrite(str(root / "deep.png"), DEEP[..., ::-1])
    cv2.imwrite(str(root / "deep_grey.png"), DEEP[..., 1])
    cv2.imwrite(str(root / "deep_alpha.png"), np.dstack([DEEP[..., ::-1], DEEP[..., 1]]))
    options = {"photometric": "rgb", "iccprofile": PROFILE, "description": "by hand", "metadata": None}
    tifffile.imwrite(root / "deep.tif", DEEP, **options)
    tifffile.imwrite(root / "deep_turned.tif", DEEP, photometric="rgb", extratags=[(0x0112, "H", 1, 6, True)])
    tifffile.imwrite(root / "deep_grey.tif", DEEP[..., 1])
    cv2.imwrite(str(root / "pixel.png"), PHOTO[:1, :1])
    cv2.imwrite(str(root / "wide.png"), PHOTO[:2].repeat(300, axis=1))


def write_problems(root: Path, album: Path) -> None:
    for cut, whole in (("cut.jpg", "turned.jpg"), ("cut.png", "plain.png"), ("cut_deep.png", "deep.png")):
        content = (album / whole).read_bytes()
        (root / cut).write_bytes(content[: len(content) // 2])
    (root / "bomb.png").write_bytes(png_of(60_000, 60_000))
    (root / "empty.png").touch()
    for name in ("text.png", "text.mp4"):
        (root / name).write_text("not what it is called")
    (root / "folder.png").mkdir()
    os.mkfifo(root / "pipe.png")
    tifffile.imwrite(root / "float.tif", PHOTO.astype(np.float32), photometric="rgb")


@pytest.fixture(scope="module")
def album(small_weights, tmp_path_factory):
    """Input and output folder of a run over sound and broken images, and the run."""
    root = tmp_path_factory.mktemp("album")
    write_album(root / "in")
    write_problems(root / "in", root / "in")
    result = run_script("restore.py", "--weights", small_weights, "--input", root / "in", "--output", root / "out")
    return root / "in", root / "out", result


def test_one_call_restores_paths_arrays_and_tensors(album, small_weights):
    source, _, _ = album
    model = Restorer(small_weights, "cpu")
    assert not model.model.training
    from_file = model.restore(source / "alpha.png")
    assert (from_file.shape, from_file.dtype) == ((HEIGHT, WIDTH, 4), np.uint8)
    from_array = model.restore(np.dstack([PHOTO, ALPHA]))
    np.testing.assert_array_equal(from_file, from_array)
    floating = model.restore((PHOTO / 255).astype(np.float32))
    assert floating.dtype == np.float32
    assert abs(floating * 255 - from_array[..., :3]).max() <= 0.51
    tensor = torch.from_numpy(PHOTO / 255).permute(2, 0, 1)
    assert torch.equal(model.restore(tensor.float()[None])[0], model.restore(tensor.float()))
    np.testing.assert_allclose(model.restore(tensor.float()).permute(1, 2, 0).numpy(), floating, atol=1e-6)
    grey = model.restore(PHOTO[..., 0])
    assert (grey.shape, grey.dtype) == ((HEIGHT, WIDTH), np.uint8)
    assert model.restore(tensor[:1].half()).shape == (1, HEIGHT, WIDTH)
    for wrong in (PHOTO.astype(np.int32), tensor.int()):
        with pytest.raises(TypeError, match="floating-point values"):
            model.restore(wrong)
    for wrong in (PHOTO[None], PHOTO[..., :2], tensor[:2]):
        with pytest.raises(ValueError, match="expected a"):
            model.restore(wrong)


@pytest.mark.parametrize("tile", [None, 64])
def test_a_network_that_adds_nothing_returns_an_8_bit_image_exactly_in_bf16(small_weights, tile):
    restorer = Restorer(small_weights, precision="bf16")
    for head in restorer.model.heads:
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    np.testing.assert_array_equal(restorer.restore(PHOTO, tile=tile), PHOTO)
