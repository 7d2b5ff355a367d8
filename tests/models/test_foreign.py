"""Checkpoints as other training code writes them around the weights of this network."""

from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch
from conftest import ABLATION, SMALL, assert_refused, released_state_dict, run_script, save_model, train_tiny
from torch import nn

from models import build_model, load_model, load_weights
from utils.errors import InputError

MODEL = build_model(**SMALL)
OURS = MODEL.state_dict()


def prefixed(prefix: str, weights: dict = OURS) -> dict:
    return OrderedDict((prefix + name, value) for name, value in weights.items())


def halves(weights: dict, dtype: torch.dtype = torch.float16) -> dict:
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in weights.items()}


def other(weights: dict = OURS) -> dict:
    """Other values under the same names."""
    return {name: torch.zeros_like(value) for name, value in weights.items()}


def averaged() -> dict:
    """What torch's AveragedModel stores."""
    return torch.optim.swa_utils.AveragedModel(MODEL).state_dict()


def compiled_blocks() -> dict:
    """The encoder's blocks were compiled one by one."""
    return {name.replace("encoder.0.", "encoder.0._orig_mod."): value for name, value in OURS.items()}


LIGHTNING = prefixed("model.") | {"loss.vgg.weight": torch.zeros(3), "metric.total": torch.tensor(2.0)}
EPOCH = {"epoch": np.int64(7), "best_psnr": np.float64(31.5), "lr": np.float32(1e-4), "done": np.bool_(False)}

# What a checkpoint contains, and what the note says was taken from it.
CONTENTS = {
    "a bare state dict": (OURS, "a bare state dict"),
    "numbers beside the weights": (OURS | EPOCH, "a bare state dict"),
    "DataParallel": (prefixed("module."), 'a bare state dict, prefix "module." removed'),
    "compiled": (prefixed("_orig_mod."), 'a bare state dict, prefix "_orig_mod." removed'),
    "compiled, then distributed": (
        {"model": prefixed("module._orig_mod.")},
        'prefix "module._orig_mod." removed',
    ),
    "distributed, then compiled": ({"model": prefixed("_orig_mod.module.")}, 'prefix "_orig_mod.module." removed'),
    "compiled in parts": ({"model": compiled_blocks()}, "_orig_mod removed"),
    "BasicSR": ({"params": OURS}, "params"),
    "BasicSR with average": (
        {"params": other(), "params_ema": prefixed("module.")},
        'params_ema, prefix "module." removed',
    ),
    "BasicSR in half": ({"params_ema": halves(prefixed("module."))}, 'params_ema, prefix "module." removed, float16'),
    "Lightning": (
        {"state_dict": LIGHTNING, "epoch": 3, "hyper_parameters": {"lr": 1e-3}, "loops": {}},
        'state_dict, prefix "model." removed, 2 other entries left out',
    ),
    "Lightning with average": (
        {"state_dict": prefixed("net.", other()) | prefixed("net_ema.module.")},
        f'state_dict, prefix "net_ema.module." removed, {len(OURS)} other entries left out',
    ),
    "timm": ({"state_dict": other(), "state_dict_ema": OURS, "args": {"lr": 0.1}}, "state_dict_ema"),
    "an averaged model": ({"model": averaged()}, 'prefix "module." removed'),
    "a GAN": ({"generator": OURS, "discriminator": {"a": torch.zeros(1)}}, "generator"),
    "net": ({"net": OURS, "optimizer": {"state": {}}, **EPOCH}, "net"),
    "model_state_dict": ({"model_state_dict": OURS, "loss": 0.1}, "model_state_dict"),
    "wrappers in a wrapper": (
        {"state": 1, "model": {"state_dict": prefixed("network.net.")}},
        'model.state_dict, prefix "network.net." removed',
    ),
    "bfloat16": ({"model": halves(OURS, torch.bfloat16)}, "bfloat16"),
    "float64": ({"model": halves(OURS, torch.float64)}, "float64"),
    "counters in half too": ({"model": {name: value.half() for name, value in OURS.items()}}, "float16"),
    "parameters": (
        {"params": {name: nn.Parameter(v, v.is_floating_point() and False) for name, v in OURS.items()}},
        "params",
    ),
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_the_weights_are_found_and_what_was_taken_is_said(tmp_path, capsys, kind):
    content, words = CONTENTS[kind]
    path = tmp_path / "theirs.pth"
    torch.save(content, path)
    tolerance = {"rtol": 0.01, "atol": 1e-3} if words.endswith("float16") else {"rtol": 0, "atol": 0}
    loaded = build_model(**SMALL)
    load_weights(loaded, path)
    assert capsys.readouterr().err == f"note: {path}: took {words}\n"
    for model in (loaded, load_model(path)):
        for name, value in model.state_dict().items():
            torch.testing.assert_close(value, OURS[name], **tolerance)


@pytest.mark.parametrize("prefix", ["module.", "net._orig_mod."])
def test_released_names_are_found_in_wrappers(tmp_path, capsys, prefix):
    state = released_state_dict("released_state_dict.json")
    torch.save({"state_dict": prefixed(prefix, state), "psnr": np.float64(40)}, tmp_path / "theirs.ckpt")
    torch.save({"model": state}, tmp_path / "its.pkl")
    ours = load_model(tmp_path / "its.pkl").state_dict()
    assert capsys.readouterr().err == ""
    theirs = load_model(tmp_path / "theirs.ckpt").state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert f'took state_dict, prefix "{prefix}" removed' in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        {"num_blocks": 3, "channels": 16},
        {"pool_sizes": ()},
        {"pool_sizes": (4, 2)},
        {"local_attention": False},
        {"frequency_modulation": False},
        {"num_blocks": 14},
    ],
)
def test_the_network_is_told_by_names_and_shapes(tmp_path, capsys, options):
    model = build_model(**SMALL | options)
    torch.save({"params": model.state_dict()}, tmp_path / "theirs.pth")
    assert str(load_model(tmp_path / "theirs.pth")) == str(model)  # modules and their sizes
    note = capsys.readouterr().err
    assert ("pool_sizes 4, 2 assumed" in note) == (options.get("pool_sizes") == (4, 2))
    assert ("local mean of the deblurring model assumed" in note) == (
        "num_blocks" in options and options["num_blocks"] == 14
    )


