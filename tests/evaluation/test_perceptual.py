"""LPIPS with its package and AlexNet's weights, and the error without them."""

import json
import os
import shutil

import pytest
import torch
import torchvision
from conftest import REFERENCE, assert_refused, command_of, run_process

from evaluation.perceptual import load_lpips

OFFLINE = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}


@pytest.fixture
def score(released_file, tmp_path):
    """test.py --lpips on a photograph as input and as its own target, with more environment variables."""
    for kind in ("input", "target"):
        (tmp_path / kind).mkdir()
        shutil.copy(REFERENCE / "coffee_target.png", tmp_path / kind / "coffee.png")

    def run(**environment):
        folders = ["--input", tmp_path / "input", "--target", tmp_path / "target", "--output", tmp_path / "out"]
        command = command_of("test.py", "--weights", released_file, *folders, "--lpips")
        return run_process(command | {"env": command["env"] | OFFLINE | environment})

    return run


def test_without_the_package(score, tmp_path):
    (tmp_path / "torchmetrics.py").write_text("raise ImportError('not installed')")
    assert_refused(score(PYTHONPATH=str(tmp_path)), "--lpips", "pip install torchmetrics")


def test_without_the_weights(score, tmp_path):
    assert_refused(score(TORCH_HOME=str(tmp_path)), "alexnet-owt-7be5be79.pth", str(tmp_path / "hub" / "checkpoints"))


@pytest.fixture
def random_alexnet(tmp_path):
    """TORCH_HOME with random weights in place of AlexNet's, which cannot be had without a network."""
    folder = tmp_path / "hub" / "checkpoints"
    os.makedirs(folder)
    torch.manual_seed(0)
    torch.save(torchvision.models.alexnet().state_dict(), folder / "alexnet-owt-7be5be79.pth")
    return str(tmp_path)


def test_with_weights(score, random_alexnet, tmp_path):
    result = score(TORCH_HOME=random_alexnet)
    assert result.returncode == 0, result.stderr
    scored = json.loads((tmp_path / "out" / "metrics.json").read_text())["sets"]["input"]
    assert scored["input"]["lpips"] == pytest.approx(0, abs=1e-6)
    assert scored["restored"]["lpips"] > 1e-4
    assert "restored LPIPS" in result.stdout


def test_each_image_has_a_score_that_needs_no_look_at_its_values(random_alexnet, monkeypatch):
    torchmetrics = pytest.importorskip("torchmetrics.image.lpip")
    monkeypatch.setenv("TORCH_HOME", random_alexnet)
    lpips = load_lpips(torch.device("cpu"))
    restored, target = torch.rand(2, 2, 3, 64, 80, generator=torch.Generator().manual_seed(0))
    theirs = torchmetrics.LearnedPerceptualImagePatchSimilarity("alex", normalize=True)
    expected = [theirs(restored[i : i + 1], target[i : i + 1]).item() for i in range(2)]
    assert lpips(restored, target).tolist() == pytest.approx(expected, rel=1e-4)
    assert expected[0] != expected[1]
    restored[1, 0, 3, 5] = torch.nan
    scores = lpips(restored, target)
    assert scores[0].item() == pytest.approx(expected[0], rel=1e-4)
    assert scores[1].isnan()
