"""The training step against the released code's, and what it does with a batch that is not finite."""

import copy

import numpy as np
import pytest
import torch
from conftest import (
    formula_images,
    released_state_dict,
    weights_of,
)

from losses import MultiScaleLoss
from models import IRNeXt, load_weights
from models.released import rename
from training.moving_average import MovingAverage
from training.step import TrainingStep
from utils.compiling import compiled


def test_six_training_steps_agree_with_the_released_code(released_file, golden):
    model = IRNeXt()
    load_weights(model, released_file)
    optimizer = torch.optim.Adam(model.train().parameters(), lr=1e-4, fused=True)
    step = TrainingStep(model, MultiScaleLoss(fft_weight=0.1), optimizer, clip_norm=0.001)
    for number, (content, fft, norm) in enumerate(golden["train_steps"]):
        update = step({"input": formula_images(107 + number), "target": formula_images(207 + number)})
        assert update.loss.content.item() == pytest.approx(content, rel=1e-3)
        assert update.loss.fft.item() == pytest.approx(fft, rel=1e-3)
        assert update.loss.total.item() == pytest.approx(content + 0.1 * fft, rel=1e-3)
        assert update.grad_norm.item() == pytest.approx(norm, rel=1e-2)
        assert update.finite
    names = [ours for ours in rename(released_state_dict("released_state_dict.json"))]
    state = model.state_dict()
    after = np.array([state[name].abs().float().mean().item() for name in names])
    np.testing.assert_allclose(after, golden["after_mean_abs"], rtol=1e-3, atol=1e-6)


def random_batch(seed: int) -> dict[str, torch.Tensor]:
    """Two pairs of 64x64 pixels."""
    generator = torch.Generator().manual_seed(seed)
    return {key: torch.rand(2, 3, 64, 64, generator=generator) for key in ("input", "target")}


def descending(model: torch.nn.Module, clip_norm: float, **options) -> TrainingStep:
    """A step that moves the weights by exactly the gradient, clipped to ``clip_norm``."""
    return TrainingStep(
        model, MultiScaleLoss(), torch.optim.SGD(model.parameters(), lr=1, fused=True), clip_norm, **options
    )


def weights_in(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("key", ["input", "target"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_batch_that_is_not_finite_changes_neither_weights_nor_optimizer(small, key, value):
    optimizer = torch.optim.Adam(small.parameters(), fused=True)
    step = TrainingStep(small, MultiScaleLoss(), optimizer, clip_norm=0.1)
    assert step(random_batch(0)).finite
    before = copy.deepcopy([weights_in(small), optimizer.state_dict()["state"]])
    batch = random_batch(1)
    batch[key][1, 0, 5, 5] = value
    assert not step(batch).finite
    torch.testing.assert_close([weights_in(small), optimizer.state_dict()["state"]], before, rtol=0, atol=0)
    assert all(buffer.isfinite().all() for buffer in small.buffers())
    assert step(random_batch(2)).finite
    assert not torch.equal(weights_in(small), before[0])


def test_the_weight_of_a_batch_scales_its_loss_and_its_step(small):
    models = [small, copy.deepcopy(small)]
    start = weights_in(small)
    whole, half = (
        descending(model, clip_norm=1e9)(random_batch(0), weight)
        for model, weight in zip(models, (1.0, 0.5), strict=True)
    )
    torch.testing.assert_close(half.loss.total, 0.5 * whole.loss.total)
    torch.testing.assert_close(half.grad_norm, 0.5 * whole.grad_norm)
    moved, moved_half = (weights_in(model) - start for model in models)
    torch.testing.assert_close(moved_half, 0.5 * moved, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("clip_norm", [1e-3, 1e9])
def test_the_norm_of_the_step_is_that_of_the_gradient_up_to_clip_norm(small, clip_norm):
    model = small.double()
    start = weights_in(model)
    update = descending(model, clip_norm)({key: value.double() for key, value in random_batch(0).items()})
    assert update.grad_norm > 1e-2  # before clipping
    moved = (weights_in(model) - start).norm().item()
    assert moved == pytest.approx(min(clip_norm, update.grad_norm.item()), rel=1e-4)


def test_the_moving_average_follows_each_step(small):
    ema = MovingAverage(small, 0.9)
    step = descending(small, clip_norm=0.1, ema=ema)
    expected = None
    for number in range(3):
        step(random_batch(number))
        expected = weights_in(small) if expected is None else 0.9 * expected + 0.1 * weights_in(small)
        torch.testing.assert_close(weights_in(ema.module), expected)
    assert not torch.allclose(expected, weights_in(small), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_compiled_training_step_is_that_of_the_network(small):
    x, target = torch.rand(2, 2, 3, 64, 64)
    fast = copy.deepcopy(small)
    results = []
    for network, model in ((small, small), (compiled(fast), fast)):
        loss = MultiScaleLoss()(network(x), target).total
        loss.backward()
        results.append((loss.detach(), [parameter.grad for parameter in model.parameters()]))
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-5)


def test_a_short_training_in_bf16_ends_where_that_in_float32_does(short_runs):
    ends = [weights_of(short_runs / precision, "best.pt")["psnr"] for precision in ("float32", "bf16")]
    assert ends[0] != ends[1]
    assert abs(ends[0] - ends[1]) < 0.1
