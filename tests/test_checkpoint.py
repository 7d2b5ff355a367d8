"""Weights files: which are read, which are refused, and with what words."""

import os
import pickle

import pytest
import safetensors.torch
import torch
from conftest import assert_refused, formula_images, released_state_dict, run_script

from models import IRNeXt, build_model, load_model, load_weights
from models.convert import convert
from training.resume import resume_training, training_state
from utils.checkpoint_files import kept_checkpoints, save_checkpoint
from utils.errors import InputError

OPTIONS = {"name": "irnext", "num_blocks": 1, "channels": 8, "pool_sizes": [4, 2]}


def saved(path, model, **more):
    save_checkpoint(path, {"model": model.state_dict(), "model_config": OPTIONS, **more})
    return path


def test_own_checkpoint_says_which_model_it_holds(tmp_path):
    model = build_model(**OPTIONS)
    loaded = load_model(saved(tmp_path / "last.pt", model))
    assert loaded.size_multiple == 16
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_the_moving_average_is_what_is_evaluated(tmp_path):
    model, average = build_model(**OPTIONS), torch.optim.swa_utils.AveragedModel(build_model(**OPTIONS))
    loaded = load_model(saved(tmp_path / "last.pt", model, ema=average.state_dict()))
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
        (torch.save, "refused, because loading it could run code"),
        (
            lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2)),
            "refused, because loading it could run code",
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
    whole = saved(tmp_path / "whole.pt", build_model(**OPTIONS)).read_bytes()
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
    path = saved(tmp_path / "w.pt", build_model(**OPTIONS))
    with pytest.raises(
        InputError, match=r"w.pt: the weights of another network: .* missing \(decoder.*of another shape"
    ):
        load_weights(IRNeXt(), path)
    torch.save({"model": torch.nn.Linear(2, 2).state_dict()}, path)
    with pytest.raises(InputError, match=r"weights of another network \(first name: weight\)"):
        load_model(path)
    state = released_state_dict("released_state_dict.json")
    state["feat_extract.0.main.0.weight"][0, 0, 0, 0] = float("nan")
    torch.save({"model": state}, path)
    with pytest.raises(InputError, match=r"broken weights: 1 not finite \(embed.weight\)"):
        load_model(path)


def test_a_failed_write_keeps_the_old_checkpoint(tmp_path):
    path = saved(tmp_path / "last.pt", build_model(**OPTIONS))
    before = path.read_bytes()
    with pytest.raises((AttributeError, pickle.PicklingError)):
        save_checkpoint(path, {"model": lambda: None})  # cannot be written
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_after_falling_back_no_save_keeps_the_damaged_file(tmp_path):
    path, model = tmp_path / "last.pt", build_model(**OPTIONS)
    for epoch in (1, 2):
        save_checkpoint(path, training_state({"model": model}, {"epoch": epoch}), keep=2)
    path.write_bytes(path.read_bytes()[:5000])
    assert resume_training(path, {"model": model}, {"epoch": 0}) == {"epoch": 1}
    save_checkpoint(path, training_state({"model": model}, {"epoch": 2}), keep=2)
    for file, epoch in ((path, 2), (tmp_path / "last.previous.pt", 1)):
        assert resume_training(file, {"model": model}, {"epoch": 0}) == {"epoch": epoch}


def epochs_kept(path):
    return [torch.load(file, weights_only=True)["progress"]["epoch"] for file in kept_checkpoints(path)]


