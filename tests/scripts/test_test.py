"""test.py as a user runs it."""

import csv
import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from album import PHOTO, damage
from conftest import (
    ITS,
    REFERENCE,
    assert_refused,
    errors_of,
    run_parallel,
    run_script,
    weights_of,
)

from data.images import read_image, write_image
from inference import Restorer


def test_scores_of_the_self_ensemble(small_weights, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), PHOTO)
    model = Restorer(small_weights, "cpu")
    arguments = ("--weights", small_weights, "--input", tmp_path, "--target", tmp_path, "--self-ensemble")
    result = run_script("test.py", *arguments, "--output", tmp_path / "results")
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path / "results" / "metrics.json").read_text())
    assert metrics["self_ensemble"] is True
    image = torch.from_numpy(cv2.cvtColor(PHOTO, cv2.COLOR_RGB2BGR)).permute(2, 0, 1) / 255
    error = (model.restore(image, self_ensemble=True) - image).square().mean()
    (scores,) = metrics["sets"].values()
    assert scores["restored"]["psnr"] == pytest.approx(-10 * torch.log10(error).item(), abs=1e-3)


@pytest.mark.parametrize("run", [run_script, run_parallel])
def test_the_rest_of_a_set_is_scored(reside, small_weights, tmp_path, run):
    for name in "abcdef":
        for side, number in (("in", "20_1"), ("gt", "20_2")):
            write_image(tmp_path / side / f"{name}.png", read_image(reside / "test" / "hazy" / f"{number}.png"))
    damage(tmp_path / "in" / "b.png")
    cut = tmp_path / "gt" / "c.png"
    cut.write_bytes(cut.read_bytes()[:-100])
    write_image(tmp_path / "gt" / "e.png", read_image(tmp_path / "gt" / "a.png")[:-1])
    folders = ["--input", tmp_path / "in", "--target", tmp_path / "gt", "--output", tmp_path / "out"]
    result = run("test.py", "--weights", small_weights, *folders, "--save-images")
    if run is run_script:
        assert result.returncode == 2
    errors = errors_of(result)
    assert [error.split(": ")[1] for error in errors] == [
        str(tmp_path / file) for file in ("in/b.png", cut, "in/e.png")
    ]
    assert "truncated" in errors[1]
    assert "100x70" in errors[2]
    assert "100x69" in errors[2]
    scored = json.loads((tmp_path / "out" / "metrics.json").read_text())["sets"]["in"]
    assert scored["images"] == 3
    assert {name: f"error: {problem}" for name, problem in scored["failed"].items()} == dict(
        zip("bce", errors, strict=True)
    )
    assert "3 of 6" in result.stdout
    rows = (tmp_path / "out" / "per_image.csv").read_text().splitlines()
    assert [row.split(",")[2] for row in rows] == ["name", "a", "d", "f"]
    assert sorted(path.stem for path in (tmp_path / "out" / "images").rglob("*.png")) == ["a", "d", "f"]
    assert read_image(tmp_path / "out" / "gains.png").shape == (300, 400, 3)


