"""The loss and the optimizer that a configuration asks for, by themselves and through train.py."""

import dataclasses
import shutil

import pytest
import torch
import torchvision
import yaml
from conftest import assert_refused, assert_same_run, kill_when, tiny_training, train_tiny, weights_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training.objective import build_optimizer
from utils.config import TrainConfig

DECAYING = ["--train.optimizer=adamw", "--train.weight_decay=0.1", "--train.betas=[0.9,0.95]"]
TRAIN = TrainConfig(epochs=1, batch_size=1, lr=1e-2, warmup_epochs=0, clip_norm=1.0, validate_every=1)


def test_only_weights_of_convolutions_decay(small):
    decaying, others = build_optimizer(small, dataclasses.replace(TRAIN, weight_decay=0.1)).param_groups
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.1, 0)
    names = {parameter: name for name, parameter in small.named_parameters()}
    kinds = {"bias", "modulation", "filtered_weight", "identity_weight"}
    modules = dict(small.named_modules())
    for group, is_conv in ((decaying, True), (others, False)):
        for parameter in group["params"]:
            owner, _, kind = names[parameter].rpartition(".")
            conv = isinstance(modules[owner], torch.nn.modules.conv._ConvNd) and kind not in kinds
            assert conv == is_conv, names[parameter]
    assert len(decaying["params"]) + len(others["params"]) == len(names)


@pytest.mark.parametrize("kind, shrinks", [("adamw", 1 - 1e-2 * 0.1), ("adam", None)])
def test_decay_without_a_gradient(small, kind, shrinks):
    """AdamW shrinks a weight by lr * decay; Adam with L2 moves it by lr against its sign."""
    optimizer = build_optimizer(small, dataclasses.replace(TRAIN, optimizer=kind, weight_decay=0.1))
    conv, bias = small.encoder[0][0].conv1.weight, small.encoder[0][0].conv1.bias
    before = conv.detach().clone(), bias.detach().clone()
    for parameter in small.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    expected = before[0] * shrinks if shrinks else before[0] - 1e-2 * before[0].sign()
    torch.testing.assert_close(conv.detach(), expected, rtol=1e-5, atol=1e-4)
    assert torch.equal(bias, before[1])


def test_without_decay_the_state_is_that_of_earlier_versions(small):
    (group,) = build_optimizer(small, TRAIN).param_groups
    assert [id(parameter) for parameter in group["params"]] == [id(parameter) for parameter in small.parameters()]
    assert (group["betas"], group["weight_decay"], group["fused"]) == ((0.9, 0.999), 0, True)


def test_a_killed_run_with_adamw_ends_as_one_that_never_stopped(reside, tmp_path):
    whole = train_tiny(reside, tmp_path / "whole", *DECAYING)
    assert (whole.returncode, whole.stderr) == (0, "")
    kill_when(tiny_training(reside, tmp_path / "part", *DECAYING), "epoch 1/3")
    resumed = train_tiny(reside, tmp_path / "part", *DECAYING, "--resume=auto")
    assert resumed.returncode == 0, resumed.stderr
    last = weights_of(tmp_path / "part")
    assert_same_run(last, weights_of(tmp_path / "whole"))
    groups = last["optimizer"]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.1, 0]
    assert [group["betas"] for group in groups] == [(0.9, 0.95)] * 2
    assert groups[0]["lr"] == groups[1]["lr"]
    assert_refused(
        train_tiny(reside, tmp_path / "part", *DECAYING, "--train.weight_decay=0", "--resume=auto"),
        "train.weight_decay was 0.1 and is now 0",
        "--init-from",
    )


@pytest.mark.parametrize(
    "option, words",
    [
        ("optimizer=sgd", "one of adam, adamw"),
        ("weight_decay=-1", "from 0 to 1000"),
        ("betas=[0.9,1]", "1 would never forget"),
        ("betas=0.9", "betas"),
    ],
)
def test_a_wrong_value_is_refused(trained, tmp_path, option, words):
    root, *_ = trained
    key = option.split("=")[0]
    assert_refused(train_tiny(root, tmp_path / "out", f"--train.{option}"), f"train.{key}", words)


