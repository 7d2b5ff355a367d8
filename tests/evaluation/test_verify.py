"""python -m evaluation.verify, on what test.py wrote."""

import json
import shutil

import numpy as np
import pytest
from conftest import ITS, assert_refused, errors_of, run_script, save_model, write_reside

from data.images import read_image, write_image
from data.layouts import Pair
from evaluation.material import digests
from evaluation.verify import compare
from models import build_model


@pytest.fixture
def scored(small_weights, tmp_path):
    """A data set, weights and the metrics.json of test.py, all in a folder."""
    root = write_reside(tmp_path / "reside")
    weights = shutil.copy(small_weights, tmp_path / "best.pt")
    options = ["--config", ITS, "--data.root", root, "--weights", weights, f"--output={tmp_path / 'out'}"]
    assert run_script("test.py", *options).returncode == 0
    return tmp_path, tmp_path / "out" / "metrics.json"


def verify(*arguments):
    return run_script("-m evaluation.verify", *arguments)


def test_the_report_says_all_that_is_needed(scored):
    folder, report = scored
    metrics = json.loads(report.read_text())
    assert metrics["command"].startswith(f"test.py --config {ITS} --data.root {folder / 'reside'} --weights ")
    assert metrics["config"]["data"]["root"] == str(folder / "reside")
    assert len(metrics["sha256"]) == 64
    assert metrics["sets"]["SOTS-Indoor"]["fingerprint"]["pairs"] == 2
    assert {"date", "commit", "folder", "versions"} <= metrics.keys()


def test_the_same_scores_are_reproduced(scored):
    result = verify(scored[1])
    assert (result.returncode, result.stderr) == (0, "")
    assert "SOTS-Indoor: reproduced; differences: PSNR 0.0000, SSIM 0.0000" in result.stdout


def test_other_scores_are_not(scored):
    _, report = scored
    metrics = json.loads(report.read_text())
    metrics["sets"]["SOTS-Indoor"]["restored"]["psnr"] += 0.05
    metrics["versions"]["torch"] = "2.0.0"
    report.write_text(json.dumps(metrics))
    result = verify(report)
    assert result.returncode == 1
    assert "SOTS-Indoor: NOT reproduced; differences: PSNR 0.0500" in result.stdout
    assert "torch: 2.0.0 in the report, " in result.stdout


@pytest.mark.slow
def test_options_after_two_dashes_override_the_reported_ones(scored):
    folder, report = scored
    (folder / "reside").rename(folder / "moved")
    gone = verify(report)
    assert gone.returncode == 2
    assert f"{folder / 'reside'}: no such folder" in gone.stderr
    assert "options after -- override" in gone.stderr
    assert verify(report, "--", "--data.root", folder / "moved").returncode == 0


def test_other_weights_or_images_are_told_before_anything_is_scored(scored, tmp_path):
    folder, report = scored
    options = ["--config", ITS, "--data.root", folder / "reside", "--weights", folder / "best.pt", "--expect", report]
    image = next((folder / "reside" / "test" / "gt").iterdir())
    before = image.read_bytes()
    write_image(image, 255 - read_image(image))
    changed = run_script("test.py", *options, "--output", tmp_path / "new")
    assert_refused(changed, f"{report}: not the same material: the images of SOTS-Indoor have changed")
    assert not (tmp_path / "new").exists()
    image.write_bytes(before)
    save_model(folder / "best.pt", build_model(num_blocks=1, channels=8), {"num_blocks": 1, "channels": 8})
    assert_refused(run_script("test.py", *options, "--output", tmp_path / "new"), f"{folder / 'best.pt'} has changed")


@pytest.mark.slow
def test_verify_says_so_once(scored):
    folder, report = scored
    (folder / "reside" / "test" / "hazy" / "20_1.png").unlink()
    result = verify(report)
    assert result.returncode == 2
    text = f"error: {report}: not the same material: the images of SOTS-Indoor have changed: 2 before, 1 now"
    text += "; put it back, or run test.py again"
    assert errors_of(result) == [text]


def test_contents_count_not_names_and_sizes(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        write_image(tmp_path / f"{name}.bmp", rng.integers(0, 256, (8, 8, 3), np.uint8))
    pairs = [Pair("a", tmp_path / "a.bmp", tmp_path / "b.bmp"), Pair("c", tmp_path / "gone.bmp", tmp_path / "b.bmp")]
    before = digests({"Set": pairs})["Set"]
    assert digests({"Set": pairs})["Set"] == before
    write_image(tmp_path / "a.bmp", rng.integers(0, 256, (8, 8, 3), np.uint8))
    after = digests({"Set": pairs})["Set"]
    assert after["sha256"] == before["sha256"]  # of names and sizes
    assert after["contents"] != before["contents"]


def test_a_report_with_fewer_images_or_without_a_set_is_not_reproduced(scored, capsys):
    sets = json.loads(scored[1].read_text())["sets"]
    fewer = {name: part | {"images": part["images"] - 1} for name, part in sets.items()}
    assert compare(sets, sets)
    assert not compare(sets, fewer)
    assert not compare(sets, {})
    printed = capsys.readouterr().out.splitlines()
    assert printed[1].endswith("; 2 images were scored, now 1")
    assert "NOT reproduced" in printed[2]


@pytest.mark.parametrize(
    ("text", "mention"),
    [
        (None, "cannot read the report"),
        ("{", "not a metrics.json"),
        ("[]", "not a metrics.json"),
        ('{"sets": {"a": {"restored": {"psnr": 1}}}}', "no 'fingerprint'"),
        ('{"sets": {}, "command": "test.py \'"}', "not a metrics.json"),
    ],
)
def test_a_wrong_report_is_one_line(tmp_path, text, mention):
    if text is not None:
        (tmp_path / "metrics.json").write_text(text)
    assert_refused(verify(tmp_path / "metrics.json"), tmp_path / "metrics.json", mention)
