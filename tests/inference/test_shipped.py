"""The weights that come with the project, used by the name of their task, in a checkout of the project."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, SMALL, assert_refused, awake, command_of, run_process, run_script, save_model
from skimage.data import chelsea

from data.images import read_image, write_image
from inference.shipped import TASKS
from models import build_model


@pytest.fixture(scope="module")
def checkout(small_weights, tmp_path_factory) -> Path:
    """A copy of the project whose folder weights/ has a file for dehazing only."""
    root = tmp_path_factory.mktemp("checkout") / "irnext"
    for room in ("data", "evaluation", "inference", "models", "utils"):
        shutil.copytree(ROOT / room, root / room, ignore=shutil.ignore_patterns("__pycache__"))
    for script in ("restore.py", "test.py", "app.py"):
        shutil.copy(ROOT / script, root)
    result = run_script("-m models.convert", small_weights, root / "weights" / "dehazing.safetensors", "--half")
    assert result.returncode == 0, result.stderr
    return root


@pytest.fixture
def photograph(tmp_path) -> Path:
    write_image(tmp_path / "in" / "photo.png", np.ascontiguousarray(chelsea()[:96, :80]))
    return tmp_path / "in" / "photo.png"


def run_in(folder: Path, script: Path | str, *arguments: object) -> subprocess.CompletedProcess:
    """Run a script of another checkout as a user would who is in ``folder``."""
    return run_process(command_of(str(script), *arguments) | {"cwd": folder})


def test_a_task_is_restored_from_any_folder_as_with_its_file(checkout, photograph, tmp_path):
    weights = checkout / "weights" / "dehazing.safetensors"
    named = run_in(tmp_path, checkout / "restore.py", "--task=dehazing", "--input", "in", "--output", "named")
    assert (named.returncode, named.stderr) == (0, "")
    result = run_script("restore.py", "--weights", weights, "--input", photograph, "--output", tmp_path / "given")
    assert result.returncode == 0, result.stderr
    results = [read_image(tmp_path / folder / "photo.png") for folder in ("named", "given")]
    np.testing.assert_array_equal(*results)
    assert (results[0] != read_image(photograph)).any()
    manifests = [(tmp_path / folder / ".irnext.jsonl").read_text() for folder in ("named", "given")]
    assert manifests[0] == manifests[1]
    assert json.loads(manifests[0].splitlines()[-1])["settings"]["weights"] == weights.name
    again = run_script("restore.py", "--weights", weights, "--input", photograph, "--output", tmp_path / "named")
    assert again.stdout.startswith("0 restored, 1 skipped, 0 failed")


CHANNELS = """
from pathlib import Path
from inference import Restorer
print(Restorer("dehazing").model.embed.out_channels)
Path("dehazing").mkdir()
print(Restorer("dehazing").model.embed.out_channels)
Path("dehazing").rmdir()
Path("other.pt").rename("dehazing")
print(Restorer("dehazing").model.embed.out_channels)
"""


def test_only_a_file_comes_before_the_task_of_its_name(checkout, tmp_path):
    wider = SMALL | {"channels": 16}
    save_model(tmp_path / "other.pt", awake(build_model(**wider)), wider)
    command = command_of("-c", CHANNELS)
    command["env"] |= {"PYTHONPATH": str(checkout)}
    result = run_process(command | {"cwd": tmp_path})
    assert result.stdout.split() == ["8", "8", "16"], result.stderr


@pytest.mark.parametrize(
    "script, arguments, missing",
    [
        ("restore.py", ["--task", "desnowing", "--input", "in", "--output", "out"], "desnowing"),
        ("test.py", ["--weights", "defocus", "--input", "in", "--target", "in", "--output", "out"], "defocus"),
        ("app.py", [], "deblurring"),
    ],
)
def test_an_incomplete_checkout_says_which_file_is_missing(checkout, photograph, tmp_path, script, arguments, missing):
    path = checkout / "weights" / f"{missing}.safetensors"
    assert_refused(run_in(tmp_path, checkout / script, *arguments), f"{path}: missing", "git checkout -- weights")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "given, mentions",
    [
        (["--task=dehaze"], ["--task: expected one of", *TASKS, "not 'dehaze'"]),
        (["--task="], ["--task: expected one of", *TASKS, "not ''"]),
        ([], ["--task", "--weights", "neither", *TASKS]),
        (["--task=dehazing", f"--weights={__file__}"], ["--task", "--weights", "both", *TASKS]),
    ],
)
def test_one_of_a_task_and_a_file_is_expected(photograph, tmp_path, given, mentions):
    source = ["--input", photograph, "--output", tmp_path / "out"]
    assert_refused(run_script("restore.py", *given, *source), *mentions)
    assert not (tmp_path / "out").exists()
