"""restore.py --score: NIQE and BRISQUE of photographs before and after."""

import csv
import json
import shutil

import cv2
import pytest
import skimage.data
from clips import pan, write_clip
from conftest import assert_refused, errors_of, run_script

from data.images import read_image, write_image
from evaluation.no_reference import brisque, niqe
from inference.manifest import HEADER, NAME, Manifest


@pytest.fixture
def album(tmp_path):
    """Photographs of several kinds, one too small for NIQE, and a video."""
    folder = tmp_path / "in"
    write_image(folder / "cat.png", skimage.data.chelsea()[:192, :224])
    write_image(folder / "sub" / "cup.jpg", skimage.data.coffee()[100:300, 100:300])
    write_image(folder / "small.png", skimage.data.coffee()[100:190, 100:200])
    write_clip(folder / "clip.mp4", pan(3))
    return folder


@pytest.fixture
def restore(album, identity_weights, tmp_path):
    def run(*options):
        inputs = ["--weights", identity_weights, "--input", album, "--output", tmp_path / "out"]
        return run_script("restore.py", *inputs, *options)

    return run


def rows_of(folder):
    with open(folder / "out" / "scores.csv", newline="") as file:
        return {row.pop("file"): row for row in csv.DictReader(file)}


def test_scores_are_those_of_the_files_on_disk(restore, album, tmp_path):
    result = restore("--score")
    assert (result.returncode, result.stderr) == (0, "")
    rows = rows_of(tmp_path)
    assert list(rows) == ["cat.png", "small.png", "sub/cup.jpg"]
    for name in ("cat.png", "sub/cup.jpg"):
        files = [read_image(folder / name) for folder in (album, tmp_path / "out")]
        expected = [f"{metric(image)}" for metric in (niqe, brisque) for image in files]
        assert list(rows[name].values()) == expected
        before, after = (float(value) for value in expected[:2])
        assert f"{name}: NIQE {before:.2f} -> {after:.2f}, BRISQUE " in result.stdout
    assert rows["small.png"]["niqe_after"] == ""
    assert "small.png: NIQE - -> -, BRISQUE " in result.stdout
    assert "of 2, 1 without a score" in result.stdout
    assert "BRISQUE (lower is better): mean " in result.stdout
    assert "4 restored, 0 skipped, 0 failed" in result.stdout


def test_existing_results_are_scored_once_and_again_when_they_are_replaced(restore, album, tmp_path):
    assert restore().returncode == 0
    assert not (tmp_path / "out" / "scores.csv").exists()
    assert "0 restored, 4 skipped" in restore("--score").stdout
    manifest = Manifest(tmp_path / "out", {})
    scores = manifest.scores["cat.png"] | {"NIQE": [50.0, 40.0]}  # to see that it is not computed again
    manifest.record_scores(tmp_path / "out" / "cat.png", scores)
    assert "cat.png: NIQE 50.00 -> 40.00" in restore("--score").stdout
    assert rows_of(tmp_path)["cat.png"]["niqe_before"] == "50.0"
    write_image(album / "cat.png", cv2.GaussianBlur(read_image(album / "cat.png"), (0, 0), 2))
    assert restore("--overwrite").returncode == 0
    assert not Manifest(tmp_path / "out", {}).scores
    assert restore("--score").returncode == 0
    assert float(rows_of(tmp_path)["cat.png"]["niqe_before"]) == niqe(read_image(album / "cat.png"))


def test_what_cannot_be_scored_is_named_and_the_rest_is_scored(restore, album, tmp_path):
    assert restore().returncode == 0
    write_image(tmp_path / "out" / "cat.png", skimage.data.chelsea()[:96, :96])
    (tmp_path / "out" / "small.png").write_bytes(b"broken")
    result = restore("--score")
    assert result.returncode == 2
    errors = errors_of(result)
    assert [line.split(": ")[1] for line in errors] == ["not scored"] * 2
    assert any("cat.png: differs from the input in size" in line for line in errors)
    assert list(rows_of(tmp_path)) == ["sub/cup.jpg"]


def test_scores_of_removed_results_leave_the_table(restore, tmp_path):
    assert restore("--score").returncode == 0
    (tmp_path / "out" / "sub" / "cup.jpg").unlink()
    shutil.rmtree(tmp_path / "in" / "sub")
    assert restore("--score").returncode == 0
    assert list(rows_of(tmp_path)) == ["cat.png", "small.png"]


@pytest.mark.parametrize("scores", [[], 3, {"NIQE": [1]}, {"NIQE": [1, "x"]}])
def test_damaged_scores_are_one_line(restore, tmp_path, scores):
    (tmp_path / "out").mkdir()
    lines = [HEADER, {"result": "cat.png", "scores": scores}]
    (tmp_path / "out" / NAME).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert_refused(restore("--score"), tmp_path / "out" / NAME, "damaged")
