"""The network against the reference values, and what the paper's switches change."""

import numpy as np
import pytest
import torch
from conftest import REFERENCE, assert_outputs, formula_images, released_state_dict
from torch.utils.flop_counter import FlopCounterMode

from losses import MultiScaleLoss
from models import IRNeXt, build_model, load_model, load_weights
from models.layers import LocalAttentionModule, filter_each, window_mean
from models.released import model_options, rename


@pytest.fixture(scope="module")
def golden():
    return np.load(REFERENCE / "irnext_n4.npz")


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_outputs_agree_with_the_released_network(released_file, golden, mode):
    model = IRNeXt()
    load_weights(model, released_file)
    model.train(mode == "train")
    assert_outputs(model(formula_images(7)), golden, f"{mode}_out")


def test_six_training_steps_agree_with_the_released_code(released_file, golden):
    model = IRNeXt()
    load_weights(model, released_file)
    model.train()
    criterion = MultiScaleLoss(fft_weight=0.1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    for step, (content, fft, norm) in enumerate(golden["train_steps"]):
        loss = criterion(model(formula_images(107 + step)), formula_images(207 + step))
        assert loss.content.item() == pytest.approx(content, rel=1e-3)
        assert loss.fft.item() == pytest.approx(fft, rel=1e-3)
        assert loss.total.item() == pytest.approx(content + 0.1 * fft, rel=1e-3)
        optimizer.zero_grad()
        loss.total.backward()
        assert torch.nn.utils.clip_grad_norm_(model.parameters(), 0.001).item() == pytest.approx(norm, rel=1e-2)
        optimizer.step()
    names = [ours for ours in rename(released_state_dict("released_state_dict.json"))]
    state = model.state_dict()
    after = np.array([state[name].abs().float().mean().item() for name in names])
    np.testing.assert_allclose(after, golden["after_mean_abs"], rtol=1e-3, atol=1e-6)


def test_deblurring_variant_agrees_and_is_recognised_by_its_depth(tmp_path):
    torch.save({"model": released_state_dict("released_state_dict_14.json")}, tmp_path / "gopro.pkl")
    model = load_model(tmp_path / "gopro.pkl")
    assert not model.training
    with torch.no_grad():
        assert_outputs(model(formula_images(7, 2, 128, 160)), np.load(REFERENCE / "irnext_n14_window.npz"), "eval_out")


@pytest.mark.parametrize("num_blocks, parameters", [(4, 5_455_241), (8, 8_555_401), (14, 13_205_641), (16, 14_755_721)])
def test_parameter_counts(num_blocks, parameters):
    assert sum(parameter.numel() for parameter in IRNeXt(num_blocks).parameters()) == parameters


@pytest.mark.parametrize("num_blocks, gmacs", [(4, 38.7), (8, 67.7)])
def test_multiply_accumulates(num_blocks, gmacs):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        IRNeXt(num_blocks)(torch.rand(1, 3, 256, 256))
    assert counter.get_total_flops() / 2e9 == pytest.approx(gmacs, abs=0.1)


def textbook_attention(module: LocalAttentionModule, x: torch.Tensor) -> torch.Tensor:
    """The attention as the equations have it, one neighbour of each pixel after the other, in float64."""
    n, c, height, width = x.shape
    mean = x.mean((2, 3), keepdim=True)
    taps = module.filter_of(mean).view(n, module.groups, 9)
    taps = taps.repeat_interleave(c // module.groups, dim=1)
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
    filtered = torch.zeros_like(x)
    for index in range(9):
        row, column = divmod(index, 3)
        filtered += taps[:, :, index, None, None] * padded[:, :, row : row + height, column : column + width]
    w, a, b = (
        parameter[:, None, None] for parameter in (module.modulation, module.filtered_weight, module.identity_weight)
    )
    low = mean if module.mean_window is None else window_mean(x, module.mean_window)
    return a * ((w + 1) * filtered - w * low) + (b + 1) * x


@pytest.mark.parametrize("mean_window", [None, 120 / 256])
def test_attention_equals_its_equations_forward_and_backward(mean_window):
    torch.manual_seed(0)
    module = LocalAttentionModule(16, mean_window=mean_window).double()
    for parameter in (module.modulation, module.filtered_weight, module.identity_weight):
        torch.nn.init.normal_(parameter)
    x = torch.randn(3, 16, 9, 13, dtype=torch.float64, requires_grad=True)
    wanted = [x, *module.parameters()]
    ours = torch.autograd.grad(module(x).square().sum(), wanted)
    textbook = torch.autograd.grad(textbook_attention(module, x).square().sum(), wanted)
    torch.testing.assert_close(module(x), textbook_attention(module, x))
    torch.testing.assert_close(ours, textbook)


def test_attention_starts_as_the_identity():
    x = torch.randn(2, 32, 8, 8)
    torch.testing.assert_close(LocalAttentionModule(32)(x), x)


@pytest.mark.parametrize("height, width, window", [(9, 13, 120 / 256), (8, 8, 1.0), (5, 7, 0.01), (64, 40, 0.3)])
def test_window_mean_equals_pooling(height, width, window):
    x = torch.randn(2, 3, height, width)
    rows, columns = max(1, int(window * height)), max(1, int(window * width))
    pooled = torch.nn.functional.avg_pool2d(x, (rows, columns), stride=1)
    top, left = (rows - 1) // 2, (columns - 1) // 2
    padding = (left, columns - 1 - left, top, rows - 1 - top)
    expected = torch.nn.functional.pad(pooled, padding, mode="replicate")
    torch.testing.assert_close(window_mean(x, window), expected, atol=1e-5, rtol=1e-5)


def test_filter_each_uses_each_images_own_filter():
    kernel = torch.zeros(2, 2, 3, 3)
    kernel[0, :, 1, 1] = 1
    kernel[1, :, 1, 0] = 1  # takes the left neighbour; the border reflects
    x = torch.arange(24.0).view(2, 2, 2, 3)
    filtered = filter_each(x, kernel)
    torch.testing.assert_close(filtered[0], x[0])
    torch.testing.assert_close(filtered[1], x[1][..., [1, 0, 1]])


@pytest.mark.parametrize(
    "options",
    [
        {"pool_sizes": ()},
        {"local_attention": False},
        {"frequency_modulation": False},
        {"pool_sizes": (4, 2)},
        {"pool_sizes": (16, 8, 4, 2)},
    ],
)
def test_ablations_train_and_differ(options):
    torch.manual_seed(0)
    model = IRNeXt(num_blocks=1, channels=8, **options)
    whole = IRNeXt(num_blocks=1, channels=8)
    own = sum(parameter.numel() for parameter in model.parameters())
    assert own != sum(parameter.numel() for parameter in whole.parameters())
    side = model.min_size
    outputs = model(torch.rand(2, 3, side, side))
    sum(output.sum() for output in outputs).backward()
    assert [output.shape[-1] for output in outputs] == [side // 4, side // 2, side]


def test_one_image_per_batch_trains():
    """Batch norm over one value per channel has no variance: the attention takes its running statistics."""
    model = IRNeXt(num_blocks=1, channels=8).train()
    statistics = {name: value.clone() for name, value in model.named_buffers()}
    model(torch.rand(1, 3, 64, 64))[-1].sum().backward()
    assert all(torch.equal(value, statistics[name]) for name, value in model.named_buffers())
    model(torch.rand(2, 3, 64, 64))
    assert not all(torch.equal(value, statistics[name]) for name, value in model.named_buffers())


@pytest.mark.parametrize("shape", [(1, 3, 70, 96), (1, 3, 64, 90), (1, 3, 32, 64), (1, 1, 64, 64), (3, 64, 64)])
def test_sizes_that_do_not_fit_are_named(shape):
    with pytest.raises(ValueError, match="IRNeXt takes"):
        IRNeXt(num_blocks=1, channels=8)(torch.rand(shape))


@pytest.mark.parametrize(
    "options", [{"num_blocks": 0}, {"channels": 12}, {"mean_window": 1.5}, {"pool_sizes": (2, 4)}, {"name": "unet"}]
)
def test_wrong_options_are_named(options):
    with pytest.raises(ValueError, match=next(iter(options)).replace("name", "unknown model")):
        build_model(**options)


def test_every_released_name_is_mapped_once():
    released = released_state_dict("released_state_dict_14.json")
    renamed = rename(released)
    assert len(renamed) == len(released)
    assert renamed.keys() == IRNeXt(num_blocks=14).state_dict().keys()
    assert model_options(released)["num_blocks"] == 14
