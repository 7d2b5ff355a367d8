"""The attention and its parts against their equations."""

import pytest
import torch

from benchmarks.textbook import TextbookAttention
from inference.tiled import TiledForward
from models.layers import BatchNorm, LocalAttentionModule, depthwise_conv, reflect_by_slices, window_mean


@pytest.mark.parametrize("mean_window", [None, 120 / 256])
def test_attention_equals_its_equations_forward_and_backward(mean_window):
    torch.manual_seed(0)
    module = LocalAttentionModule(16, mean_window=mean_window).double()
    for parameter in (module.modulation, module.filtered_weight, module.identity_weight):
        torch.nn.init.normal_(parameter)
    x = torch.randn(3, 16, 9, 13, dtype=torch.float64, requires_grad=True)
    outputs = [attention(x) for attention in (module, TextbookAttention(module))]
    torch.testing.assert_close(*outputs)
    gradients = [torch.autograd.grad(output.square().sum(), [x, *module.parameters()]) for output in outputs]
    torch.testing.assert_close(*gradients)


def test_attention_starts_as_the_identity():
    x = torch.randn(2, 32, 8, 8)
    torch.testing.assert_close(LocalAttentionModule(32)(x), x)


@pytest.mark.parametrize("mean_window", [None, 120 / 256])
def test_attention_starts_as_the_exact_identity_in_half_precision(mean_window):
    x = torch.randn(2, 32, 8, 8).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(LocalAttentionModule(32, mean_window=mean_window)(x), x)


@pytest.mark.parametrize("weight", ["identity_weight", "filtered_weight"])
def test_half_precision_does_not_round_small_weights_away_beside_the_identity(weight):
    """At least 95% of the outputs are the exact ones, rounded once."""
    torch.manual_seed(0)
    module = LocalAttentionModule(32).eval()
    torch.nn.init.uniform_(getattr(module, weight), -0.01, 0.01)
    x = torch.rand(2, 32, 32, 32).bfloat16()
    with torch.no_grad():
        exact = module.double()(x.double()).bfloat16()
        with torch.autocast("cpu", torch.bfloat16):
            rounded = module.float()(x)
    assert (rounded == exact).float().mean() > 0.95


@pytest.mark.parametrize("height, width, window", [(9, 13, 120 / 256), (8, 8, 1.0), (5, 7, 0.01), (64, 40, 0.3)])
def test_window_mean_equals_pooling(height, width, window):
    x = torch.randn(2, 3, height, width)
    rows, columns = max(1, int(window * height)), max(1, int(window * width))
    pooled = torch.nn.functional.avg_pool2d(x, (rows, columns), stride=1)
    top, left = (rows - 1) // 2, (columns - 1) // 2
    padding = (left, columns - 1 - left, top, rows - 1 - top)
    expected = torch.nn.functional.pad(pooled, padding, mode="replicate")
    torch.testing.assert_close(window_mean(x, window), expected, atol=1e-5, rtol=1e-5)


def test_depthwise_conv_uses_each_images_own_filter():
    kernel = torch.zeros(2, 2, 3, 3)
    kernel[0, :, 1, 1] = 1
    kernel[1, :, 1, 0] = 1  # takes the left neighbour; the border reflects
    x = torch.arange(24.0).view(2, 2, 2, 3)
    filtered = depthwise_conv(x, kernel)
    torch.testing.assert_close(filtered[0], x[0])
    torch.testing.assert_close(filtered[1], x[1][..., [1, 0, 1]])


@pytest.mark.parametrize("whole", [True, False])
def test_what_reads_the_image_stays_float32_whole_and_in_tiles(small, whole):
    kinds = {}
    for name, module in small.eval().named_modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda module, x, y, name=name: kinds.update({name: y.dtype}))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        (small if whole else TiledForward(small, 64))(torch.rand(1, 3, 128, 128))
    reading = {name for name in kinds if name.startswith(("embed", "shallow"))}
    assert len(reading) == 9
    assert {kinds[name] for name in reading} == {torch.float32}
    assert kinds["heads.2"] == torch.bfloat16


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_batch_that_is_not_finite_leaves_the_running_statistics_alone(value):
    norm = BatchNorm(2)
    x = torch.randn(4, 2, 1, 1)
    x[0, 0] = value
    norm(x)
    assert norm.running_mean[0] == 0
    assert norm.running_var[0] == 1
    assert norm.running_mean[1] != 0


def test_deterministic_reflection_is_that_of_the_padding():
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64, requires_grad=True)
    for margin in (1, 2):
        expected = torch.nn.functional.pad(x, (margin,) * 4, mode="reflect")
        reflected = reflect_by_slices(x, margin)
        weights = torch.randn_like(expected)
        assert torch.equal(reflected, expected)
        torch.testing.assert_close(
            *(torch.autograd.grad((padded * weights).sum(), x) for padded in (reflected, expected))
        )
