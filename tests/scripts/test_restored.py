"""test.py --restored: images that any method restored are scored as those of a network."""

import csv
import json
import shutil

import pytest
from conftest import ITS, assert_refused, errors_of, run_script, write_reside

from data.images import read_image, write_image
from evaluation.metrics import PROTOCOLS


@pytest.fixture(scope="module")
def scored(small_weights, tmp_path_factory):
    """A data set, and the results of a network on it with its images."""
    root = write_reside(tmp_path_factory.mktemp("restored") / "reside")
    options = ["--config", ITS, "--data.root", root, "--weights", small_weights, "--output", root / "out"]
    assert run_script("test.py", *options, "--save-images").returncode == 0
    return root


def sets_of(output):
    return json.loads((output / "metrics.json").read_text())["sets"]


def test_saved_images_score_what_the_network_did_up_to_rounding(scored, tmp_path):
    options = ["--config", ITS, "--data.root", scored, "--output", tmp_path]
    result = run_script("test.py", "--restored", scored / "out" / "images", *options)
    assert (result.returncode, result.stderr) == (0, "")
    ours, theirs = (sets_of(folder)["SOTS-Indoor"] for folder in (scored / "out", tmp_path))
    assert theirs["input"] == ours["input"]
    assert theirs["restored"]["psnr"] == pytest.approx(ours["restored"]["psnr"], abs=0.01)
    assert theirs["restored"]["ssim"] == pytest.approx(ours["restored"]["ssim"], abs=1e-3)
    assert theirs["seconds_per_image"] is None
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["restored"] == str(scored / "out" / "images")
    assert "weights" not in metrics


@pytest.mark.parametrize("inputs", [True, False])
def test_folders_are_scored_with_and_without_the_inputs(scored, tmp_path, inputs):
    test = scored / "test"
    folders = ["--target", test / "gt", *(["--input", test / "hazy"] if inputs else [])]
    restored = scored / "out" / "images" / "SOTS-Indoor" / "hazy"
    result = run_script("test.py", "--restored", restored, *folders, "--protocol=dehazing", "--output", tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    (part,) = sets_of(tmp_path).values()
    assert part["restored"]["psnr"] == pytest.approx(
        sets_of(scored / "out")["SOTS-Indoor"]["restored"]["psnr"], abs=0.01
    )
    assert bool(part["input"]) == (tmp_path / "gains.png").exists() == inputs
    with open(tmp_path / "per_image.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [bool(row["input_psnr"]) for row in rows] == [inputs] * 2
    assert {row["seconds"] for row in rows} == {""}


def test_all_protocols_score_the_same_images(scored, tmp_path):
    test = scored / "test"
    restored = scored / "out" / "images" / "SOTS-Indoor" / "hazy"
    folders = ["--restored", restored, "--input", test / "hazy", "--target", test / "gt"]
    result = run_script("test.py", *folders, "--protocol", "all", "--output", tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    sets = sets_of(tmp_path)
    assert list(sets) == [part["protocol"] for part in sets.values()] == list(PROTOCOLS)
    assert sets["rgb"]["restored"]["psnr"] == sets["dehazing"]["restored"]["psnr"] != sets["y"]["restored"]["psnr"]


def copied(scored, folder):
    """The restored images, the names of which may be changed."""
    shutil.copytree(scored / "out" / "images" / "SOTS-Indoor" / "hazy", folder)
    return ["--restored", folder, "--input", scored / "test" / "hazy", "--target", scored / "test" / "gt"]


def test_missing_and_extra_images_are_named(scored, tmp_path):
    folders = [*copied(scored, tmp_path / "theirs"), "--output", tmp_path / "out"]
    image = (tmp_path / "theirs" / "20_1.png").rename(tmp_path / "theirs" / "20_9.png")
    assert_refused(run_script("test.py", *folders), "no restored image for 1 input: 20_1")
    shutil.copy(image, tmp_path / "theirs" / "20_1.png")
    assert_refused(run_script("test.py", *folders), "1 restored image", image, "of no input")


def test_jpeg_results_of_another_tree_are_found_by_name(scored, tmp_path):
    test = scored / "test"
    for path in (scored / "out" / "images" / "SOTS-Indoor" / "hazy").iterdir():
        write_image(tmp_path / "theirs" / f"{path.stem}.jpg", read_image(path))
    config = ["--config", ITS, "--data.root", scored, "--output", tmp_path / "out"]
    result = run_script("test.py", "--restored", tmp_path / "theirs", *config)
    assert (result.returncode, result.stderr) == (0, "")
    assert test.exists()


def test_a_broken_or_smaller_image_has_no_score_and_the_rest_is_scored(scored, tmp_path):
    folders = [*copied(scored, tmp_path / "theirs"), "--output", tmp_path / "out"]
    small = tmp_path / "theirs" / "20_1.png"
    write_image(small, read_image(small)[:-2])
    result = run_script("test.py", *folders)
    assert result.returncode == 2
    assert errors_of(result) == [f"error: {small}: it is 100x68 pixels, but the input is 100x70"]
    (part,) = sets_of(tmp_path / "out").values()
    assert part["images"] == 1


@pytest.mark.parametrize(
    ("options", "mention"),
    [
        ([], "pass either --weights FILE"),
        (["--restored", "theirs", "--weights", __file__], "pass either --weights FILE"),
        (["--restored", "theirs", "--compile"], "no network runs"),
        (["--restored", "theirs", "--precision=bf16"], "no network runs"),
        (["--restored", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_wrong_options_are_one_line(scored, tmp_path, options, mention):
    folders = ["--input", scored / "test" / "hazy", "--target", scored / "test" / "gt", "--output", tmp_path / "out"]
    assert_refused(run_script("test.py", *options, *folders), mention)
