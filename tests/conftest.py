"""What the tests share: reference data, weights by formula, small data sets of real photographs, the scripts."""

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch

from data.images import write_image
from data.synthetic.degradations import haze
from data.synthetic.depth import smooth_depth
from models import build_model
from utils.checkpoint_files import save_checkpoint

ROOT = Path(__file__).parent.parent
REFERENCE = Path(__file__).parent / "reference"


def released_state_dict(file: str) -> dict[str, torch.Tensor]:
    """A released-format state dict filled by the formula of tests/reference/README.md."""
    state = {}
    for name, shape in json.loads((REFERENCE / file).read_text()):
        z = np.random.RandomState(zlib.crc32(f"golden:{name}".encode())).standard_normal(shape)
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(0)
            continue
        if name.endswith("running_mean"):
            value = 0.1 * z
        elif name.endswith("running_var"):
            value = 0.5 + abs(z)
        elif len(shape) == 4:
            value = z / np.sqrt(z[0].size)
        elif name.endswith(("lamb_l", "lamb_h", "inside_all")):
            value = 0.1 * z
        else:
            value = 1 + 0.1 * z if name.endswith(".weight") else 0.05 * z
        state[name] = torch.tensor(value, dtype=torch.float32)
    return state


def formula_images(seed: int, n: int = 4, height: int = 64, width: int = 96) -> torch.Tensor:
    """The reference images (n, 3, height, width)."""
    random = np.random.RandomState(seed)
    y, x = np.mgrid[:height, :width]
    images = np.empty((n, 3, height, width), np.float32)
    for i in range(n):
        for j in range(3):
            fy, fx, phase = random.uniform(0.5, 4, 3)
            wave = np.sin(2 * np.pi * (fy * y / height + fx * x / width) + phase)
            images[i, j] = 0.15 + 0.2 * i + 0.1 * wave + 0.1 * random.random_sample((height, width))
    return torch.from_numpy(images)


@pytest.fixture(scope="session")
def released_file(tmp_path_factory) -> Path:
    """A file as the authors release them, 4 blocks."""
    path = tmp_path_factory.mktemp("released") / "its.pkl"
    torch.save({"model": released_state_dict("released_state_dict.json")}, path)
    return path


@pytest.fixture(scope="session")
def small_weights(tmp_path_factory) -> Path:
    """A checkpoint as training leaves it, of a small network whose attention does something."""
    torch.manual_seed(0)
    options = {"name": "irnext", "num_blocks": 1, "channels": 8}
    model = build_model(**options)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("modulation", "filtered_weight", "identity_weight")):
                parameter.normal_(std=0.5)
    path = tmp_path_factory.mktemp("weights") / "best.pt"
    save_checkpoint(path, {"model": model.state_dict(), "model_config": options})
    return path


@pytest.fixture
def reside(tmp_path) -> Path:
    """``write_reside`` in a folder of the test's own."""
    return write_reside(tmp_path / "reside")


def write_reside(root: Path, hazes: int = 2, test_hazes: int = 2) -> Path:
    """A RESIDE-shaped folder of small photographs: 2 hazes + 1 training pairs over 3 targets, some of one for test."""
    rng = np.random.default_rng(0)
    photographs = {
        "train": [("10", "astronaut", hazes), ("11", "rocket", hazes), ("12", "coffee", 1)],
        "test": [("20", "chelsea", test_hazes)],
    }
    for split, names in photographs.items():
        for number, name, count in names:
            image = cv2.resize(getattr(skimage.data, name)(), (100, 70), interpolation=cv2.INTER_AREA)
            write_image(root / split / "gt" / f"{number}.png", image)
            for index in range(count):
                hazy = haze(image / np.float32(255), smooth_depth(70, 100, rng), rng.uniform(0.6, 1.8), 0.9)
                write_image(root / split / "hazy" / f"{number}_{index + 1}.png", np.uint8(hazy * 255))
    return root


# A network and a schedule that train in seconds; the recipe's other keys stay as they are.
TINY = [
    "--model.num_blocks=1",
    "--model.channels=8",
    "--data.crop_size=64",
    "--data.num_workers=0",
    "--train.batch_size=2",
    "--train.epochs=3",
    "--train.warmup_epochs=1",
    "--train.validate_every=1",
    "--train.log_every=1",
]

# Longer: so long that the network learns something.
SHORT = ["--train.epochs=30", "--train.lr=5e-4", "--train.ema_decay=0.9", "--train.validate_every=30"]


def command_of(script: str, *arguments: object) -> dict:
    """How to start a script of the project as a user would; one thread, so that results repeat bit for bit."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return {
        "args": [sys.executable, *script.split(), *map(str, arguments)],
        "cwd": ROOT,
        "env": environment,
        "text": True,
    }


def tiny_training(root: Path, output: Path, *arguments: object) -> dict:
    """How to train ``TINY`` by the ITS recipe on a folder shaped like RESIDE."""
    config = ROOT / "configs" / "dehazing_its.yaml"
    return command_of("train.py", "--config", config, "--data.root", root, "--output", output, *TINY, *arguments)


def run_script(script: str, *arguments: object) -> subprocess.CompletedProcess:
    """Run a script to its end."""
    return run_to_the_end(command_of(script, *arguments))


def train_tiny(root: Path, output: Path, *arguments: object) -> subprocess.CompletedProcess:
    """Run ``tiny_training`` to its end."""
    return run_to_the_end(tiny_training(root, output, *arguments))


def run_to_the_end(command: dict) -> subprocess.CompletedProcess:
    """Run what ``command_of`` gave, whatever its status."""
    return subprocess.run(**command, capture_output=True, timeout=300, check=False)


def kill_when(command: dict, text: str) -> None:
    """Start a script and kill it, with no chance to react, as soon as its output says ``text``."""
    with subprocess.Popen(**command, stdout=subprocess.PIPE) as process:
        for line in process.stdout:
            if text in line:
                process.kill()
                return
    raise AssertionError(f"the script never said {text!r}")


def weights_of(output, name="last.pt"):
    return torch.load(output / "checkpoints" / name, weights_only=True)


def assert_outputs(outputs, golden, prefix):
    """Each output is ``golden``'s ``prefix`` with its number, within 1e-4 of the largest value."""
    for index, output in enumerate(outputs):
        expected = golden[f"{prefix}{index}"]
        assert output.shape == expected.shape
        assert np.abs(output.detach().cpu().numpy() - expected).max() <= 1e-4 * np.abs(expected).max()


def assert_same_run(one, other):
    """The same weights and optimizer state, bit for bit."""
    for key in ("model", "optimizer"):
        ours, theirs = torch.utils._pytree.tree_leaves(one[key]), torch.utils._pytree.tree_leaves(other[key])
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
    assert one["scheduler"]["last_epoch"] == other["scheduler"]["last_epoch"]


def assert_refused(result: subprocess.CompletedProcess, *mentions: object) -> None:
    """Status 2 and one line on stderr that names each of ``mentions``."""
    lines = result.stderr.strip().splitlines()
    assert result.returncode == 2, result.stderr
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for mention in mentions:
        assert str(mention) in lines[0]
