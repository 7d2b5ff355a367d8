"""Only known formats reach a decoder, whatever a file is called, and nothing starts another program."""

import io
import os
from pathlib import Path

import pytest
from album import PHOTO
from conftest import assert_refused, run_script
from PIL import Image

from data.decoding.formats import format_of
from data.images import image_header, read_image
from inference.photo_files import photograph_size, read_photograph
from utils.errors import InputError

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 30\n%%EndComments\n{} loop\n%%EOF\n"
REFUSED = {
    "postscript": POSTSCRIPT,
    "dos_eps": b"\xc5\xd0\xd3\xc6" + (32).to_bytes(4, "little") + len(POSTSCRIPT).to_bytes(4, "little") + bytes(20),
    "psd": b"8BPS\0\1" + bytes(6) + b"\0\3\0\0\0\x10\0\0\0\x10\0\x08\0\3" + bytes(1000),
    "fits": b"SIMPLE  =                    T".ljust(80) + b"BITPIX  =                    8".ljust(80) + bytes(2720),
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(500),
    "wmf": b"\xd7\xcd\xc6\x9a\0\0" + bytes(500),
    "emf": b"\1\0\0\0" + bytes(36) + b" EMF" + bytes(500),
    "grib": b"GRIB" + bytes(3) + b"\1" + bytes(500),
    "bufr": b"BUFR" + bytes(500),
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    "pdf": b"%PDF-1.7\n" + bytes(500),
    "radiance": b"#?RADIANCE\n\n-Y 1 +X 1\n" + bytes(500),
    "openexr": b"v/1\1" + bytes(500),
    "float map": b"PF\n4 3\n-1.0\n" + bytes(144),
} | {
    kind: (Image.fromarray(PHOTO).convert(mode).save(content := io.BytesIO(), kind), content.getvalue())[1]
    for kind, mode in {"ICO": "RGB", "TGA": "RGB", "SGI": "RGB", "PCX": "RGB", "DDS": "RGB", "IM": "RGB"}.items()
}
READERS = (image_header, read_image, photograph_size, read_photograph)


@pytest.fixture
def ghostscript(tmp_path, monkeypatch) -> Path:
    """A file that exists once any program that decoders are known to call was started."""
    (tmp_path / "bin").mkdir()
    for name in ("gs", "gswin32c", "convert", "magick"):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    return tmp_path / "started"


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
@pytest.mark.parametrize("kind", REFUSED)
def test_other_formats_are_refused_in_one_line(tmp_path, ghostscript, kind, name):
    path = tmp_path / name
    path.write_bytes(REFUSED[kind])
    for read in READERS:
        with pytest.raises(InputError, match="not an image, or in an unsupported format") as refused:
            read(path)
        assert str(path) in str(refused.value)
    assert not ghostscript.exists()


def test_a_job_goes_on_after_a_program_that_is_named_like_an_image(tmp_path, small_weights, ghostscript):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(POSTSCRIPT)
    Image.fromarray(PHOTO).save(tmp_path / "in" / "b.png")
    arguments = ("--weights", small_weights, "--input", tmp_path / "in", "--output", tmp_path / "out")
    result = run_script("restore.py", *arguments)
    assert_refused(result, tmp_path / "in" / "a.png", "not an image")
    assert (tmp_path / "out" / "b.png").exists()
    assert not ghostscript.exists()


def test_avif_images_of_a_folder_are_restored(tmp_path, small_weights):
    (tmp_path / "in").mkdir()
    Image.fromarray(PHOTO).save(tmp_path / "in" / "a.avif", quality=90)
    arguments = ("--weights", small_weights, "--input", tmp_path / "in", "--output", tmp_path / "out")
    result = run_script("restore.py", *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    with Image.open(tmp_path / "out" / "a.avif") as image:
        assert (image.format, image.size) == ("AVIF", PHOTO.shape[1::-1])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "AVIF", "JPEG2000", "PPM"])
def test_the_formats_that_are_read_are_told_by_their_content(tmp_path, kind):
    content = io.BytesIO()
    Image.fromarray(PHOTO).save(content, kind)
    assert format_of(content.getvalue()[:32]) == kind
    path = tmp_path / "a.png"
    path.write_bytes(content.getvalue())
    assert image_header(path)[:2] == photograph_size(path) == PHOTO.shape[:2]
    assert read_photograph(path).colour.shape == PHOTO.shape
