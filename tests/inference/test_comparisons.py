"""restore.py --compare: each result has its comparison, whenever the job was stopped and whatever files are called."""

import numpy as np
import pytest
from album import PHOTO
from conftest import assert_refused, errors_of, run_script
from PIL import Image

NAMES = ("a.png", "b.png.tif", "sub/a.png")


@pytest.fixture
def photos(tmp_path):
    """A folder with images of one size but different values."""
    for index, name in enumerate(NAMES):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.roll(PHOTO, 9 * index, 1)).save(path)
    return tmp_path


def restore(root, weights, *options, inputs=()):
    inputs = inputs or [root / "in"]
    return run_script("restore.py", "--weights", weights, "--input", *inputs, "--output", root / "out", *options)


def content(root) -> dict[str, bytes]:
    out = root / "out"
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("[!.]*.*")}


def test_missing_files_are_made_and_the_others_left(photos, small_weights):
    assert restore(photos, small_weights, "--compare").returncode == 0
    whole = content(photos)
    assert whole.keys() == {*NAMES, *(f"{name}.compare.png" for name in NAMES)}
    for missing in whole:  # a job may be killed between any two files
        (photos / "out" / missing).unlink()
        again = restore(photos, small_weights, "--compare")
        assert (again.returncode, again.stderr) == (0, "")
        added = ", 1 missing comparison(s) added" if "compare" in missing else ""
        restored = 0 if added else 1
        assert again.stdout.startswith(f"{restored} restored, {3 - restored} skipped, 0 failed{added};")
        assert content(photos) == whole
    for name in NAMES:
        (photos / "out" / f"{name}.compare.png").unlink()
    assert restore(photos, small_weights).stdout.startswith("0 restored, 3 skipped, 0 failed;")
    assert restore(photos, small_weights, "--compare").returncode == 0
    assert content(photos) == whole


def test_a_result_that_does_not_fit_is_named_and_left(photos, small_weights):
    assert restore(photos, small_weights).returncode == 0
    Image.fromarray(PHOTO[:20]).save(photos / "out" / "a.png")
    (photos / "out" / "sub" / "a.png").write_text("mine")
    before = content(photos)
    result = restore(photos, small_weights, "--compare")
    assert result.returncode == 2
    assert len(errors_of(result)) == len(result.stderr.splitlines()) == 2
    assert "differs from the input in size or depth; add --overwrite" in result.stderr
    assert "0 restored, 1 skipped, 2 failed, 1 missing comparison(s) added" in result.stdout
    assert content(photos).items() >= before.items()
    assert content(photos).keys() - before.keys() == {"b.png.tif.compare.png"}


@pytest.mark.parametrize("options", [(), ("--overwrite",)], ids=str)
@pytest.mark.parametrize("name", ["a.png.compare.png", "sub/a.png.compare.png", "a.png.compare.png.compare.png"])
def test_an_input_called_like_a_comparison_is_refused_before_anything_is_written(photos, small_weights, name, options):
    path = photos / "in" / name
    if name.count("compare") == 2:
        Image.fromarray(PHOTO).save(photos / "in" / "a.png.compare.png")
    Image.fromarray(PHOTO).save(path)
    result = restore(photos, small_weights, "--compare", *options)
    assert_refused(result, photos / "in", ".compare.png", "rename it, or omit --compare")
    assert not (photos / "out").exists()
    assert restore(photos, small_weights, *options).returncode == 0


@pytest.mark.parametrize("options", [(), ("--overwrite",)], ids=str)
def test_a_comparison_does_not_replace_a_result_of_an_earlier_job(photos, small_weights, options):
    name = photos / "in" / "a.png.compare.png"
    Image.fromarray(PHOTO).save(name)
    assert restore(photos, small_weights, inputs=[name]).returncode == 0
    before = content(photos)
    result = restore(photos, small_weights, "--compare", *options, inputs=[photos / "in" / "a.png"])
    assert_refused(result, photos / "out" / "a.png.compare.png", "omit --compare")
    assert content(photos) == before


def test_a_comparison_does_not_overwrite_an_input(photos, small_weights):
    (photos / "out").mkdir()
    Image.fromarray(PHOTO).save(photos / "out" / "a.png.compare.png")
    link = photos / "in" / "link.png"
    link.symlink_to(photos / "out" / "a.png.compare.png")
    before = content(photos)
    assert_refused(restore(photos, small_weights, "--compare"), link, "rename it, or omit --compare")
    assert content(photos) == before


def test_a_comparison_that_is_a_link_out_of_the_output_folder_is_refused(photos, small_weights):
    (photos / "mine.txt").write_text("mine")
    (photos / "out" / "sub").mkdir(parents=True)
    link = photos / "out" / "sub" / "a.png.compare.png"
    link.symlink_to(photos / "mine.txt")
    assert_refused(restore(photos, small_weights, "--compare"), f"{link}: a symbolic link")
    assert link.is_symlink()
    assert restore(photos, small_weights).returncode == 0  # without comparisons, it does not matter
