"""The moving average of the weights against torch's own."""

import copy

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.moving_average import MovingAverage


def change(model: torch.nn.Module) -> None:
    """Other weights and running statistics, as a training step leaves them."""
    model(torch.randn(4, 3, 8, 8))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))


@pytest.mark.parametrize("updates_before", [0, 1, 3])
def test_it_has_the_values_of_torchs_average_bit_for_bit_also_from_its_checkpoint(updates_before):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    ours = MovingAverage(model, 0.9)
    for _ in range(updates_before):
        change(model)
        theirs.update_parameters(model)
    ours.load_state_dict(copy.deepcopy(theirs.state_dict()))
    for _ in range(3):
        change(model)
        for average in (theirs, ours):
            average.update_parameters(model)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name
