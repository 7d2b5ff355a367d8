"""The embedded benchmark: its table, stored results and, slow, a run of its script."""

import json
import math
from itertools import product

import numpy as np
import pytest
import torch
from conftest import assert_refused, command_of, run_process

from benchmarks.classical import Method
from benchmarks.embedded import digest, is_ahead, read_config, stored_result, table
from data.images import read_image
from utils.errors import InputError
from utils.versions import git_commit, versions

RESULT = {
    "images": 8,
    "protocol": "rgb",
    "input": {"psnr": 20.0, "ssim": 0.5},
    "classical": {"psnr": 21.123, "ssim": 0.61234},
    "restored": {"psnr": 22.5, "ssim": 0.7},
    "method": "median",
    "minutes": 1.5,
}


def test_the_table_has_all_scores_and_tells_who_is_ahead():
    line = table({"desnowing": RESULT}).splitlines()[-1]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == ["desnowing", "8", "rgb", "20.00 / 0.5000", "21.12 / 0.6123 (median)", "22.50 / 0.7000"]


@pytest.mark.parametrize("scores", list(product((math.nan, 20.0, 22.0), repeat=3)))
def test_the_network_is_ahead_if_its_score_exceeds_both_others_and_none_is_nan(scores):
    result = {row: {"psnr": score} for row, score in zip(("input", "classical", "restored"), scores, strict=True)}
    assert is_ahead(result) == (scores == (20.0, 20.0, 22.0))


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_parameters_that_give_nan_are_never_the_best(bad):
    image = np.linspace(0, 1, 192, dtype=np.float32).reshape(8, 8, 3)
    method = Method("scaling", lambda x, factor: x * factor, {"factor": (0.8, 0.9, 1.2)})
    values = list(method.values["factor"])
    values[bad] = math.nan
    _, best = Method(method.name, method.restore, {"factor": tuple(values)}).fit([(image, image)])
    assert best["factor"] == (0.8 if bad == 1 else 0.9)
    with pytest.raises(ValueError, match="no parameters"):
        Method(method.name, method.restore, {"factor": (math.nan,)}).fit([(image, image)])


@pytest.fixture
def stored(tmp_path):
    """Writes a stored result with one value of its description changed, and returns the command that reuses it."""
    arguments = ["--config", "configs/benchmark_desnowing.yaml", "--data.root", "elsewhere", "--train.epochs", 2]
    about = {"configuration": digest(read_config(arguments)), "commit": git_commit(), **versions()}

    def store(**changed) -> dict:
        folder = tmp_path / "out" / "desnowing"
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps(RESULT | {"made_with": about | changed}))
        image = np.zeros((60, 80, 3), np.uint8)
        np.savez(folder / "row.npz", image, image, image, image)
        arguments = ["--output", tmp_path / "out", "--data", tmp_path / "data", "--epochs", 2, "--tasks", "desnowing"]
        return command_of("-m benchmarks.embedded", *arguments)

    return store


def test_a_stored_result_of_the_same_code_is_reused(stored):
    result = run_process(stored())
    assert result.returncode == 0, result.stderr
    assert "warning" not in result.stderr
    assert "22.50 / 0.7000" in result.stdout


def test_a_stored_result_of_other_code_is_reused_with_a_warning_and_its_origin(stored):
    result = run_process(stored(commit="a-commit", torch="0.1"))
    assert result.returncode == 0, result.stderr
    (warning,) = [line for line in result.stderr.splitlines() if line.startswith("warning")]
    assert "commit a-commit instead of" in warning
    assert f"torch 0.1 instead of {torch.__version__.split('+')[0]}" in warning
    assert "remove" in warning
    assert "with torch 0.1, commit a-commit." in result.stdout


def test_a_stored_result_of_another_configuration_is_refused(stored):
    result = run_process(stored(configuration="another"))
    assert_refused(result, "another configuration or number of epochs; remove")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"made_with": 3}', "null", "3"])
def test_a_damaged_stored_result_is_refused(content, tmp_path):
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(InputError, match=r"damaged.*remove"):
        stored_result(tmp_path, {"commit": "a-commit"})


@pytest.mark.slow
def test_the_script_trains_scores_and_goes_on_with_what_is_missing(tmp_path):
    command = f"-m benchmarks.embedded --output {tmp_path / 'out'} --data {tmp_path / 'data'} --epochs 2 --tasks"
    first = run_process(command_of(command, "desnowing"))
    result = json.loads((tmp_path / "out" / "desnowing" / "result.json").read_text())
    assert first.returncode == (0 if is_ahead(result) else 1)
    assert "desnowing" in first.stderr or is_ahead(result)
    assert 10 < result["input"]["psnr"] < result["classical"]["psnr"] < 30
    both = run_process(command_of(command, "desnowing", "deblurring"))
    assert both.returncode in (0, 1)
    assert "epoch 2/2" in both.stdout
    lines = (tmp_path / "out" / "benchmark.md").read_text().splitlines()
    assert [line.split()[1] for line in lines[2:4]] == ["desnowing", "deblurring"]
    assert json.loads((tmp_path / "out" / "desnowing" / "result.json").read_text()) == result
    sheet = read_image(tmp_path / "out" / "benchmark.jpg")
    assert sheet.shape[0] == 2 * 240 + 6
