"""Gradient accumulation: micro-batches against the whole batch, in one process and in several."""

import copy

import pytest
import torch
from conftest import (
    ITS,
    assert_refused,
    assert_same_run,
    kill_when,
    run_parallel,
    tiny_arguments,
    tiny_training,
    train_tiny,
    weights_of,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from losses import MultiScaleLoss
from train import check_batch
from training.moving_average import MovingAverage
from training.step import TrainingStep, Update
from utils.cli import ScriptParser, config_of
from utils.config import Config
from utils.distributed import Group
from utils.errors import InputError

ACCUMULATE = ["--train.batch_size=4", "--train.accumulate=2", "--train.ema_decay=0.9"]  # 5 pairs: 2 + 2, and 1


def batch_of(images: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Pairs of 64x64 pixels, each of another brightness, so that no image's loss is that of another."""
    generator = torch.Generator().manual_seed(seed)
    brightness = torch.linspace(0.2, 1, images)[:, None, None, None]
    return {key: brightness * torch.rand(images, 3, 64, 64, generator=generator) for key in ("input", "target")}


def parsed(*options: str) -> Config:
    """The ITS recipe with other values, as train.py resolves it."""
    parser = ScriptParser()
    parser.add_config()
    arguments = ["--config", str(ITS), "--data.root=.", *options]
    return config_of(parser.instantiate(parser.parse_args(arguments)))


def frozen_norms(model: nn.Module) -> nn.Module:
    """The network with batch norms that use their running statistics."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return model


def updated(model: nn.Module, batch: dict, parts: int, clip_norm: float = 1e9, **options) -> tuple[Update, nn.Module]:
    """A step on a copy of the network, and this copy, whose gradients are those of the step."""
    model = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    return TrainingStep(model, MultiScaleLoss(), optimizer, clip_norm, **options)(batch, micro_batches=parts), model


def gradient_of(model: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("images, parts", [(4, 2), (4, 4), (5, 2), (5, 3), (7, 4)])
def test_micro_batches_have_the_gradient_of_the_whole_batch(small, images, parts):
    model, batch = frozen_norms(small).double(), {key: part.double() for key, part in batch_of(images).items()}
    (whole, one), (sum_of_parts, several) = (updated(model, batch, count) for count in (1, parts))
    gradient = gradient_of(one)
    assert (gradient_of(several) - gradient).norm() <= 1e-9 * gradient.norm()
    torch.testing.assert_close(sum_of_parts.loss, whole.loss, rtol=1e-9, atol=0)
    torch.testing.assert_close(sum_of_parts.grad_norm, whole.grad_norm, rtol=1e-9, atol=0)


def test_batch_norm_sees_one_micro_batch_at_a_time(small):
    batch = batch_of(4)
    _, whole = updated(small, batch, 1)
    _, parts = updated(small, batch, 2)
    (norm, *_), (theirs, *_) = (
        [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)] for model in (parts, whole)
    )
    assert norm.num_batches_tracked == 2
    assert theirs.num_batches_tracked == 1
    difference = (gradient_of(parts) - gradient_of(whole)).norm() / gradient_of(whole).norm()
    assert difference > 1e-5


def test_clipping_optimizer_and_average_count_updates(small):
    model, batch = frozen_norms(small), batch_of(4)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    ema = MovingAverage(model, 0.9)
    step = TrainingStep(model, MultiScaleLoss(), optimizer, clip_norm=1e-3, ema=ema)
    for _ in range(3):
        update = step(batch, micro_batches=4)
        assert update.grad_norm > 1e-2
        assert gradient_of(model).norm().item() == pytest.approx(1e-3, rel=1e-3)
    assert {int(state["step"]) for state in optimizer.state.values()} == {3}
    assert ema.n_averaged == 3


@pytest.mark.parametrize("image", [0, 3])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_micro_batch_that_is_not_finite_skips_the_whole_update(small, image, value):
    batch = batch_of(4)
    batch["target"][image, 0, 5, 5] = value
    update, after = updated(small, batch, 4)
    assert not update.finite
    assert all(torch.equal(*pair) for pair in zip(after.parameters(), small.parameters(), strict=True))
    assert all(buffer.isfinite().all() for buffer in after.buffers())


@pytest.fixture
def alone(tmp_path):
    """A process group of one."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_processes_exchange_gradients_once_per_update(small, alone):
    exchanged = []

    def count(state, bucket):
        exchanged.append(bucket.buffer().numel())
        future = torch.futures.Future()
        future.set_result(bucket.buffer())
        return future

    model = frozen_norms(small)
    network = DistributedDataParallel(model)
    network.register_comm_hook(None, count)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    step = TrainingStep(model, MultiScaleLoss(), optimizer, 1e9, network=network)
    _, expected = updated(model, batch_of(4), 1)
    step(batch_of(4), micro_batches=4)
    assert sum(exchanged) == sum(parameter.numel() for parameter in model.parameters())
    difference = gradient_of(model) - gradient_of(expected)
    assert difference.norm() <= 1e-6 * gradient_of(expected).norm()


def test_a_killed_run_with_accumulation_ends_as_one_that_never_stopped(reside, tmp_path):
    whole = train_tiny(reside, tmp_path / "whole", *ACCUMULATE)
    assert (whole.returncode, whole.stderr) == (0, "")
    last = weights_of(tmp_path / "whole")
    assert (last["progress"]["step"], int(last["optimizer"]["state"][0]["step"])) == (6, 6)
    kill_when(tiny_training(reside, tmp_path / "part", *ACCUMULATE), "epoch 1/3")
    resumed = train_tiny(reside, tmp_path / "part", *ACCUMULATE, "--resume=auto")
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.startswith("resuming ")
    assert_same_run(weights_of(tmp_path / "part"), last)
    curves = EventAccumulator(str(tmp_path / "part")).Reload()
    assert [event.step for event in curves.Scalars("loss/total")] == list(range(1, 7))


def test_another_accumulation_on_resuming_is_said(trained, tmp_path):
    root, *_ = trained
    assert train_tiny(root, tmp_path, "--train.batch_size=4", "--train.epochs=2").returncode == 0
    result = train_tiny(root, tmp_path, "--train.batch_size=4", "--train.accumulate=2", "--resume=auto")
    assert result.returncode == 0, result.stderr
    assert "from step 5 on: train.accumulate: " in result.stdout


def test_micro_batches_of_one_image_are_warned_of(trained, tmp_path):
    root, *_ = trained
    result = train_tiny(root, tmp_path, "--train.batch_size=4", "--train.accumulate=4", "--train.epochs=2")
    assert result.returncode == 0
    (line,) = result.stderr.splitlines()
    assert line.startswith("warning: train.accumulate: with 4, micro-batches have a single image")
    assert "; a train.batch_size of 8 gives each two" in line


def test_more_micro_batches_than_images_are_refused(trained, tmp_path):
    root, *_ = trained
    assert_refused(
        train_tiny(root, tmp_path / "out", "--train.accumulate=3"), "train.accumulate: 3", "train.batch_size", "is 2"
    )
    assert_refused(train_tiny(root, tmp_path / "out", "--train.accumulate=0"), "train.accumulate", "from 1 to")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_two_processes_with_accumulation_have_the_losses_of_one(reside, tmp_path):
    """Batches of 4 and 1, in two micro-batches of one image in each of two processes, or of two images in one."""
    assert train_tiny(reside, tmp_path / "one", *ACCUMULATE).returncode == 0
    result = run_parallel("train.py", *tiny_arguments(reside, tmp_path / "two", *ACCUMULATE))
    assert result.returncode == 0, result.stderr
    one, two = (EventAccumulator(str(tmp_path / name)).Reload() for name in ("one", "two"))
    for tag in ("loss/content", "loss/fft", "train/grad_norm"):
        values = [[event.value for event in run.Scalars(tag)] for run in (one, two)]
        assert values[1] == pytest.approx(values[0], rel=2e-3)


def test_each_process_needs_an_image_for_each_micro_batch():
    config = parsed("--train.batch_size=4", "--train.accumulate=3")
    with pytest.raises(InputError, match=r"train.accumulate: 3 micro-batches in each of the 2 processes .* least 6"):
        check_batch(config, Group(0, 2, torch.device("cpu")))
    check_batch(config, Group(0, 1, torch.device("cpu")))
