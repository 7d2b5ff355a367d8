"""On a GPU, by ``make test-gpu``; all other tests keep to the CPU, wherever they run."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import (
    ITS,
    REFERENCE,
    SHORT,
    assert_outputs,
    command_of,
    formula_images,
    run_process,
    tiny_training,
    weights_of,
    write_reside,
)

from benchmarks.speed import with_random_attention
from inference.whole import restore
from losses import MultiScaleLoss
from models import IRNeXt, build_model, load_weights
from training.step import TrainingStep
from training.watch import Meter, TimedLoader
from utils.distributed import Group

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]


DEVICE = torch.device("cuda")


def on_gpu(command: dict) -> dict:
    """A command of conftest's, which hides the GPUs, with those that this process sees."""
    command["env"].pop("CUDA_VISIBLE_DEVICES")
    command["env"] |= {name: value for name, value in os.environ.items() if name == "CUDA_VISIBLE_DEVICES"}
    return command


def test_outputs_are_the_reference_values(released_file, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    model = IRNeXt()
    load_weights(model, released_file)
    with torch.no_grad():
        outputs = model.to(DEVICE).eval()(formula_images(7).to(DEVICE))
    assert_outputs(outputs, np.load(REFERENCE / "irnext_n4.npz"), "eval_out")


@pytest.mark.parametrize("mean_window", [None, 120 / 256])
def test_tiles_give_what_the_whole_image_gives(mean_window, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    torch.manual_seed(0)
    model = IRNeXt(num_blocks=2, channels=16, mean_window=mean_window).to(DEVICE).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("modulation", "_weight")):
                parameter.normal_(std=0.3)  # an attention that does something
    image = torch.rand(1, 3, 512, 640)
    for device in ("cpu", DEVICE):
        whole, tiled = (restore(model, image.to(device), tile=tile) for tile in (None, 96))
        assert tiled.device == whole.device == image.to(device).device
        assert (tiled - whole).abs().max() < 1e-4


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_training_step_never_waits_for_the_gpu(precision):
    model = with_random_attention(build_model(num_blocks=1, channels=8)).to(DEVICE)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    step = TrainingStep(model, MultiScaleLoss(), optimizer, 0.001, precision=precision)
    batch = {key: torch.rand(2, 3, 64, 64, device=DEVICE) for key in ("input", "target")} | {"name": ["a", "b"]}
    meter = Meter(Group(0, 1, DEVICE), 10, TimedLoader([]))
    step(batch)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        meter.add(step(batch), batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.fixture(scope="module")
def short_runs(tmp_path_factory):
    """A data set, and the folders of the same short training in each precision, compiled as is the default."""
    root = write_reside(tmp_path_factory.mktemp("cuda") / "reside", hazes=6, test_hazes=6)
    trainings = [
        tiny_training(root, root / precision, *SHORT, f"--train.precision={precision}")
        for precision in ("float32", "bf16", "fp16")
    ]
    with ThreadPoolExecutor() as pool:  # compiling takes most of the time, on one core each
        for result in pool.map(run_process, map(on_gpu, trainings)):
            assert result.returncode == 0, result.stderr
            assert "warning: " not in result.stderr
    return root


def score_of(root: Path, command: dict) -> dict[str, float]:
    """PSNR and SSIM that a command of test.py writes to ``root``."""
    result = run_process(command)
    assert result.returncode == 0, result.stderr
    return json.loads((root / "metrics.json").read_text())["sets"]["SOTS-Indoor"]["restored"]


def scoring(root: Path, output: Path, *options: str) -> dict:
    """How to score the float32 training on the CPU."""
    arguments = ["--config", ITS, "--data.root", root, "--output", output]
    return command_of("test.py", *arguments, "--weights", root / "float32" / "checkpoints" / "best.pt", *options)


@pytest.fixture(scope="module")
def score_on_the_cpu(short_runs, tmp_path_factory):
    output = tmp_path_factory.mktemp("cpu")
    return score_of(output, scoring(short_runs, output))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_short_training_in_mixed_precision_ends_where_that_in_float32_does(short_runs, precision):
    ends = [weights_of(short_runs / name, "best.pt")["psnr"] for name in ("float32", precision)]
    assert abs(ends[0] - ends[1]) < 0.1


@pytest.mark.parametrize("options", [[], ["--precision=bf16"], ["--precision=fp16"], ["--compile"]])
def test_scores_are_those_of_the_cpu(short_runs, score_on_the_cpu, tmp_path, options):
    score = score_of(tmp_path, on_gpu(scoring(short_runs, tmp_path, *options)))
    assert abs(score["psnr"] - score_on_the_cpu["psnr"]) < 0.02
    assert abs(score["ssim"] - score_on_the_cpu["ssim"]) < 1e-3
