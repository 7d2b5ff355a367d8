"""bf16 restores and scores as float32 does."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import ITS, TINY, TORCHRUN, command_of, run_process, run_script

from data.images import read_image


def test_mixed_precision_restores_in_tiles_as_it_does_whole(small_weights, reside, tmp_path):
    image = reside / "test" / "hazy" / "20_1.png"
    restored = []
    for name, options in (("exact", []), ("whole", ["--precision=bf16"]), ("tiles", ["--precision=bf16", "--tile=64"])):
        arguments = ["--weights", small_weights, "--input", image, "--output", tmp_path / name, *options]
        result = run_script("restore.py", *arguments)
        assert result.returncode == 0, result.stderr
        restored.append(read_image(tmp_path / name / image.name).astype(int))
    exact, whole, tiles = restored
    assert (whole != exact).any()
    for fast in (whole, tiles):
        assert np.abs(fast - exact).mean() < 2


def scores(root, trained, precision, tmp_path) -> dict:
    weights = ["--weights", root / trained / "checkpoints" / "last.pt", "--output", tmp_path / precision]
    result = run_script(
        "test.py", "--config", ITS, "--data.root", root, *weights, "--precision", precision, "--data.num_workers=0"
    )
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path / precision / "metrics.json").read_text())
    assert metrics["precision"] == precision
    return metrics["sets"]["SOTS-Indoor"]


def test_bf16_moves_the_scores_of_a_trained_network_by_less_than_a_fiftieth_of_a_decibel(short_runs, tmp_path):
    exact, fast = (scores(short_runs, "float32", precision, tmp_path) for precision in ("float32", "bf16"))
    assert exact["restored"]["psnr"] > exact["input"]["psnr"] + 1  # it has learnt something
    assert 0 < abs(exact["restored"]["psnr"] - fast["restored"]["psnr"]) < 0.02


AVX2_ONLY = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}  # oneDNN and torch use no newer instructions
WARNING = "warning: this CPU has no bf16 instructions: bf16 is emulated and slower than float32"


def warnings_of(script, precision, environment, reside, weights, output) -> int:
    """How often a script prints ``WARNING``; it prints no other warning."""
    data = ["--config", ITS, "--data.root", reside, "--data.num_workers=0"]
    arguments = {
        "train.py": [*data, *TINY, "--train.epochs=2", "--train.precision", precision],
        "test.py": [*data, "--weights", weights, "--precision", precision],
        "restore.py": ["--weights", weights, "--input", reside / "test" / "hazy", "--precision", precision],
    }[script.split()[-1]]
    command = command_of(script, *arguments, "--output", output)
    inherited = {name: value for name, value in command["env"].items() if name not in AVX2_ONLY}
    result = run_process(command | {"env": inherited | environment})
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("warning: ") == result.stderr.count(WARNING), result.stderr
    return result.stderr.count(WARNING)


@pytest.mark.parametrize("script", ["train.py", "test.py", "restore.py", f"{TORCHRUN} train.py", f"{TORCHRUN} test.py"])
def test_a_cpu_that_emulates_bf16_is_reported_once(script, reside, small_weights, tmp_path):
    assert warnings_of(script, "bf16", AVX2_ONLY, reside, small_weights, tmp_path / "bf16") == 1


def test_float32_is_not_reported(reside, small_weights, tmp_path):
    assert warnings_of("restore.py", "float32", AVX2_ONLY, reside, small_weights, tmp_path / "out") == 0


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="the CPU's own list of instructions is Linux's")
def test_a_cpu_is_reported_only_if_it_lists_no_bf16_instructions(reside, small_weights, tmp_path):
    flags = Path("/proc/cpuinfo").read_text().split()
    emulates = "avx512_bf16" not in flags and "bf16" not in flags  # the names on x86 and on Arm
    assert warnings_of("restore.py", "bf16", {}, reside, small_weights, tmp_path / "out") == emulates
