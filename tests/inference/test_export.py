"""Exported networks: as the command writes them, read by what reads them elsewhere."""

import math

import numpy as np
import pytest
import torch
from conftest import ROOT, assert_refused, command_of, disk_full, run_process, run_script

from inference.export import CHECKED_SIZES, TOLERANCE, largest_deviation
from inference.shipped import shipped_weights
from models import load_model


def images(*sizes: tuple[int, int, int]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(n, 3, height, width, generator=generator) for n, height, width in sizes]


def largest_difference(model, run, *sizes) -> float:
    """Relative to the largest value."""
    with torch.inference_mode():
        expected = [model(image)[-1].numpy() for image in images(*sizes)]
        found = [run(image) for image in images(*sizes)]
    return np.max([np.abs(b - a).max() / np.abs(a).max() for a, b in zip(expected, found, strict=True)])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("call", range(len(CHECKED_SIZES)))
def test_an_export_that_is_not_finite_anywhere_is_refused(small_weights, bad, call):
    model = load_model(small_weights)
    calls = []

    def run(image: torch.Tensor) -> torch.Tensor:
        restored = model(image)[-1].clone()
        if len(calls) == call:
            restored[-1, 1, 5, 7] = bad
        calls.append(image.shape)
        return restored

    assert not largest_deviation(model, run) <= TOLERANCE
    assert len(calls) == len(CHECKED_SIZES)
    assert largest_deviation(model, lambda image: model(image)[-1]) == 0


@pytest.mark.slow
def test_the_command_removes_an_export_full_of_nan(small_weights, tmp_path):
    checkpoint = torch.load(small_weights, weights_only=True)
    checkpoint["model"] = {
        name: value * 1e30 if name.startswith("encoder") else value for name, value in checkpoint["model"].items()
    }  # finite, but the features overflow
    torch.save(checkpoint, tmp_path / "large.pt")
    arguments = ("--weights", tmp_path / "large.pt", "--format", "exported-program")
    result = run_script("-m inference.export", *arguments)
    assert result.returncode == 1, result.stderr
    assert "deviates by nan" in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["large.pt"]


@pytest.mark.slow
def test_exported_program_takes_any_batch_and_size(small_weights, tmp_path):
    path = tmp_path / "small.pt2"
    arguments = ("--weights", small_weights, "--format", "exported-program", "--output")
    result = run_script("-m inference.export", *arguments, path)
    assert result.returncode == 0, result.stderr
    assert "matches the network" in result.stdout
    network = torch.export.load(path).module()
    sizes = ((1, 64, 64), (3, 160, 96))
    assert largest_difference(load_model(small_weights), lambda x: network(x).numpy(), *sizes) < 1e-4
    assert_refused(run_script("-m inference.export", *arguments, tmp_path / "small.zip"), "small.zip", ".pt2")
    before = path.read_bytes()
    with disk_full(len(before) // 2):
        assert_refused(run_script("-m inference.export", *arguments, path), path, "File too large")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.extra
@pytest.mark.parametrize("name", ["small", "window"])
def test_onnx_runs_elsewhere_within_1e_4(small_weights, tmp_path, name):
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install -r requirements-extra.txt")
    weights = small_weights if name == "small" else tmp_path / "window.pt"
    if name == "window":  # the deblurring network's local mean
        checkpoint = torch.load(small_weights, weights_only=True)
        checkpoint["model_config"]["mean_window"] = 120 / 256
        torch.save(checkpoint, weights)
    path = tmp_path / f"{name}.onnx"
    result = run_script("-m inference.export", "--weights", weights, "--format", "onnx", "--output", path)
    assert result.returncode == 0, result.stderr
    assert [file.name for file in tmp_path.glob("*.onnx*")] == [path.name]
    before = path.read_bytes()
    with disk_full(len(before) // 2):
        again = run_script("-m inference.export", "--weights", weights, "--format", "onnx", "--output", path)
    assert_refused(again, path, "File too large")
    assert path.read_bytes() == before
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (entry,), (exit,) = session.get_inputs(), session.get_outputs()
    assert (entry.name, exit.name) == ("image", "restored")

    def run(image: torch.Tensor) -> np.ndarray:
        return session.run(None, {"image": image.numpy()})[0]

    assert largest_difference(load_model(weights), run, (1, 64, 64), (2, 96, 160)) < 1e-4


@pytest.mark.slow
def test_the_weights_of_a_task_are_exported_into_the_current_folder(tmp_path):
    command = command_of("-m inference.export", "--weights", "deraining", "--format", "exported-program")
    result = run_process(command | {"cwd": tmp_path, "env": command["env"] | {"PYTHONPATH": str(ROOT)}})
    assert result.returncode == 0, result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["deraining.pt2"]
    network = torch.export.load(tmp_path / "deraining.pt2").module()
    model = load_model(shipped_weights("deraining"))
    assert largest_difference(model, lambda x: network(x).numpy(), (1, 64, 96)) < 1e-4
