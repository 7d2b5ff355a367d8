"""The weights that come with the project: each is there, small and sound, and restores what its name says."""

import json

import numpy as np
import pytest
import safetensors
import skimage.data
import torch
from conftest import ROOT, psnr, run_script
from torch import Tensor

from data.images import read_image, write_image
from data.synthetic.drawn import DEGRADATIONS
from inference import Restorer
from inference.shipped import FOLDER, TASKS, shipped_weights
from models import load_model

MAX_BYTES, MAX_BYTES_OF_ALL, MAX_PARAMETERS = 3_000_000, 15_000_000, 1_500_000
DEGRADATION = {
    "dehazing": "haze",
    "deblurring": "motion_blur",
    "defocus": "defocus",
    "deraining": "rain",
    "desnowing": "snow",
}

each_task = pytest.mark.parametrize("task", TASKS)


@pytest.fixture(scope="module")
def photographs() -> list[np.ndarray]:
    """Parts of photographs, (160, 192, 3) in [0, 1]."""
    names = ("astronaut", "chelsea", "coffee")
    parts = [getattr(skimage.data, name)()[60:220, 100:292] for name in names]
    return [part.astype(np.float32) / 255 for part in parts]


def degraded(photographs: list[np.ndarray], task: str) -> list[np.ndarray]:
    """The photographs as the network of ``task`` may expect them."""
    rng = np.random.default_rng(0)
    return [np.clip(DEGRADATIONS[DEGRADATION[task]](photograph, rng), 0, 1) for photograph in photographs]


def mean_psnr(images: list[np.ndarray], targets: list[np.ndarray]) -> float:
    return sum(psnr(*map(torch.from_numpy, pair)) for pair in zip(images, targets, strict=True)) / len(images)


def test_there_is_a_file_for_each_task_and_all_are_small():
    files = list(FOLDER.glob("*.safetensors"))
    assert {path.stem for path in files} == {*TASKS}
    assert sum(path.stat().st_size for path in files) <= MAX_BYTES_OF_ALL


@each_task
def test_a_file_is_small_half_and_sound(task, capsys):
    path = shipped_weights(task)
    assert path.stat().st_size <= MAX_BYTES
    with safetensors.safe_open(path, "pt") as file:
        header, stored = file.metadata(), {name: file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118
    assert json.loads(header["model_config"])["name"] == "irnext"
    assert len(header["about"]) > 20
    model = load_model(path)
    assert capsys.readouterr().err == ""
    parameters = dict(model.named_parameters())
    assert sum(value.numel() for value in parameters.values()) < MAX_PARAMETERS
    assert {stored[name] for name in parameters} == {torch.float16}
    values: list[Tensor] = [value for value in model.state_dict().values() if value.is_floating_point()]
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in values)


@each_task
def test_a_task_is_restored_by_name(task, photographs, tmp_path):
    inputs = degraded(photographs, task)
    for index, image in enumerate(inputs):
        write_image(tmp_path / "in" / f"{index}.png", np.uint8(image * 255 + 0.5))
    arguments = ["--task", task, "--input", tmp_path / "in", "--output", tmp_path / "out"]
    result = run_script("restore.py", *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    restored = [read_image(tmp_path / "out" / f"{index}.png") / np.float32(255) for index in range(len(inputs))]
    assert mean_psnr(restored, photographs) > mean_psnr(inputs, photographs) + 0.1


def test_a_task_is_scored_by_name(photographs, tmp_path):
    for folder, images in (("in", degraded(photographs, "desnowing")), ("gt", photographs)):
        for index, image in enumerate(images):
            write_image(tmp_path / folder / f"{index}.png", np.uint8(image * 255 + 0.5))
    folders = ["--input", tmp_path / "in", "--target", tmp_path / "gt", "--output", tmp_path / "out"]
    result = run_script("test.py", "--weights", "desnowing", *folders)
    assert (result.returncode, result.stderr) == (0, "")
    (scored,) = json.loads((tmp_path / "out" / "metrics.json").read_text())["sets"].values()
    assert scored["gain"]["psnr"] > 1


@each_task
def test_no_other_network_restores_it_as_well(task, photographs):
    inputs = degraded(photographs, task)
    networks = {name: Restorer(name, "cpu") for name in TASKS}
    scores = {name: mean_psnr([network.restore(x) for x in inputs], photographs) for name, network in networks.items()}
    assert max(scores, key=scores.get) == task, scores


def test_the_card_is_complete():
    card = (ROOT / "weights" / "README.md").read_text()
    assert "…" not in card
    assert all(f"| {task} |" in card for task in TASKS)
    parameters = {sum(value.numel() for value in load_model(shipped_weights(task)).parameters()) for task in TASKS}
    assert all(f"{number:,} parameters" in card for number in parameters)
