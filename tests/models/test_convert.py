"""Weights converted there and back."""

import pytest
import safetensors.torch
import torch
from conftest import ABLATION, assert_refused, command_of, released_state_dict, run_process, run_script, save_model

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
