"""LPIPS where its package and AlexNet's weights are there, and what is said where they are not."""

import json
import os
import shutil

import pytest
import torch
import torchvision
from conftest import REFERENCE, assert_refused, command_of, run_to_the_end

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
        return run_to_the_end(command | {"env": command["env"] | OFFLINE | environment})

    return run


def test_without_the_package(score, tmp_path):
    (tmp_path / "torchmetrics.py").write_text("raise ImportError('not installed')")
    assert_refused(score(PYTHONPATH=str(tmp_path)), "--lpips", "pip install torchmetrics")


def test_without_the_weights(score, tmp_path):
    assert_refused(score(TORCH_HOME=str(tmp_path)), "alexnet-owt-7be5be79.pth", str(tmp_path / "hub" / "checkpoints"))


def test_with_weights(score, tmp_path):
    """AlexNet's real weights cannot be had without a network: random ones show that the score arrives."""
    folder = tmp_path / "hub" / "checkpoints"
    os.makedirs(folder)
    torch.manual_seed(0)
    torch.save(torchvision.models.alexnet().state_dict(), folder / "alexnet-owt-7be5be79.pth")
    result = score(TORCH_HOME=str(tmp_path))
    assert result.returncode == 0, result.stderr
    scored = json.loads((tmp_path / "out" / "metrics.json").read_text())["sets"]["input"]
    assert scored["input"]["lpips"] == pytest.approx(0, abs=1e-6)
    assert scored["restored"]["lpips"] > 1e-4
    assert "restored LPIPS" in result.stdout
