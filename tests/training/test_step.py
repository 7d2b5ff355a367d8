"""The network against the reference values, and what the paper's switches change."""

import copy

import numpy as np
import pytest
import torch
from conftest import (
    REFERENCE,
    SHORT,
    formula_images,
    released_state_dict,
    train_tiny,
    weights_of,
    write_reside,
)

from benchmarks.speed import with_random_attention
from losses import MultiScaleLoss
from models import IRNeXt, build_model, load_weights
from models.released import rename
from utils.compiling import compiled


@pytest.fixture(scope="module")
def golden():
    return np.load(REFERENCE / "irnext_n4.npz")


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


@pytest.fixture
def small():
    torch.manual_seed(0)
    return with_random_attention(build_model(num_blocks=2, channels=16))


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


@pytest.fixture(scope="module")
def short_runs(tmp_path_factory):
    """A data set, and the folders of the same short training in float32 and in bf16."""
    root = write_reside(tmp_path_factory.mktemp("precision") / "reside", hazes=6)
    for precision in ("float32", "bf16"):
        result = train_tiny(root, root / precision, *SHORT, f"--train.precision={precision}")
        assert result.returncode == 0, result.stderr
    return root


def test_a_short_training_in_bf16_ends_where_that_in_float32_does(short_runs):
    ends = [weights_of(short_runs / precision, "best.pt")["psnr"] for precision in ("float32", "bf16")]
    assert ends[0] != ends[1]
    assert abs(ends[0] - ends[1]) < 0.1
