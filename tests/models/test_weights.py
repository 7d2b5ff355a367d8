"""Weights files: which are read, which are refused, and with what words."""

import os
import pickle

import pytest
import safetensors.torch
import torch
from conftest import ABLATION, formula_images, released_state_dict, save_model

from models import IRNeXt, build_model, load_model, load_weights
from models.convert import convert
from models.weights import save_weights
from utils.errors import InputError


def test_own_checkpoint_says_which_model_it_holds(tmp_path):
    model = build_model(**ABLATION)
    loaded = load_model(save_model(tmp_path / "last.pt", model))
    assert loaded.size_multiple == 16
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_the_moving_average_is_what_is_evaluated(tmp_path):
    model, average = build_model(**ABLATION), torch.optim.swa_utils.AveragedModel(build_model(**ABLATION))
    loaded = load_model(save_model(tmp_path / "last.pt", model, ema=average.state_dict()))
    assert torch.equal(loaded.embed.weight, average.module.embed.weight)
    assert not torch.equal(loaded.embed.weight, model.embed.weight)


def test_released_checkpoint_with_all_that_the_authors_store(tmp_path):
    state = released_state_dict("released_state_dict.json")
    for legacy in (False, True):
        torch.save(
            {"model": state, "optimizer": {"state": {}}, "epoch": 300},
            tmp_path / "its.pkl",
            _use_new_zipfile_serialization=not legacy,
        )
        model = load_model(tmp_path / "its.pkl")
        with torch.no_grad():
            assert model(formula_images(7, 1))[-1].isfinite().all()


class Payload:
    """Runs a command when it is unpickled without restriction."""

    def __init__(self, marker):
        self.command = f"touch {marker}"

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "writer, words",
    [
        (torch.save, "not loaded, because it could run code"),
        (
            lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2)),
            "not loaded, because it could run code",
        ),
        (lambda value, path: path.write_bytes(pickle.dumps(value)), "not a PyTorch checkpoint"),
    ],
)
def test_a_file_with_a_payload_is_refused_and_does_not_run(tmp_path, writer, words):
    marker, path = tmp_path / "was-run", tmp_path / "weights.pkl"
    writer({"model": Payload(marker)}, path)
    with pytest.raises(InputError, match=f"weights.pkl: {words}"):
        load_model(path)
    assert not marker.exists()
    torch.load(path, weights_only=False) if writer is torch.save else pickle.loads(path.read_bytes())
    assert marker.exists()  # the payload is a real one


def test_files_that_are_no_weights_are_named(tmp_path):
    whole = save_model(tmp_path / "whole.pt", build_model(**ABLATION)).read_bytes()
    contents = {
        "text.pt": b"not a checkpoint",
        "empty.pt": b"",
        **{f"cut{length}.pt": whole[:length] for length in (1, 10, 500, 5000, len(whole) // 2, len(whole) - 1)},
        "image.pt": b"\x89PNG\r\n\x1a\n" + bytes(100),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: not a PyTorch checkpoint"):
            load_model(tmp_path / name)
    with pytest.raises(InputError, match=r"gone.pt: no such weights file"):
        load_model(tmp_path / "gone.pt")
    with pytest.raises(InputError, match=r"a folder"):
        load_model(tmp_path)
    for value in ([1, 2], {"state": 1}, {"model": {}}, {"model": {"a": 1}}, torch.zeros(3)):
        torch.save(value, tmp_path / "other.pt")
        with pytest.raises(InputError, match=r"no state dict under"):
            load_model(tmp_path / "other.pt")


def test_weights_of_another_network_are_named(tmp_path):
    path = save_model(tmp_path / "w.pt", build_model(**ABLATION))
    with pytest.raises(
        InputError, match=r"w.pt: weights of another network: .* missing \(decoder.*of a different shape"
    ):
        load_weights(IRNeXt(), path)
    torch.save({"model": torch.nn.Linear(2, 2).state_dict()}, path)
    with pytest.raises(InputError, match=r"weights of another network \(first parameter: weight\)"):
        load_model(path)
    state = released_state_dict("released_state_dict.json")
    state["feat_extract.0.main.0.weight"][0, 0, 0, 0] = float("nan")
    torch.save({"model": state}, path)
    with pytest.raises(InputError, match=r"damaged weights: 1 not finite \(embed.weight\)"):
        load_model(path)


def test_safetensors_that_are_no_weights_are_named(tmp_path):
    convert(save_model(tmp_path / "own.pt", build_model(**ABLATION)), tmp_path / "own.safetensors")
    whole = (tmp_path / "own.safetensors").read_bytes()
    for name, content in {"cut": whole[:-100], "head": whole[:100], "text": b"hello", "empty": b""}.items():
        (tmp_path / f"{name}.safetensors").write_bytes(content)
        with pytest.raises(InputError, match=f"{name}.safetensors: not a .safetensors file"):
            load_model(tmp_path / f"{name}.safetensors")
    with pytest.raises(InputError, match="no such weights file"):
        load_model(tmp_path / "gone.safetensors")
    weights = build_model(**ABLATION).state_dict()
    weights["embed.weight"].fill_(float("nan"))
    save_weights(tmp_path / "own.safetensors", weights, ABLATION)
    with pytest.raises(InputError, match="not finite"):
        load_model(tmp_path / "own.safetensors")
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="another network"):
        load_model(tmp_path / "other.safetensors")
