"""The network against the reference values and its textbook formulation: values, memory, structure."""

import copy

import numpy as np
import pytest
import torch
from conftest import (
    REFERENCE,
    assert_outputs,
    formula_images,
    released_state_dict,
)
from torch.profiler import ProfilerActivity, profile

from benchmarks.speed import with_random_attention
from benchmarks.textbook import TextbookIRNeXt
from losses import MultiScaleLoss
from models import IRNeXt, build_model, load_model, load_weights
from utils.live_bytes import LiveBytes


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_outputs_agree_with_the_released_network(released_file, golden, mode):
    model = IRNeXt()
    load_weights(model, released_file)
    model.train(mode == "train")
    assert_outputs(model(formula_images(7)), golden, f"{mode}_out")


def test_deblurring_variant_agrees_and_is_recognised_by_its_depth(tmp_path):
    torch.save({"model": released_state_dict("released_state_dict_14.json")}, tmp_path / "gopro.pkl")
    model = load_model(tmp_path / "gopro.pkl")
    assert not model.training
    with torch.no_grad():
        assert_outputs(model(formula_images(7, 2, 128, 160)), np.load(REFERENCE / "irnext_n14_window.npz"), "eval_out")


@pytest.mark.parametrize("num_blocks, parameters", [(4, 5_455_241), (8, 8_555_401), (14, 13_205_641), (16, 14_755_721)])
def test_parameter_counts(num_blocks, parameters):
    assert sum(parameter.numel() for parameter in IRNeXt(num_blocks).parameters()) == parameters


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
    with pytest.raises(ValueError, match="IRNeXt needs"):
        IRNeXt(num_blocks=1, channels=8)(torch.rand(shape))


WRONG_OPTIONS = {
    "name": ["unet", "u" * 1_000_000, ["irnext"], {}, None, 3],
    "num_blocks": [0, -4, 257, 10**5, 10**9, 10**5000, 4.0, float("nan"), True, "4", None, [4], torch.tensor(4)],
    "channels": [0, 12, 264, 8_000, 8_000_000, 10**5000, 32.0, float("inf"), "32", None, (32,)],
    "mean_window": [0, 1.5, -0.5, float("nan"), float("inf"), True, "0.5", [0.5], 1j],
    "pool_sizes": [
        *[(2, 4), (4, 4), (0,), (-2,), (512,), (10**9,), (10**5000, 2), (2.0,), (True,), ("2",), (None,), ([2],)],
        *[8, None, "842", {8: 4}, tuple(range(10**6, 0, -1)), (256, 255), (127, 64)],
    ],
    "local_attention": [0, 1, None, "no", []],
    "frequency_modulation": [0.0, "true", None],
}


@pytest.mark.parametrize("option", WRONG_OPTIONS)
def test_wrong_options_are_named_before_anything_is_built(option, monkeypatch):
    monkeypatch.setattr(torch.nn, "Conv2d", None)
    for value in WRONG_OPTIONS[option]:
        with pytest.raises(ValueError, match=option.replace("name", "unknown model")) as error:
            build_model(**{option: value})
        assert len(str(error.value)) < 200


def test_blocks_and_channels_are_bounded_together():
    with pytest.raises(ValueError, match="num_blocks x channels"):
        build_model(num_blocks=17, channels=256)
    with torch.device("meta"):
        largest = build_model(num_blocks=16, channels=256)
    assert 0.9e9 < sum(parameter.numel() for parameter in largest.parameters()) < 1.1e9


@pytest.mark.parametrize("options", [{}, {"mean_window": 120 / 256}, {"frequency_modulation": False}])
def test_the_network_is_its_textbook_formulation_forward_and_backward(options):
    torch.manual_seed(0)
    ours = with_random_attention(build_model(num_blocks=2, channels=8, **options)).double()
    textbook = TextbookIRNeXt(ours)
    x, target = torch.rand(2, 2, 3, 64, 96, dtype=torch.float64)
    gradients = []
    for model in (ours, textbook):
        outputs = model(x)
        loss = MultiScaleLoss()(outputs, target).total
        gradients.append((outputs, torch.autograd.grad(loss, list(model.parameters()))))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


def operations(model: torch.nn.Module) -> set[str]:
    """The names of what runs in a forward and backward pass."""
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        MultiScaleLoss()(model(torch.rand(2, 3, 64, 64)), torch.rand(2, 3, 64, 64)).total.backward()
    return {event.key for event in trace.key_averages()}


def test_no_pixel_neighbourhood_is_copied(small):
    unfolding = {"aten::im2col", "aten::col2im"}
    assert not operations(small) & unfolding
    assert operations(TextbookIRNeXt(small)) & unfolding == unfolding


def training_peak(model: torch.nn.Module) -> int:
    x, target = torch.rand(2, 2, 3, 128, 128)
    with LiveBytes() as live:
        MultiScaleLoss()(model(x), target).total.backward()
    return live.peak


def test_training_needs_seven_tenths_of_the_textbooks_memory():
    model = with_random_attention(build_model(num_blocks=4, channels=16))
    assert training_peak(model) < 0.7 * training_peak(TextbookIRNeXt(model))


def restoring_peak(model: torch.nn.Module) -> int:
    with torch.inference_mode(), LiveBytes() as live:
        model.eval()(torch.rand(1, 3, 128, 128))
    return live.peak


def test_restoring_needs_two_thirds_of_the_textbooks_memory(small):
    assert restoring_peak(small) < 0.7 * restoring_peak(TextbookIRNeXt(small))


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_features_keep_the_memory_format_of_the_weights(small, memory_format):
    kept = []
    small.to(memory_format=memory_format)
    for module in small.modules():
        if isinstance(module, torch.nn.Conv2d) and module.kernel_size == (3, 3) and module.in_channels > 3:
            module.register_forward_pre_hook(
                lambda module, inputs: kept.append(inputs[0].is_contiguous(memory_format=memory_format))
            )
    small(torch.rand(2, 3, 64, 64).contiguous(memory_format=memory_format))
    assert len(kept) > 50
    assert all(kept)


def test_both_memory_formats_train_alike(small):
    x, target = torch.rand(2, 2, 3, 64, 96)
    results = []
    for memory_format in (torch.channels_last, torch.contiguous_format):
        model = copy.deepcopy(small).to(memory_format=memory_format)
        loss = MultiScaleLoss()(model(x), target).total
        loss.backward()
        results.append((loss.detach(), [parameter.grad for parameter in model.parameters()]))
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-5)
