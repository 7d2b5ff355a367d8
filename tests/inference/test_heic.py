"""HEIC images: restored with pillow-heif, named with what to install without it."""

import sys
from pathlib import Path

import numpy as np
import pytest
from album import ALPHA, EXPOSURE, MAKER, PHOTO, PROFILE, XMP, turned_exif
from conftest import assert_refused, errors_of, run_script
from PIL import Image

from inference.photo_files import read_photograph

START = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(2000)
RAMP = np.linspace(0, 65535, 90).astype(np.uint16)[None, :, None].repeat(70, 0).repeat(3, 2)


def restore(weights: Path, source: Path, output: Path):
    return run_script("restore.py", "--weights", weights, "--input", source, "--output", output)


@pytest.fixture
def no_heif(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)


@pytest.mark.usefixtures("no_heif")
def test_without_the_package_a_line_says_what_to_install(small_weights, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.heic", "b.HIF", "c.jpg"):
        (tmp_path / "in" / name).write_bytes(START)
    Image.fromarray(PHOTO).save(tmp_path / "in" / "d.png")
    result = restore(small_weights, tmp_path / "in", tmp_path / "out")
    assert result.returncode == 2
    assert "1 restored, 0 skipped, 1 failed; not read: 2 images or videos; written" in result.stdout
    lines = result.stderr.splitlines()
    assert len(lines) == 3
    for start, line in zip(("note: {}a.heic", "note: {}b.HIF", "error: {}c.jpg"), lines, strict=True):
        assert line.startswith(start.format(f"{tmp_path}/in/"))
        assert "pip install pillow-heif" in line
        assert "or convert it" in line
    assert_refused(restore(small_weights, tmp_path / "in" / "a.heic", tmp_path / "one"), "pip install pillow-heif")


def heic(path: Path, mode: str, pixels: np.ndarray, **options: object) -> Path:
    import pillow_heif

    image = pillow_heif.from_bytes(mode, pixels.shape[1::-1], np.ascontiguousarray(pixels).tobytes())
    image.save(path, quality=100, chroma=444, **options)
    return path


@pytest.mark.extra
def test_orientation_depth_alpha_and_metadata_of_heic_images_are_kept(identity_weights, tmp_path):
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    turned = {"exif": turned_exif().tobytes(), "xmp": XMP, "icc_profile": PROFILE}
    upright = np.rot90(PHOTO, -1)
    from pillow_heif import register_heif_opener

    register_heif_opener()
    Image.fromarray(PHOTO).save(source / "turned.heic", "HEIF", quality=100, chroma=444, **turned)
    heic(source / "deep.heif", "RGB;16", RAMP)
    heic(source / "alpha.HEIC", "RGBA", np.dstack([PHOTO, ALPHA]))
    heic(source / "grey.heic", "L", PHOTO[..., 1])
    (source / "named.jpg").write_bytes((source / "turned.heic").read_bytes())
    result = restore(identity_weights, source, output)
    assert (result.returncode, result.stderr) == (0, "")
    images = {path.name: read_photograph(path) for path in output.glob("[!.]*")}
    assert images.keys() == {f"{path.name}{'.png' * (path.suffix != '.jpg')}" for path in source.iterdir()}
    for name, colour, tolerance in (
        ("turned.heic.png", upright, 12),
        ("named.jpg", upright, 30),
        ("alpha.HEIC.png", PHOTO, 12),
        ("grey.heic.png", PHOTO[..., 1], 4),
        ("deep.heif.png", RAMP, 300),
    ):
        restored = images[name].colour
        assert (restored.shape, restored.dtype) == (colour.shape, colour.dtype), name
        assert abs(restored.astype(int) - colour).max() <= tolerance, name
    assert abs(images["alpha.HEIC.png"].alpha.astype(int) - ALPHA).max() <= 4
    for name in ("turned.heic.png", "named.jpg"):
        with Image.open(output / name) as image:
            exif = image.getexif()
            assert exif.get(0x0112, 1) == 1
            assert exif[MAKER] == "Maker"
            assert exif.get_ifd(0x8769)[EXPOSURE] == pytest.approx(0.01)
            assert image.info["icc_profile"] == PROFILE
            assert b'Orientation="1"' in image.info["xmp"]


@pytest.mark.extra
def test_a_damaged_heic_is_one_line(small_weights, tmp_path):
    (tmp_path / "in").mkdir()
    content = heic(tmp_path / "whole.heic", "RGB", PHOTO).read_bytes()
    middle = len(content) // 2
    (tmp_path / "in" / "cut.heic").write_bytes(content[:middle])
    (tmp_path / "in" / "spoilt.heic").write_bytes(content[:200] + bytes(400) + content[600:])
    (tmp_path / "in" / "start.heic").write_bytes(START)
    result = restore(small_weights, tmp_path / "in", tmp_path / "out")
    assert result.returncode == 2
    assert len(errors_of(result)) == len(result.stderr.splitlines()) == 3
    assert "truncated" in errors_of(result)[0]
    assert "0 restored, 0 skipped, 3 failed" in result.stdout
