import io
import math
import warnings

import pytest
import torch
from torch.optim import lr_scheduler as torch_schedulers
from warmup_scheduler import GradualWarmupScheduler

pytestmark = pytest.mark.filterwarnings("error")


def make_optimizer(*lrs: float) -> torch.optim.Optimizer:
    return torch.optim.Adam([{"params": [torch.nn.Parameter(torch.ones(2))], "lr": lr} for lr in lrs or (1e-4,)])


def rates(scheduler: GradualWarmupScheduler, steps: int) -> list[list[float]]:
    """The rates in force after each of ``steps`` steps, with a real optimizer step before each."""
    history = []
    for _ in range(steps):
        for group in scheduler.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.ones_like(parameter)
        scheduler.optimizer.step()
        scheduler.step()
        history.append([group["lr"] for group in scheduler.optimizer.param_groups])
    return history


def cosine(step: int, length: int, lr: float = 1e-4, least: float = 1e-6) -> float:
    return least + (lr - least) * (1 + math.cos(math.pi * step / length)) / 2


def test_warmup_then_cosine_follows_the_closed_form():
    optimizer = make_optimizer()
    after = torch_schedulers.CosineAnnealingLR(optimizer, T_max=97, eta_min=1e-6)
    scheduler = GradualWarmupScheduler(optimizer, multiplier=1, total_epoch=3, after_scheduler=after)
    assert optimizer.param_groups[0]["lr"] == 0
    got = [lr for (lr,) in rates(scheduler, 100)]
    expected = [1e-4 / 3, 2e-4 / 3, 1e-4] + [cosine(step, 97) for step in range(97)]
    assert got == pytest.approx(expected, rel=1e-9)


def test_each_group_keeps_its_own_base_rate_and_the_multiplier_carries_over():
    optimizer = make_optimizer(1e-3, 1e-4)
    after = torch_schedulers.StepLR(optimizer, step_size=2, gamma=0.1)
    scheduler = GradualWarmupScheduler(optimizer, multiplier=8, total_epoch=2, after_scheduler=after)
    assert scheduler.get_last_lr() == [1e-3, 1e-4]
    got = rates(scheduler, 6)
    expected = [[4.5e-3, 4.5e-4], [8e-3, 8e-4], [8e-3, 8e-4], [8e-3, 8e-4], [8e-4, 8e-5], [8e-4, 8e-5]]
    assert got == [pytest.approx(pair) for pair in expected]


def test_without_after_scheduler_or_without_warmup():
    assert rates(GradualWarmupScheduler(make_optimizer(), 1, 2), 4) == [[5e-5], [1e-4], [1e-4], [1e-4]]
    optimizer = make_optimizer()
    after = torch_schedulers.ExponentialLR(optimizer, 0.5)
    scheduler = GradualWarmupScheduler(optimizer, 1, 0, after)
    assert optimizer.param_groups[0]["lr"] == 1e-4
    assert [lr for (lr,) in rates(scheduler, 3)] == pytest.approx([1e-4, 5e-5, 2.5e-5])


def test_plateau_gets_the_metric_only_after_warmup():
    optimizer = make_optimizer()
    after = torch_schedulers.ReduceLROnPlateau(optimizer, factor=0.1, patience=0)
    scheduler = GradualWarmupScheduler(optimizer, 1, 2, after)
    got = []
    for metric in (9.0, 9.0, 9.0, 5.0, 6.0):
        scheduler.step(metrics=metric)
        got.append(optimizer.param_groups[0]["lr"])
    assert got == pytest.approx([5e-5, 1e-4, 1e-4, 1e-4, 1e-5])


AFTER = {
    "cosine": lambda o: torch_schedulers.CosineAnnealingLR(o, T_max=9, eta_min=1e-6),
    "restarts": lambda o: torch_schedulers.CosineAnnealingWarmRestarts(o, T_0=3),
    "step": lambda o: torch_schedulers.StepLR(o, 2),
    "multistep": lambda o: torch_schedulers.MultiStepLR(o, [2, 4]),
    "exponential": lambda o: torch_schedulers.ExponentialLR(o, 0.9),
    "linear": lambda o: torch_schedulers.LinearLR(o, start_factor=0.5, total_iters=4),
    "polynomial": lambda o: torch_schedulers.PolynomialLR(o, total_iters=9),
    "lambda": lambda o: torch_schedulers.LambdaLR(o, lambda step: 0.7 / (step + 1)),
    "cyclic": lambda o: torch_schedulers.CyclicLR(o, 1e-5, 1e-4, step_size_up=3, cycle_momentum=False),
    "none": lambda o: None,
}


@pytest.mark.parametrize("name", [name for name in AFTER if name not in ("none", "cyclic")])
def test_after_warmup_every_scheduler_gives_what_it_gives_alone(name):
    alone = AFTER[name](make_optimizer())
    expected = [alone.get_last_lr()]
    for _ in range(7):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # no optimizer step on this one
            alone.step()
        expected.append(alone.get_last_lr())
    optimizer = make_optimizer()
    scheduler = GradualWarmupScheduler(optimizer, 1, 3, AFTER[name](optimizer))
    assert rates(scheduler, 11)[3:] == [pytest.approx(lrs) for lrs in expected]


@pytest.mark.parametrize("stop", [0, 2, 3, 4, 7])
@pytest.mark.parametrize("name", AFTER)
def test_state_resumes_exactly_through_a_safe_file(name, stop):
    def make():
        optimizer = make_optimizer(1e-4, 3e-4)
        return GradualWarmupScheduler(optimizer, 1, 3, AFTER[name](optimizer))

    whole = rates(make(), 12)
    first = make()
    rates(first, stop)
    file = io.BytesIO()
    torch.save({"scheduler": first.state_dict(), "optimizer": first.optimizer.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    second = make()
    second.optimizer.load_state_dict(state["optimizer"])
    second.load_state_dict(state["scheduler"])
    assert rates(second, 12 - stop) == whole[stop:]


def test_the_scheduler_state_alone_restores_the_rate():
    first = GradualWarmupScheduler(make_optimizer(), 1, 4)
    rates(first, 2)
    second = GradualWarmupScheduler(make_optimizer(), 1, 4)
    second.load_state_dict(first.state_dict())
    assert second.optimizer.param_groups[0]["lr"] == 5e-5


def test_wrong_use_is_refused():
    with pytest.raises(ValueError, match="multiplier"):
        GradualWarmupScheduler(make_optimizer(), 0.5, 3)
    with pytest.raises(ValueError, match="total_epoch"):
        GradualWarmupScheduler(make_optimizer(), 1, -1)
    with pytest.raises(ValueError, match="another optimizer"):
        GradualWarmupScheduler(make_optimizer(), 1, 3, AFTER["step"](make_optimizer()))
    optimizer = make_optimizer()
    scheduler = GradualWarmupScheduler(optimizer, 1, 3, AFTER["step"](optimizer))
    with pytest.raises(ValueError, match="without an after_scheduler"):
        scheduler.load_state_dict(GradualWarmupScheduler(make_optimizer(), 1, 3).state_dict())
