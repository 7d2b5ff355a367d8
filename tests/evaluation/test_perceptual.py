"""LPIPS and DISTS with their package and weights, and the errors without them."""

import json
import os
import shutil

import pytest
import torch
import torchvision
from conftest import REFERENCE, assert_refused, command_of, run_process

from evaluation.perceptual import load_dists, load_lpips

OFFLINE = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}


@pytest.fixture
def score(released_file, tmp_path):
    """test.py on a photograph as input and as its own target, with a metric and more environment variables."""
    for kind in ("input", "target"):
        (tmp_path / kind).mkdir()
        shutil.copy(REFERENCE / "coffee_target.png", tmp_path / kind / "coffee.png")

    def run(metric="--lpips", **environment):
        folders = ["--input", tmp_path / "input", "--target", tmp_path / "target", "--output", tmp_path / "out"]
        command = command_of("test.py", "--weights", released_file, *folders, metric)
        return run_process(command | {"env": command["env"] | OFFLINE | environment})

    return run


@pytest.mark.parametrize("metric", ["--lpips", pytest.param("--dists", marks=pytest.mark.extra)])
def test_without_the_package(score, tmp_path, metric):
    (tmp_path / "torchmetrics.py").write_text("raise ImportError('not installed')")
    assert_refused(score(metric, PYTHONPATH=str(tmp_path)), metric, "pip install torchmetrics")


@pytest.mark.parametrize(
    ("metric", "file"),
    [
        ("--lpips", "alexnet-owt-7be5be79.pth"),
        pytest.param("--dists", "vgg16-397923af.pth", marks=pytest.mark.extra),
    ],
)
def test_without_the_weights(score, tmp_path, metric, file):
    assert_refused(score(metric, TORCH_HOME=str(tmp_path)), metric, file, str(tmp_path / "hub" / "checkpoints"))


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


@pytest.fixture
def random_vgg(tmp_path):
    """TORCH_HOME with random weights in place of VGG-16's, of which those that DISTS does not need take no room."""
    folder = tmp_path / "hub" / "checkpoints"
    os.makedirs(folder)
    with torch.device("meta"):
        shapes = {name: weight.shape for name, weight in torchvision.models.vgg16().state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.randn(shape, generator=generator) * (2 / shape[1:].numel()) ** 0.5
        if name.startswith("features")
        else torch.zeros(1).expand(shape)
        for name, shape in shapes.items()
    }
    torch.save(weights, folder / "vgg16-397923af.pth")
    return str(tmp_path)


@pytest.mark.extra
def test_dists_of_a_network_and_of_the_target_itself(score, random_vgg, tmp_path):
    result = score("--dists", TORCH_HOME=random_vgg)
    assert result.returncode == 0, result.stderr
    scored = json.loads((tmp_path / "out" / "metrics.json").read_text())["sets"]["input"]
    assert scored["input"]["dists"] == pytest.approx(0, abs=1e-6)
    assert scored["restored"]["dists"] > 1e-3
    assert "restored DISTS" in result.stdout


@pytest.mark.extra
def test_dists_is_that_of_the_authors_package(random_vgg, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", random_vgg)
    dists = load_dists(torch.device("cpu"))
    restored, target = torch.rand(2, 2, 3, 64, 80, generator=torch.Generator().manual_seed(0))
    expected = [0.06678348779678345, 0.06571048498153687]  # of DISTS_pytorch 0.1, with its and these weights
    assert dists(restored, target).tolist() == pytest.approx(expected, rel=1e-4)
    assert dists(restored[:1], target[:1]).tolist() == pytest.approx(expected[:1], rel=1e-4)
