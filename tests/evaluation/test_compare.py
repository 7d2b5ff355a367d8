"""python -m evaluation.compare, on what test.py wrote and on results made by hand."""

import csv
import json
import shutil
from dataclasses import asdict

import pytest
from conftest import ITS, assert_refused, run_script, write_reside

from data.images import read_image
from evaluation.comparison import compare_scores

SCENES = [f"{index // 2}" for index in range(12)]
FIRST = [20 + 0.5 * index for index in range(12)]
SECOND = [score + gain for score, gain in zip(FIRST, [0.4, 0.6, -0.1, 0.3, 0.2, 0.5] * 2, strict=True)]


def write_results(folder, psnr, *, protocol="rgb", precision="float32", names=None, name="Set", targets=None):
    """Results as test.py writes them, of inputs of which two share a target."""
    folder.mkdir(parents=True)
    part = {"protocol": protocol} | ({"fingerprint": {"targets": targets}} if targets else {})
    metrics = {"sets": {name: part}} | ({"precision": precision, "self_ensemble": False} if precision else {})
    (folder / "metrics.json").write_text(json.dumps(metrics))
    with open(folder / "per_image.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["set", "protocol", "name", "input_psnr", "psnr", "seconds", "input_file", "target_file"])
        names = names or [f"image {index:02}" for index in range(len(psnr))]
        for index, (image, score) in enumerate(zip(names, psnr, strict=True)):
            table.writerow([name, protocol, image, 10, score, 0.1, f"in/{image}.png", f"gt/{index // 2}.png"])
    return folder


def compare(*arguments):
    return run_script("-m evaluation.compare", *arguments)


@pytest.fixture
def two(tmp_path):
    return write_results(tmp_path / "a", FIRST), write_results(tmp_path / "b", SECOND)


def test_the_numbers_are_those_of_the_statistics(two, tmp_path):
    result = compare(*two, "--output", tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, "")
    (entry,) = json.loads((tmp_path / "out" / "compare.json").read_text())["comparisons"]
    expected = json.loads(json.dumps(asdict(compare_scores(FIRST, SECOND, SCENES))))
    assert entry["differences"] == {"psnr": expected}
    assert (expected["images"], expected["scenes"]) == (12, 6)
    assert {image["name"] for image in entry["largest_wins"][:2]} == {"image 01", "image 07"}
    assert {image["name"] for image in entry["largest_losses"]} == {"image 02", "image 08"}
    assert f"Set: PSNR: {two[1]} is better than {two[0]} on this set" in result.stdout
    assert f"{expected['difference']:+.2f}" in (tmp_path / "out" / "compare.md").read_text()
    assert read_image(tmp_path / "out" / "Set_A_B.scatter.png").shape == (600, 600, 3)


def test_noise_is_no_difference(tmp_path):
    gains = [0.4, -0.5, 0.3, -0.2, 0.3, -0.3] * 2
    folders = [
        write_results(tmp_path / name, scores)
        for name, scores in (("a", FIRST), ("b", [score + gain for score, gain in zip(FIRST, gains, strict=True)]))
    ]
    result = compare(*folders, "--output", tmp_path / "out")
    assert f"no difference between {folders[0]} and {folders[1]} is shown" in result.stdout


@pytest.mark.parametrize(("gain", "where"), [(0.05, "within"), (1.0, "outside")])
def test_seeds_say_whether_a_gain_is_outside_their_spread(tmp_path, gain, where):
    shifts = {"a": 0, "a1": 0.1, "a2": -0.1, "b": gain}
    folders = [write_results(tmp_path / name, [score + shift for score in FIRST]) for name, shift in shifts.items()]
    result = compare(folders[0], folders[3], "--seeds", *folders[1:3], "--output", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert f"its mean is {where} the range of 3 seeds of the reference, 22.75 ± 0.50" in result.stdout


@pytest.mark.parametrize(
    ("changed", "mentions"),
    [
        ({"protocol": "y"}, "differ in protocol of Set: rgb and y"),
        ({"precision": "bf16"}, "differ in precision: float32 and bf16"),
        ({"names": [f"image {index:02}" for index in range(1, 13)]}, "Set: 2 images: image 00, image 12 in one of"),
    ],
)
def test_results_that_differ_in_more_than_the_method_are_refused_unless_told(tmp_path, changed, mentions):
    folders = [write_results(tmp_path / "a", FIRST), write_results(tmp_path / "b", SECOND, **changed)]
    refused = compare(*folders, "--output", tmp_path / "out")
    assert_refused(refused, mentions, "pass --accept-differences")
    assert not (tmp_path / "out").exists()
    accepted = compare(*folders, "--output", tmp_path / "out", "--accept-differences")
    assert accepted.returncode == 0, accepted.stderr
    assert f"note: {mentions}" in accepted.stdout or mentions in accepted.stdout


@pytest.mark.parametrize(
    ("spoil", "mention"),
    [
        (lambda folder: shutil.rmtree(folder), "metrics.json is missing"),
        (lambda folder: (folder / "per_image.csv").unlink(), "per_image.csv is missing"),
        (lambda folder: (folder / "metrics.json").write_text("{"), "not the results of this version"),
        (lambda folder: (folder / "metrics.json").write_text("[]"), "not the results of this version"),
        (lambda folder: (folder / "per_image.csv").write_text("set,name,psnr\nSet,a,20\n"), "no 'input_file'"),
        (lambda folder: (folder / "per_image.csv").write_text(""), "holds no scores"),
        (lambda folder: (folder / "per_image.csv").write_bytes(b"\xff\xfe\x00"), "not the results of this version"),
        (
            lambda folder: (folder / "per_image.csv").write_text("set,name,psnr\nSet,a,nan\n"),
            "a has no finite score",
        ),
        (
            lambda folder: (folder / "per_image.csv").write_text("set,name,ssim\nSet,a,0.5\n"),
            "a has no finite score",
        ),
        (
            lambda folder: (folder / "per_image.csv").write_text(
                "set,name,psnr,input_file,target_file\nSet,a,20,b,c\nSet,a,30,b,c\n"
            ),
            "a is there twice",
        ),
    ],
)
def test_wrong_folders_are_one_line(two, tmp_path, spoil, mention):
    spoil(two[1])
    assert_refused(compare(*two, "--output", tmp_path / "out"), two[1], mention)


def test_one_folder_is_too_few(two, tmp_path):
    assert_refused(compare(two[0], "--output", tmp_path / "out"), "expected 2 to 26 folders")


def test_sets_without_a_common_name_are_refused(two, tmp_path):
    other = write_results(tmp_path / "c", FIRST, name="Other")
    metrics = json.loads((other / "metrics.json").read_text())
    (other / "metrics.json").write_text(json.dumps(metrics | {"sets": metrics["sets"] | {"More": {"protocol": "y"}}}))
    with open(other / "per_image.csv", "a") as file:
        file.write("More,y,a,10,20,0.1,a.png,b.png\n")
    assert_refused(compare(two[0], other, "--output", tmp_path / "out", "--accept-differences"), "no set in common")


def test_the_only_sets_are_compared_whatever_their_names(two, tmp_path):
    theirs = write_results(tmp_path / "theirs", SECOND, name="theirs", precision=None)  # of test.py --restored
    result = compare(two[0], theirs, "--output", tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, "")
    assert f"Set: PSNR: {theirs} is better than {two[0]} on this set" in result.stdout
    other = write_results(tmp_path / "y", SECOND, name="theirs", protocol="y")
    assert_refused(compare(two[0], other, "--output", tmp_path / "more"), "differ in protocol of Set: rgb and y")


def test_other_targets_of_the_same_names_are_refused(tmp_path):
    folders = [write_results(tmp_path / name, FIRST, targets=name) for name in ("a", "b")]
    refused = compare(*folders, "--output", tmp_path / "out")
    assert_refused(refused, "Set: the targets of", "are not the same files", "--accept-differences")
    same = write_results(tmp_path / "c", SECOND, targets="a")
    assert compare(folders[0], same, "--output", tmp_path / "out").returncode == 0


def test_a_run_is_no_seed_of_itself(two, tmp_path):
    refused = compare(*two, "--seeds", tmp_path / "b" / ".." / "a", "--output", tmp_path / "out")
    assert_refused(refused, "--seeds", two[0], "is there twice")


def test_seeds_count_on_the_images_that_all_have(tmp_path):
    names = [f"image {index:02}" for index in range(12)]
    folders = [
        write_results(tmp_path / name, [score + shift for score in FIRST][:count], names=names[:count])
        for name, shift, count in (("a", 0, 12), ("a1", 0.1, 6), ("b", 0.05, 12))
    ]
    options = ["--seeds", folders[1], "--output", tmp_path / "out", "--accept-differences"]
    result = compare(folders[0], folders[2], *options)
    assert result.returncode == 0, result.stderr
    assert "within the range of 2 seeds of the reference, 21.30 ±" in result.stdout  # of the first six images


@pytest.mark.parametrize("name", ["../../out", "a/b", "$x$", "名"])
def test_no_name_of_a_set_leads_out_of_the_folder(tmp_path, name):
    folders = [write_results(tmp_path / each, FIRST, name=name) for each in ("a", "b")]
    assert compare(*folders, "--output", tmp_path / "x" / "out").returncode == 0
    assert len(list((tmp_path / "x" / "out").glob("*.scatter.png"))) == 1
    assert not list(tmp_path.glob("*.png"))


def test_what_test_py_wrote_is_compared_with_a_sheet(small_weights, identity_weights, tmp_path):
    root = write_reside(tmp_path / "reside", test_hazes=3)
    for name, weights in (("a", identity_weights), ("b", small_weights)):
        options = ["--weights", weights, "--output", tmp_path / name, "--save-images"]
        assert run_script("test.py", "--config", ITS, "--data.root", root, *options).returncode == 0
    result = compare(tmp_path / "a", tmp_path / "b", "--output", tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, "")
    (entry,) = json.loads((tmp_path / "out" / "compare.json").read_text())["comparisons"]
    assert set(entry["differences"]) == {"psnr", "ssim"}
    assert (entry["differences"]["psnr"]["images"], entry["differences"]["psnr"]["scenes"]) == (3, 1)
    assert "all images are of one scene" in result.stdout
    assert len(entry["largest_wins"]) + len(entry["largest_losses"]) == 3
    assert read_image(tmp_path / "out" / "SOTS-Indoor_A_B.extremes.png").shape[0] == 3 * 246 - 6
