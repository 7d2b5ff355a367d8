"""Starting from weights that exist: frozen parameters, and files that match in part."""

import pytest
import torch
from conftest import (
    SMALL,
    assert_refused,
    assert_same_run,
    kill_when,
    save_model,
    tiny_training,
    train_tiny,
    weights_of,
)

from inference.shipped import shipped_weights
from models import build_model, load_model
from training.freezing import freeze

FREEZE = ["--train.freeze=[encoder, '*.norm', embed.bias]", "--train.weight_decay=0.1"]


def is_frozen(name: str) -> bool:
    return name.startswith("encoder.") or ".norm." in name or name == "embed.bias"


def test_frozen_parameters_and_statistics_stay_and_the_run_resumes(trained, tmp_path):
    root, output, _ = trained
    best = output / "checkpoints" / "best.pt"
    options = [*FREEZE, "--init-from", best, "--train.lr=1e-2", "--train.ema_decay=0.9"]
    result = train_tiny(root, tmp_path / "whole", *options)
    assert (result.returncode, result.stderr) == (0, "")
    given, last = weights_of(output, "best.pt")["model"], weights_of(tmp_path / "whole")
    same = {name for name, value in last["model"].items() if torch.equal(value, given[name])}
    assert {name for name in given if is_frozen(name)} <= same
    assert "decoder.0.0.conv1.weight" not in same
    for name in filter(is_frozen, given):
        assert torch.equal(last["ema"][f"module.{name}"], given[name]), name
    trained_parameters = sum(not is_frozen(name) for name, _ in build_model(**SMALL).named_parameters())
    assert len(last["optimizer"]["state"]) == trained_parameters
    kill_when(tiny_training(root, tmp_path / "part", *options), "epoch 1/3")
    resumed = train_tiny(root, tmp_path / "part", *options, "--resume=auto")
    assert resumed.returncode == 0, resumed.stderr
    assert_same_run(weights_of(tmp_path / "part"), last)
    refused = train_tiny(root, tmp_path / "part", *options, "--train.freeze=[encoder]", "--resume=auto")
    assert_refused(refused, "train.freeze was ", "--init-from")


@pytest.mark.parametrize(
    "patterns, mentions",
    [
        ("[encodre]", ("'encodre' matches no parameter", "nearest name is encoder ")),
        ("[encoder.0.0.conv1.wieght]", ("nearest name is encoder.0.0.conv1.weight",)),
        ("['*']", ("leaves nothing to train",)),
        ("encoder", ("train.freeze", "a list")),
    ],
)
def test_a_pattern_that_freezes_nothing_or_everything_is_refused(trained, tmp_path, patterns, mentions):
    root, *_ = trained
    assert_refused(train_tiny(root, tmp_path / "out", f"--train.freeze={patterns}"), *mentions)
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_only_norms_without_trained_parameters_stay_in_eval_mode(small):
    (first, *rest) = [name for name, module in small.named_modules() if name.endswith(".norm")]
    assert freeze(small, [f"{first}.weight"]) == []
    assert freeze(small, [first]) == [small.get_submodule(first)]
    assert len(freeze(small, ["*.norm"])) == 1 + len(rest)


def test_the_name_of_a_task_starts_from_its_weights(trained, tmp_path):
    root, *_ = trained
    options = ["--model.num_blocks=4", "--model.channels=16", "--train.epochs=1", "--train.warmup_epochs=0"]
    options += ["--train.lr=1e-12", "--train.min_lr=0"]
    result = train_tiny(root, tmp_path / "run", "--init-from=deraining", *options)
    assert result.returncode == 0, result.stderr
    ours = weights_of(tmp_path / "run")["model"]
    theirs = load_model(shipped_weights("deraining")).state_dict()
    torch.testing.assert_close(ours["embed.weight"], theirs["embed.weight"], rtol=0, atol=1e-6)
    refused = train_tiny(root, tmp_path / "other", "--init-from=deraining")  # another number of blocks and channels
    assert_refused(refused, "deraining.safetensors: weights of another network")


def test_what_does_not_match_is_printed_with_its_reason(trained, tmp_path):
    root, *_ = trained
    wider = SMALL | {"num_blocks": 2, "pool_sizes": [4, 2]}
    weights = save_model(tmp_path / "other.pt", build_model(**wider), wider)
    partial = ["--init-from", weights, "--train.init_from_strict=false", "--train.epochs=2"]
    result = train_tiny(root, tmp_path / "run", *partial, "--train.lr=1e-12", "--train.min_lr=0")
    assert result.returncode == 0, result.stderr
    loaded, missing, more, *_ = result.stdout.splitlines()
    assert loaded.startswith(f"{weights}: ")
    assert loaded.endswith(" weights loaded")
    assert "186 left at random, not in the file (decoder.0.0.between" in missing
    assert "left out, not in the network (" in more
    given, ours = weights_of_file(weights), weights_of(tmp_path / "run")["model"]
    torch.testing.assert_close(ours["heads.0.weight"], given["heads.0.weight"], rtol=0, atol=1e-6)
    options = {**SMALL, "channels": 16}
    narrow = save_model(tmp_path / "narrow.pt", build_model(**options), options)
    shapes = train_tiny(root, tmp_path / "shapes", *partial[2:], "--init-from", narrow)
    assert "of a different shape in the file (decoder.0.0.between" in shapes.stdout
    assert " for (" in shapes.stdout
    torch.save({"model": {"a": torch.zeros(1)}}, tmp_path / "none.pt")
    refused = train_tiny(root, tmp_path / "none", *partial[2:], "--init-from", tmp_path / "none.pt")
    assert_refused(refused, "none.pt: none of its 1 weights has the name and shape")


def weights_of_file(path):
    return torch.load(path, weights_only=True)["model"]
