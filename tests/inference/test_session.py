"""restore.py as a user runs it, on files of every kind."""

import signal
import subprocess
import time

import cv2
import numpy as np
import pytest
import torch
from album import DEEP, EXPOSURE, HEIGHT, MAKER, PHOTO, PROFILE, WIDTH
from conftest import assert_refused, command_of, run_script
from PIL import Image

from inference import Restorer
from inference.photo_files import read_photograph

PROBLEMS = {
    "bomb.png": "more than 500 megapixels",
    "cut.jpg": "truncated",
    "cut.png": "truncated",
    "cut_deep.png": "truncated",
    "empty.png": "file is empty",
    "text.png": "not an image",
    "folder.png": "is a folder",
    "pipe.png": "not a regular file",
    "float.tif": "32 bits per channel",
    "text.mp4": "not a video",
}


def test_every_broken_image_is_named_and_the_rest_goes_on(album):
    source, output, result = album
    assert result.returncode == 2
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == len(PROBLEMS)
    for name, reason in PROBLEMS.items():
        assert any(f"{source / name}: " in line and reason in line for line in errors), (name, errors)
    notes = [line for line in result.stderr.splitlines() if not line.startswith("error: ") and "remaining" not in line]
    assert notes == [f"note: {source / 'sub' / 'deep' / 'cmyk.jpg'}: converted from CMYK to RGB"]
    sound = {path.relative_to(source) for path in source.rglob("*") if path.is_file() and path.name not in PROBLEMS}
    assert {path.relative_to(output) for path in output.rglob("[!.]*.*")} == sound
    assert result.stdout == f"{len(sound)} restored, 0 skipped, {len(PROBLEMS)} failed; written to {output}\n"


MODES = {"palette.png": "RGB", "bits.png": "L", "cmyk.jpg": "RGB"}


def test_format_depth_grey_alpha_and_size_are_kept(album):
    source, output, _ = album
    for path in output.rglob("[!.]*.*"):
        relative = path.relative_to(output)
        with Image.open(source / relative) as before, Image.open(path) as after:
            assert after.format == before.format
            assert after.mode == MODES.get(path.name, before.mode), relative
        before, after = read_photograph(source / relative), read_photograph(path)
        assert after.colour.shape == before.colour.shape, relative
        assert after.colour.dtype == before.colour.dtype, relative
        assert ("deep" in path.name) == (after.colour.dtype == np.uint16)
        assert (after.alpha is None) == (before.alpha is None), relative
        if after.alpha is not None:
            np.testing.assert_array_equal(after.alpha, before.alpha)


def test_images_are_what_the_network_makes_of_the_upright_ones(album, small_weights):
    _, output, _ = album
    model = Restorer(small_weights, "cpu")
    torch.set_num_threads(1)
    upright = np.rot90(PHOTO, -1)
    for name, colour, tolerance in (
        ("plain.png", PHOTO, 1),
        ("plain.bmp", PHOTO, 1),
        ("alpha.webp", PHOTO, 1),
        ("turned.tif", upright, 1),
        ("turned.webp", upright, 1),
        ("grey.png", np.asarray(Image.fromarray(PHOTO).convert("L")), 1),
        ("deep.png", DEEP, 2),
        ("deep_turned.tif", np.rot90(DEEP, -1), 2),
        ("deep_grey.tif", DEEP[..., 1], 2),
    ):
        restored = read_photograph(output / name).colour.astype(int)
        expected = model.restore(np.ascontiguousarray(colour)).astype(int)
        assert abs(restored - expected).max() <= tolerance, name
        assert abs(restored - colour.astype(int)).max() > 4 * tolerance, name  # something was done
    jpeg = read_photograph(output / "turned.jpg").colour.astype(int)
    assert abs(jpeg - model.restore(np.ascontiguousarray(upright))).mean() < 6


def test_profile_exif_resolution_and_texts_are_kept(album):
    _, output, _ = album
    for name in ("turned.jpg", "turned.tif", "plain.png", "deep.tif"):
        with Image.open(output / name) as image:
            assert image.info["icc_profile"] == PROFILE, name
    for name in ("turned.jpg", "turned.tif", "turned.webp"):
        with Image.open(output / name) as image:
            exif = image.getexif()
            assert exif.get(0x0112, 1) == 1, name
            assert exif[MAKER] == "Maker"
            assert name == "turned.tif" or exif.get_ifd(0x8769)[EXPOSURE] == pytest.approx(0.01)
    with Image.open(output / "turned.jpg") as image:
        assert b'Orientation="1"' in image.info["xmp"]
        assert image.info["dpi"] == (300, 300)
    with Image.open(output / "plain.png") as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    with Image.open(output / "deep.tif") as image:
        assert image.tag_v2[270] == "by hand"