TERMS = ["--loss.l1_weight=0", "--loss.charbonnier_weight=1", "--loss.ssim_weight=0.2"]


def test_each_term_has_a_curve(trained, tmp_path):
    root, *_ = trained
    result = train_tiny(root, tmp_path, *TERMS, "--train.epochs=2", "--train.log_every=2")
    assert (result.returncode, result.stderr) == (0, "")
    curves = EventAccumulator(str(tmp_path)).Reload()
    names = ("total", "content", "fft", "charbonnier", "ssim")
    losses = {name: [event.value for event in curves.Scalars(f"loss/{name}")] for name in names}
    assert {len(values) for values in losses.values()} == {4}  # steps 1, 2, 4 and 6
    expected = [
        0.1 * fft + smooth + 0.2 * ssim
        for fft, smooth, ssim in zip(losses["fft"], losses["charbonnier"], losses["ssim"], strict=True)
    ]
    assert losses["total"] == pytest.approx(expected, rel=1e-4)
    assert all(0 < value < 2 for value in losses["ssim"])
    resumed = train_tiny(root, tmp_path, *TERMS, "--train.epochs=3", "--loss.ssim_weight=0", "--resume=auto")
    assert resumed.returncode == 0, resumed.stderr
    assert "from step 7 on: loss.ssim_weight: 0.2 -> 0" in resumed.stdout


def test_a_loss_needs_a_term_and_a_crop_for_it(trained, tmp_path):
    root, *_ = trained
    out = tmp_path / "out"
    assert_refused(train_tiny(root, out, "--loss.l1_weight=0", "--loss.fft_weight=0"), "loss: one of l1_weight")
    small = ["--model.pool_sizes=[]", "--data.crop_size=8"]
    assert_refused(train_tiny(root, out, *small, "--loss.ssim_weight=1"), "loss.ssim_weight", "of at least 11, not 8")
    assert not out.exists()


def test_lpips_trains_with_its_package_and_is_refused_without_its_weights(trained, tmp_path, monkeypatch):
    """With random weights in place of AlexNet's, which cannot be had without a network."""
    root, *_ = trained
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    options = ["--loss.lpips_weight=0.1", "--train.epochs=2"]
    assert_refused(train_tiny(root, tmp_path / "out", *options), "loss.lpips_weight: cannot download", "AlexNet")
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.save(torchvision.models.alexnet().state_dict(), folder / "alexnet-owt-7be5be79.pth")
    result = train_tiny(root, tmp_path / "out", *options)
    assert result.returncode == 0, result.stderr
    values = [event.value for event in EventAccumulator(str(tmp_path / "out")).Reload().Scalars("loss/lpips")]
    assert len(values) == 6
    assert all(value > 0 for value in values)


def test_a_run_of_an_earlier_version_had_the_defaults(trained, tmp_path):
    root, output, _ = trained
    shutil.copytree(output, tmp_path / "run")
    config = yaml.safe_load((output / "config.yaml").read_text())
    for section, keys in (("loss", ["l1_weight", "ssim_weight"]), ("train", ["optimizer", "betas", "weight_decay"])):
        for key in keys:
            del config[section][key]
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(config))
    refused = train_tiny(root, tmp_path / "run", "--resume=auto", "--train.optimizer=adamw")
    assert_refused(refused, "train.optimizer was adam and is now adamw")
    resumed = train_tiny(root, tmp_path / "run", "--resume=auto", "--loss.ssim_weight=1", "--train.epochs=4")
    assert resumed.returncode == 0, resumed.stderr
    assert "loss.ssim_weight: 0.0 -> 1" in resumed.stdout