def test_the_latest_checkpoints_are_kept_and_the_newest_sound_one_is_taken(tmp_path, capsys):
    path, model = tmp_path / "last.pt", build_model(**OPTIONS)
    for epoch in range(1, 7):
        save_checkpoint(path, training_state({"model": model}, {"epoch": epoch}), keep=4)
    assert epochs_kept(path) == [6, 5, 4, 3]
    nan = training_state({"model": model}, {"epoch": 6})
    nan["model"]["embed.weight"] = nan["model"]["embed.weight"] * float("nan")
    torch.save(nan, path)
    (tmp_path / "last.previous.pt").write_bytes(b"cut off")
    assert resume_training(path, {"model": model}, {"epoch": 0}) == {"epoch": 4}
    assert "last.pt: broken: 1 of the tensors in model are not finite; going on from" in capsys.readouterr().err
    assert epochs_kept(path) == [4, 3]
    path.unlink()
    assert resume_training(path, {"model": model}, {"epoch": 0}) == {"epoch": 3}
    for epoch in range(4, 7):
        save_checkpoint(path, training_state({"model": model}, {"epoch": epoch}), keep=4)
    save_checkpoint(path, training_state({"model": model}, {"epoch": 7}), keep=2)
    assert epochs_kept(path) == [7, 6]
    save_checkpoint(path, training_state({"model": model}, {"epoch": 8}))
    assert epochs_kept(path) == [8]
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"last.pt: not a PyTorch checkpoint"):
        resume_training(path, {"model": model}, {"epoch": 0})


WRONG_STATES = {
    "optimizer is missing": lambda state: state.pop("optimizer"),
    "progress.epoch is no number": lambda state: state["progress"].update(epoch="two"),
    "progress is no table": lambda state: state.update(progress=[1, 2]),
    "progress is missing": lambda state: state.pop("progress"),
    "random is missing": lambda state: state.pop("random"),
    "optimizer.state is no table": lambda state: state["optimizer"].update(state=3),
    "embed.weight has the shape": lambda state: state["model"].update({"embed.weight": torch.zeros(2)}),
    "embed.bias is missing": lambda state: state["model"].pop("embed.bias"),
    "in optimizer are not finite": lambda state: state["optimizer"].update(state={0: torch.tensor(float("nan"))}),
    "cannot resume": lambda state: state["optimizer"].update(param_groups=[{"params": [0, 1]}]),
    "not a checkpoint of this project": lambda state: state["model"].update({"embed.bias": "text"}),
}


@pytest.mark.parametrize("words", WRONG_STATES)
def test_a_foreign_or_incomplete_run_is_refused(tmp_path, words):
    model = build_model(**OPTIONS)
    stateful = {"model": model, "optimizer": torch.optim.Adam(model.parameters())}
    state = training_state(stateful, {"epoch": 1})
    WRONG_STATES[words](state)
    torch.save(state, tmp_path / "last.pt")
    with pytest.raises(InputError, match=f"last.pt: .*{words}"):
        resume_training(tmp_path / "last.pt", stateful, {"epoch": 0})
    assert (tmp_path / "last.pt").exists()


def test_conversion_there_and_back_keeps_the_network(tmp_path, released_file, small_weights):
    result = run_script("-m models.convert", released_file, tmp_path / "its.safetensors")
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
    ablation = saved(tmp_path / "ablation.pt", build_model(**OPTIONS))
    with pytest.raises(InputError, match="cannot say which network this is"):
        convert(ablation, tmp_path / "ablation.pkl")
    assert_refused(run_script("-m models.convert", ablation, tmp_path / "a.zip"), "a.zip", ".safetensors")


def test_safetensors_that_are_no_weights_are_named(tmp_path):
    convert(saved(tmp_path / "own.pt", build_model(**OPTIONS)), tmp_path / "own.safetensors")
    whole = (tmp_path / "own.safetensors").read_bytes()
    for name, content in {"cut": whole[:-100], "head": whole[:100], "text": b"hello", "empty": b""}.items():
        (tmp_path / f"{name}.safetensors").write_bytes(content)
        with pytest.raises(InputError, match=f"{name}.safetensors: not a .safetensors file"):
            load_model(tmp_path / f"{name}.safetensors")
    with pytest.raises(InputError, match="no such weights file"):
        load_model(tmp_path / "gone.safetensors")
    weights = build_model(**OPTIONS).state_dict()
    weights["embed.weight"].fill_(float("nan"))
    save_checkpoint(tmp_path / "own.safetensors", {"model": weights, "model_config": OPTIONS})
    with pytest.raises(InputError, match="not finite"):
        load_model(tmp_path / "own.safetensors")
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="another network"):
        load_model(tmp_path / "other.safetensors")
