"""The configurations in configs/examples, each as train.py runs it."""

import shutil

import pytest
import torch
import torchvision
import yaml
from conftest import ROOT, TINY, run_script, write_reside
from shapes import write_shape

EXAMPLES = sorted((ROOT / "configs" / "examples").glob("*.yaml"))
SMALLER = [*TINY, "--train.batch_size=4", "--train.epochs=2", "--model.num_blocks=1"]


def data_for(path, folder):
    """A data set of the shape that an example's recipe expects."""
    keys = yaml.safe_load(path.read_text())
    if "ots" in keys["base"]:
        return write_shape("dehazing_ots", folder)
    root = write_reside(folder)
    if keys.get("data", {}).get("train", {}).get("layout") == "plain":
        for split, name in (("train", "train"), ("test", "held_out")):
            for source, side in (("hazy", "input"), ("hazy", "target")):  # the pairs need not be good ones
                shutil.copytree(root / split / source, root / name / side)
    return root


@pytest.fixture
def alexnet(tmp_path, monkeypatch):
    """Random weights in place of those that LPIPS downloads."""
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(torchvision.models.alexnet().state_dict(), folder / "alexnet-owt-7be5be79.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_trains_and_resumes(path, tmp_path, request):
    keys = yaml.safe_load(path.read_text())
    if "lpips_weight" in keys.get("loss", {}):
        request.getfixturevalue("alexnet")
    options = [
        "--config",
        path,
        "--data.root",
        data_for(path, tmp_path / "data"),
        "--output",
        tmp_path / "run",
        *SMALLER,
    ]
    for epochs in (2, 3):
        result = run_script("train.py", *options, f"--train.epochs={epochs}", "--resume=auto")
        assert result.returncode == 0, result.stderr