def test_a_set_without_an_image_is_an_error(reside, small_weights, tmp_path):
    damage(reside / "test" / "gt" / "20.png")
    folders = ["--input", reside / "test" / "hazy", "--target", reside / "test" / "gt", "--output", tmp_path / "out"]
    result = run_script("test.py", "--weights", small_weights, *folders)
    assert_refused(result, "hazy: none of its 2 images could be scored", "20.png: the image is damaged")
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_the_best_checkpoint_scores_what_training_said(trained, tmp_path):
    root, output, _ = trained
    weights = output / "checkpoints" / "best.pt"
    result = run_script(
        "test.py", "--config", ITS, "--data.root", root, "--weights", weights, "--output", tmp_path, "--save-images"
    )
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    scored = metrics["sets"]["SOTS-Indoor"]
    assert scored["images"] == 2
    assert scored["protocol"] == "dehazing"
    assert scored["restored"]["psnr"] == pytest.approx(weights_of(output, "best.pt")["psnr"], abs=1e-3)
    with open(tmp_path / "per_image.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["hazy/20_1", "hazy/20_2"]
    for key, side in (("input_psnr", "input"), ("psnr", "restored")):
        assert np.mean([float(row[key]) for row in rows]) == pytest.approx(scored[side]["psnr"])
    assert f"{scored['input']['psnr']:.2f}" in result.stdout
    restored = read_image(tmp_path / "images" / "SOTS-Indoor" / "hazy" / "20_1.png")
    assert restored.shape == (70, 100, 3)
    for sheet, images in (("comparison.png", 3), ("worst.png", 4)):
        height, width = 2 * 240 + 6, images * 314 + (images - 1) * 6  # 100x70 pixels, 220 high below a caption
        assert read_image(tmp_path / sheet).shape == (height, width, 3)
    gains = [float(row["psnr"]) - float(row["input_psnr"]) for row in rows]
    assert scored["gain"]["psnr"] == pytest.approx(np.mean(gains))
    assert scored["made_worse"]["psnr"] == np.mean([gain < 0 for gain in gains])
    assert scored["median"]["psnr"] == pytest.approx(np.median([float(row["psnr"]) for row in rows]))
    assert scored["deviation"]["psnr"] == pytest.approx(np.std([float(row["psnr"]) for row in rows]))


@pytest.mark.parametrize(
    "protocol, psnr, ssim",
    [
        ("rgb", "psnr_rgb", "ssim_rgb"),
        ("y", "psnr_y_matlab", "ssim_y_matlab"),
        ("y_float", "psnr_y", "ssim_y"),
        ("dehazing", "dehazing_psnr", "dehazing_ssim"),
    ],
)
def test_folders_are_scored_with_released_weights(released_file, tmp_path, protocol, psnr, ssim):
    golden = json.loads((REFERENCE / "metrics.json").read_text())
    for kind in ("input", "target"):
        (tmp_path / kind).mkdir()
        shutil.copy(REFERENCE / f"coffee_{kind}.png", tmp_path / kind / "coffee.png")
    result = run_script(
        "test.py",
        "--weights",
        released_file,
        "--input",
        tmp_path / "input",
        "--target",
        tmp_path / "target",
        "--protocol",
        protocol,
        "--output",
        tmp_path / "out",
    )
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    score = metrics["sets"]["input"]
    assert score["input"]["psnr"] == pytest.approx(golden["coffee"][psnr], abs=1e-3)
    assert score["input"]["ssim"] == pytest.approx(golden["coffee"][ssim], abs=1e-4)
    assert metrics["parameters"] == 5_455_241


def test_wrong_weights_and_folders_are_refused_by_test_py(trained, tmp_path):
    root, output, _ = trained
    foreign = tmp_path / "foreign.pt"
    torch.save({"model": torch.nn.Linear(2, 2).state_dict()}, foreign)
    common = ["--data.root", root, "--output", tmp_path / "out"]
    assert_refused(run_script("test.py", "--config", ITS, "--weights", foreign, *common), foreign, "another network")
    assert_refused(run_script("test.py", "--config", ITS, "--weights", tmp_path / "no.pt", *common), "no.pt")
    best = output / "checkpoints" / "best.pt"
    pair = ["--input", root / "test" / "hazy", "--target", root / "nowhere", "--output", tmp_path / "out"]
    assert_refused(run_script("test.py", "--weights", best, *pair), "nowhere")
    assert_refused(run_script("test.py", "--weights", best, "--output", tmp_path / "out"), "config")
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    pair[3:] = [root / "test" / "gt", "--output", tmp_path / "file"]
    assert_refused(run_script("test.py", "--weights", best, *pair), tmp_path / "file")


def test_a_best_checkpoint_needs_only_its_weights(trained, tmp_path):
    root, output, _ = trained
    best = weights_of(output, "best.pt")
    torch.save({key: best[key] for key in ("model", "model_config")}, tmp_path / "best.pt")
    pair = ["--input", root / "test" / "hazy", "--target", root / "test" / "gt", "--output", tmp_path / "out"]
    assert run_script("test.py", "--weights", tmp_path / "best.pt", *pair).returncode == 0
    scores = json.loads((tmp_path / "out" / "metrics.json").read_text())["sets"]["hazy"]["restored"]
    torch.save({"model": best["model"]}, tmp_path / "best.pt")  # names and shapes say which network it is
    assert run_script("test.py", "--weights", tmp_path / "best.pt", *pair).returncode == 0
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["sets"]["hazy"]["restored"] == scores
    first = next(iter(best["model"]))
    torch.save({"model": {name: value for name, value in best["model"].items() if name != first}}, tmp_path / "best.pt")
    for script in ("test.py", "-m models.convert"):
        arguments = [tmp_path / "best.pt", tmp_path / "a.safetensors"]
        arguments = ["--weights", tmp_path / "best.pt", *pair] if script == "test.py" else arguments
        assert_refused(run_script(script, *arguments), "best.pt", "another network")
