"""The learning rate of the released recipes, from their configurations to the optimizer."""

import json

import pytest
import torch
from conftest import REFERENCE
from torch.optim.lr_scheduler import CosineAnnealingLR
from warmup_scheduler import GradualWarmupScheduler

RATES = json.loads((REFERENCE / "lr_per_epoch.json").read_text())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name, warmup", [("its_300_epochs_warmup_3", 3), ("ots_30_epochs_warmup_1", 1)])
def test_rates_per_epoch_agree_with_the_released_schedule(name, warmup):
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(1))], lr=1e-4)
    cosine = CosineAnnealingLR(optimizer, len(RATES[name]) - warmup, 1e-6)
    scheduler = GradualWarmupScheduler(optimizer, 1, warmup, cosine)
    rates = []
    for _ in RATES[name]:
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
    assert rates == pytest.approx(RATES[name], rel=5e-3)