def test_given_options_count_for_weights_that_come_without_them(tmp_path):
    torch.save({"params": build_model(**ABLATION).state_dict()}, tmp_path / "theirs.pth")
    options = ABLATION | {"pool_sizes": (8, 4), "mean_window": 0.5}
    model = load_model(tmp_path / "theirs.pth", options)
    assert (model.size_multiple, model.mean_window) == (32, 0.5)


def test_files_of_this_project_and_the_authors_are_loaded_without_a_note(tmp_path, capsys, released_file):
    load_model(save_model(tmp_path / "w.pt", MODEL, SMALL, ema=averaged()))
    load_model(released_file)
    assert capsys.readouterr().err == ""


FOREIGN = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(400))).state_dict()


@pytest.mark.parametrize(
    "content",
    [
        FOREIGN,
        {"model": FOREIGN},
        {"params_ema": prefixed("module.", FOREIGN)},
        {"state_dict": prefixed("model.", FOREIGN), "epoch": 3},
        {"model": {"patch_embed.weight": torch.zeros(8, 3, 3, 3)}},
    ],
    ids=range(5),
)
def test_another_network_is_refused_with_its_first_name(tmp_path, content):
    torch.save(content, tmp_path / "theirs.pth")
    with pytest.raises(InputError, match=r"weights of another network \(first parameter: [\w.]+\); expected") as error:
        load_model(tmp_path / "theirs.pth")
    assert len(str(error.value)) < 250
    with pytest.raises(InputError, match=r"weights of another network: \d+ missing \(.*unexpected \(") as error:
        load_weights(MODEL, tmp_path / "theirs.pth")
    assert len(str(error.value)) < 500


def test_names_that_fall_together_are_refused(tmp_path):
    for content in (prefixed("module.") | dict(OURS), prefixed("module.") | prefixed("_orig_mod.")):
        torch.save(content, tmp_path / "theirs.pth")
        with pytest.raises(InputError, match="two parameters have the same name"):
            load_model(tmp_path / "theirs.pth")


class Arguments:
    """What training code keeps of its command line."""


@pytest.mark.parametrize(
    "beside", [Arguments(), np.zeros(3), np.str_("text"), np.datetime64("2020-01-01"), Counter("ab"), {"a": {1, 2}}]
)
def test_what_else_a_checkpoint_contains_is_plain_or_it_is_refused(tmp_path, beside):
    torch.save({"params": OURS, "beside": beside}, tmp_path / "theirs.pth")
    if isinstance(beside, dict) and not isinstance(beside, Counter):
        load_model(tmp_path / "theirs.pth")
        return
    with pytest.raises(InputError, match=r"theirs\.pth: not"):
        load_model(tmp_path / "theirs.pth")


def test_every_script_takes_them_and_says_so_once(tmp_path, reside):
    path = tmp_path / "theirs.pth"
    torch.save({"params_ema": halves(prefixed("module.")), "psnr": np.float64(31.5)}, path)
    note = f'note: {path}: took params_ema, prefix "module." removed, float16'
    hazy, target = reside / "test" / "hazy", reside / "test" / "gt"
    results = [
        run_script("restore.py", "--weights", path, "--input", hazy, "--output", tmp_path / "restored"),
        run_script("test.py", "--weights", path, "--input", hazy, "--target", target, "--output", tmp_path / "scores"),
        train_tiny(reside, tmp_path / "run", "--init-from", path, "--train.epochs=2"),
        run_script("-m models.convert", path, tmp_path / "ours.safetensors"),
    ]
    for result in results:
        assert (result.returncode, result.stderr.splitlines()) == (0, [note]), result.stderr
    converted = load_model(tmp_path / "ours.safetensors").state_dict()
    assert all(torch.equal(converted[name], value) for name, value in load_model(path).state_dict().items())
    torch.save({"params": FOREIGN}, path)
    assert_refused(run_script("restore.py", "--weights", path, "--input", hazy, "--output", tmp_path / "no"), path)
