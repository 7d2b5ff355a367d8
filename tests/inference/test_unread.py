"""Files that restore.py does not read: images and videos are named with what to do, all are counted."""

from pathlib import Path

import pytest
from album import PHOTO
from conftest import assert_refused, run_script
from PIL import Image

from data.images import read_image
from inference.photo_files import read_photograph

ADVICE = {
    "1.cr2": "develop it to .tif or .png",
    "2.NEF": "develop it to .tif or .png",
    "3.dng": "develop it to .tif or .png",
    "a.psd": "export it as .tif or .png",
    "b.eps": "export it as .png",
    "c.svg": "export it as .png",
    "d.pdf": "export it as .png",
    "e.jxl": "djxl",
    "f.exr": "16 bits",
    "g.hdr": "16 bits",
    "h.jfif": "rename it to .jpg",
    "i.j2k": "rename it to .jp2",
    "j.tga": "convert it to .png",
    "sub/k.wmv": "convert it to .mp4",
}
OTHERS = ["a.txt", "1.xmp", "list.json", "song.mp3", "name", ".hidden", "Thumbs.db", "sub/.DS_Store"]


def restore(weights: Path, source: Path | str, output: Path, *options: str):
    return run_script("restore.py", "--weights", weights, "--input", source, "--output", output, *options)


def write_folder(root: Path) -> None:
    (root / "sub" / ".cache").mkdir(parents=True)
    for name in [*ADVICE, *OTHERS, "sub/.cache/x.png"]:
        (root / name).write_bytes(b"not looked at")
    for name in ("a.png", "sub/b.jpg"):
        Image.fromarray(PHOTO).save(root / name)


def test_files_that_are_not_read_are_named_and_counted(small_weights, tmp_path):
    write_folder(tmp_path / "in")
    output = tmp_path / "in" / "restored"
    result = restore(small_weights, tmp_path / "in", output)
    assert result.returncode == 0, result.stderr
    lines = result.stderr.splitlines()
    assert len(lines) == len(ADVICE)
    for name, advice in ADVICE.items():
        (line,) = (line for line in lines if line.startswith(f"note: {tmp_path / 'in' / name}: not read: "))
        assert advice in line
    counts = "not read: 14 images or videos, 9 other files"
    assert result.stdout == f"2 restored, 0 skipped, 0 failed; {counts}; written to {output}\n"
    again = restore(small_weights, tmp_path / "in", output)
    assert (again.stdout, again.stderr) == (result.stdout.replace("2 restored, 0", "0 restored, 2"), result.stderr)


def test_a_pattern_counts_what_it_matches(small_weights, tmp_path):
    write_folder(tmp_path / "in")
    result = restore(small_weights, f"{tmp_path}/in/a.*", tmp_path / "out")
    assert "1 restored, 0 skipped, 0 failed; not read: 1 image or video, 1 other file; written" in result.stdout
    assert len(result.stderr.splitlines()) == 1
    result = restore(small_weights, f"{tmp_path}/in/a.png", tmp_path / "one")
    assert (result.returncode, result.stderr) == (0, "")
    assert "0 failed; written" in result.stdout


def test_thousands_of_files_are_a_few_lines(small_weights, tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    for index in range(3000):
        (tmp_path / f"{index}.{('cr2', 'nef', 'txt')[index % 3]}").touch()
    result = restore(small_weights, tmp_path, tmp_path / "out")
    assert result.returncode == 0
    lines = result.stderr.splitlines()
    assert len(lines) == 11
    assert "1990 more file(s) not read (.cr2, .nef): raw data" in lines[-1]
    assert "not read: 2000 images or videos, 1000 other files" in result.stdout


def test_a_folder_or_a_file_of_which_nothing_is_read_is_refused_with_advice(small_weights, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("1.cr2", "2.cr2", "a.txt"):
        (tmp_path / "in" / name).touch()
    folder = restore(small_weights, tmp_path / "in", tmp_path / "out")
    assert_refused(folder, "no images or videos found", "1.cr2: not read", "develop it")
    assert_refused(restore(small_weights, tmp_path / "in" / "1.cr2", tmp_path / "out"), "1.cr2", "develop it")
    assert_refused(restore(small_weights, tmp_path / "in" / "a.txt", tmp_path / "out"), "a.txt", "supported: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("given", ["in", "in/*.gif", "in/still.gif", "in/moving.gif"])
def test_a_still_gif_becomes_a_png_and_an_animation_is_refused(small_weights, identity_weights, tmp_path, given):
    (tmp_path / "in").mkdir()
    grey, flipped = (Image.fromarray(image) for image in (PHOTO[..., 1], PHOTO[::-1, :, 1]))
    grey.save(tmp_path / "in" / "still.gif")
    grey.save(tmp_path / "in" / "moving.gif", save_all=True, append_images=[flipped])
    result = restore(identity_weights, f"{tmp_path}/{given}", tmp_path / "out", "--compare")
    assert (
        abs(read_image(tmp_path / "in" / "moving.gif").astype(int) - PHOTO[..., 1, None]).max() <= 1
    )  # the first frame
    moving = [f"error: {tmp_path}/in/moving.gif: a GIF animation of 2 frames; convert it to .mp4"]
    refused = [] if "still" in given else moving
    assert [line[: len(moving[0])] for line in result.stderr.splitlines()] == refused
    assert result.returncode == (2 if refused else 0)
    written = {path.name for path in (tmp_path / "out").glob("[!.]*")}
    assert written == (set() if "moving" in given else {"still.gif.png", "still.gif.png.compare.png"})
    if written:
        restored = read_photograph(tmp_path / "out" / "still.gif.png")
        assert abs(restored.colour.astype(int) - PHOTO[..., 1, None]).max() <= 1