def test_what_is_there_is_skipped_and_patterns_compare(album, small_weights, tmp_path):
    source, _, _ = album
    arguments = ("--weights", small_weights, "--input", f"{source}/**/gr*.*", source / "deep.tif", "--output", tmp_path)
    first = run_script("restore.py", *arguments, "--compare", "--tile", "64", "--self-ensemble")
    assert first.returncode == 0, first.stderr
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("[!.]*.*")}
    names = ["grey.png", "grey_alpha.png", "sub/grey.jpg", "deep.tif"]
    assert written == {*names, *(f"{name}.compare.png" for name in names)}
    compared = read_photograph(tmp_path / "deep.tif.compare.png").colour
    restored = read_photograph(tmp_path / "deep.tif").colour
    np.testing.assert_array_equal(compared, np.concatenate([DEEP, restored], axis=1))
    expected = Restorer(small_weights, "cpu").restore(DEEP, self_ensemble=True)
    assert abs(restored.astype(int) - expected).max() <= 2
    (tmp_path / "grey.png").write_text("mine")
    second = run_script("restore.py", *arguments, "--self-ensemble")
    assert second.returncode == 0
    assert second.stdout.startswith("0 restored, 4 skipped, 0 failed")
    assert (tmp_path / "grey.png").read_text() == "mine"
    third = run_script("restore.py", *arguments, "--overwrite")
    assert third.stdout.startswith("4 restored, 0 skipped")
    assert read_photograph(tmp_path / "grey.png").colour.shape == (HEIGHT, WIDTH)


def test_a_stopped_job_leaves_whole_files_and_goes_on(small_weights, tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(16):
        cv2.imwrite(str(tmp_path / "in" / f"{number:02}.png"), np.roll(PHOTO, number, 0).repeat(4, 0).repeat(4, 1))
    arguments = ("--weights", small_weights, "--input", tmp_path / "in", "--output", tmp_path / "out")
    with subprocess.Popen(
        **command_of("restore.py", *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        deadline = time.monotonic() + 120
        while not list((tmp_path / "out").glob("*.png")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 75, stderr
    assert "run the same command again" in stdout
    done = list((tmp_path / "out").glob("[!.]*"))
    assert 0 < len(done) < 16
    assert all(read_photograph(path).colour.shape == (4 * HEIGHT, 4 * WIDTH, 3) for path in done)
    second = run_script("restore.py", *arguments)
    assert second.returncode == 0
    assert second.stdout.startswith(f"{16 - len(done)} restored, {len(done)} skipped, 0 failed")


def test_wrong_use_is_refused_in_one_line(small_weights, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "other").mkdir()
    for folder in ("in", "other"):
        cv2.imwrite(str(tmp_path / folder / "a.png"), PHOTO)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").symlink_to(tmp_path / "other")
    (tmp_path / "in" / "sub").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "sub" / "b.png"), PHOTO)

    def refused(*mentions, weights=small_weights, output="results", inputs):
        arguments = ("--weights", weights, "--input", *inputs, "--output", tmp_path / output)
        assert_refused(run_script("restore.py", *arguments), *mentions)

    refused("would overwrite the inputs", output="in", inputs=[tmp_path / "in"])
    refused("leads out of the output folder", output="out", inputs=[tmp_path / "in"])
    refused("both would be written to", inputs=[tmp_path / "in" / "a.png", tmp_path / "other" / "a.png"])
    refused("no such weights file", weights=tmp_path / "gone.pt", inputs=[tmp_path / "in"])
    assert {path.name for path in tmp_path.iterdir()} == {"in", "other", "out"}
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    "names",
    [
        ("a.png", "A.png"),
        ("sub/1.png", "Sub/1.PNG"),
        ("\u00e9.png", "e\u0301.png"),
        ("a.png.compare.png", "A.PNG"),
    ],
)
def test_results_that_some_disks_would_take_for_one_file_are_refused(small_weights, tmp_path, names):
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "in" / name), PHOTO)
    folders = ("--input", tmp_path / "in", "--output", tmp_path / "out")
    result = run_script("restore.py", "--weights", small_weights, *folders, "--compare")
    assert_refused(result, *names, "rename")
    assert not (tmp_path / "out").exists()
