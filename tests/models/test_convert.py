"""Weights converted there and back."""

import json

import pytest
import safetensors
import safetensors.torch
import torch
from conftest import (
    ABLATION,
    ITS,
    SMALL,
    assert_refused,
    awake,
    command_of,
    released_state_dict,
    run_process,
    run_script,
    save_model,
)

from models import build_model, load_model
from models.convert import convert
from utils.errors import InputError


def test_conversion_there_and_back_keeps_the_network(tmp_path, released_file, small_weights):
    result = run_process(command_of("-m models.convert", released_file, tmp_path / "its.safetensors"))
    assert result.returncode == 0, result.stderr
    convert(tmp_path / "its.safetensors", tmp_path / "its.pt")
    convert(tmp_path / "its.pt", tmp_path / "back.pkl")
    first, last = (torch.load(path, weights_only=True)["model"] for path in (released_file, tmp_path / "back.pkl"))
    assert first.keys() == last.keys()
    assert all(torch.equal(first[name], last[name]) and first[name].shape == last[name].shape for name in first)
    convert(small_weights, tmp_path / "small.safetensors")
    assert not set(safetensors.torch.load_file(tmp_path / "small.safetensors")) - set(
        load_model(small_weights).state_dict()
    )
    small, again = load_model(small_weights), load_model(tmp_path / "small.safetensors")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in small.state_dict().items())


def test_the_depth_and_the_local_mean_survive_conversion(tmp_path):
    torch.save({"model": released_state_dict("released_state_dict_14.json")}, tmp_path / "gopro.pkl")
    convert(tmp_path / "gopro.pkl", tmp_path / "gopro.safetensors")
    assert load_model(tmp_path / "gopro.safetensors").mean_window == 120 / 256


def test_conversion_that_cannot_be_is_refused(tmp_path):
    ablation = save_model(tmp_path / "ablation.pt", build_model(**ABLATION))
    with pytest.raises(InputError, match="cannot describe this network"):
        convert(ablation, tmp_path / "ablation.pkl")
    assert_refused(run_script("-m models.convert", ablation, tmp_path / "a.zip"), "a.zip", ".safetensors")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_half_stores_parameters_as_float16_and_is_loaded_as_float32(small_weights, tmp_path, capsys, suffix):
    path = tmp_path / f"half{suffix}"
    about = "haze, 20 steps; übung"
    result = run_script("-m models.convert", small_weights, path, "--half", "--about", about)
    assert (result.returncode, result.stderr) == (0, "")
    if suffix == ".safetensors":
        stored = safetensors.torch.load_file(path)
        with safetensors.safe_open(path, "pt") as file:
            header = file.metadata()
        assert (json.loads(header["model_config"])["channels"], header["about"]) == (SMALL["channels"], about)
    else:
        checkpoint = torch.load(path, weights_only=True)
        stored = checkpoint["model"]
        assert checkpoint["about"] == about
    model = load_model(small_weights)
    parameters = dict(model.named_parameters())
    assert {stored[name].dtype for name in parameters} == {torch.float16}
    assert {stored[name].dtype for name in stored.keys() - parameters.keys()} == {torch.float32, torch.int64}
    loaded = load_model(path)
    assert capsys.readouterr().err == ""  # float16 is what such a file should hold
    for name, before in model.state_dict().items():
        value = loaded.state_dict()[name]
        assert value.dtype == before.dtype
        assert torch.equal(value, before.half().float() if name in parameters else before)


def test_statistics_that_float16_cannot_hold_are_kept(tmp_path):
    model = awake(build_model(**SMALL))
    for name, value in model.named_buffers():
        if name.endswith("running_var"):
            value.fill_(1e6)
    convert(save_model(tmp_path / "best.pt", model, SMALL), tmp_path / "half.safetensors", half=True)
    loaded = load_model(tmp_path / "half.safetensors").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in model.named_buffers())


@pytest.mark.parametrize("value, words", [(7e4, "1 too large for float16 (embed.bias)"), (torch.inf, "not finite")])
def test_parameters_that_float16_cannot_hold_are_refused(tmp_path, value, words):
    model = build_model(**SMALL)
    with torch.no_grad():
        model.embed.bias[0] = value
    source = save_model(tmp_path / "best.pt", model, SMALL)
    assert_refused(run_script("-m models.convert", source, tmp_path / "half.safetensors", "--half"), source, words)
    assert not (tmp_path / "half.safetensors").exists()


def test_half_moves_the_score_of_a_trained_network_by_less_than_a_hundredth_of_a_decibel(short_runs, tmp_path):
    best, scores = short_runs / "float32" / "checkpoints" / "best.pt", []
    convert(best, tmp_path / "half.safetensors", half=True)
    for weights in (best, tmp_path / "half.safetensors"):
        data = ["--config", ITS, "--data.root", short_runs, "--data.num_workers=0"]
        result = run_script("test.py", *data, "--weights", weights, "--output", tmp_path / weights.stem)
        assert result.returncode == 0, result.stderr
        scores.append(json.loads((tmp_path / weights.stem / "metrics.json").read_text())["sets"]["SOTS-Indoor"])
    exact, half = (score["restored"]["psnr"] for score in scores)
    assert exact > scores[0]["input"]["psnr"] + 1  # it has learnt something
    assert 0 < abs(exact - half) < 0.01
