"""Gradual learning-rate warm-up (Goyal et al., "Accurate, Large Minibatch SGD", 2017), followed by any scheduler."""

import warnings

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau


class GradualWarmupScheduler(LRScheduler):
    """Raises the learning rate linearly over ``total_epoch`` steps, then hands over to ``after_scheduler``.

    For a base rate r, after e calls of ``step()``:

    - multiplier 1, e <= total_epoch: ``r * e / total_epoch``, from 0 before the first call to r;
    - multiplier m > 1, e <= total_epoch: ``r * (1 + (m - 1) * e / total_epoch)``, from r to m r;
    - e > total_epoch: m times the rate of ``after_scheduler`` after ``e - total_epoch - 1`` of its own steps; m r
      without an ``after_scheduler``.

    A step can be an epoch or an optimizer step, depending on when the caller calls ``step()``. Call it at the start of
    each epoch to train the first epoch at ``r / total_epoch`` instead of 0.

    Args:
        optimizer: the optimizer; the ``lr`` of its parameter groups are the base rates.
        multiplier: ratio m of the rate after warm-up to the base rate, at least 1.
        total_epoch: number of warm-up steps; 0 for no warm-up.
        after_scheduler: any torch scheduler, created beforehand on the same optimizer. For ``ReduceLROnPlateau``,
            ``step(metrics=...)`` passes the metric on.

    Raises:
        ValueError: multiplier is less than 1, total_epoch is negative, or after_scheduler has another optimizer.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        multiplier: float,
        total_epoch: int,
        after_scheduler: LRScheduler | None = None,
    ) -> None:
        if multiplier < 1:
            raise ValueError(f"multiplier must be at least 1, not {multiplier}")
        if total_epoch < 0:
            raise ValueError(f"total_epoch must not be negative, not {total_epoch}")
        if after_scheduler is not None and after_scheduler.optimizer is not optimizer:
            raise ValueError("after_scheduler belongs to another optimizer")
        self.optimizer = optimizer
        self.multiplier = multiplier
        self.total_epoch = total_epoch
        self.after_scheduler = after_scheduler
        # Creating after_scheduler has set the rates to its own initial ones: keep these for the hand-over, and use the
        # rates from before as base rates.
        self.after_lrs = [float(group["lr"]) * multiplier for group in optimizer.param_groups]
        self.base_lrs = [float(group.setdefault("initial_lr", group["lr"])) for group in optimizer.param_groups]
        if hasattr(after_scheduler, "base_lrs"):
            after_scheduler.base_lrs = [lr * multiplier for lr in after_scheduler.base_lrs]
        self.last_epoch = 0
        self._set_lrs(self._warmup_lrs())

    def step(self, epoch: None = None, metrics: float | None = None) -> None:
        """Advance by one step; ``metrics`` goes to ``ReduceLROnPlateau`` once warm-up has ended."""
        if epoch is not None:
            raise ValueError("step(epoch) is not supported; call step() without an epoch, once per step")
        self.last_epoch += 1
        if self.last_epoch <= self.total_epoch:
            self._set_lrs(self._warmup_lrs())
        elif self.last_epoch == self.total_epoch + 1:
            self._set_lrs(self.after_lrs if self.after_scheduler else self._warmup_lrs())
        elif isinstance(self.after_scheduler, ReduceLROnPlateau):
            self.after_scheduler.step(metrics)
        elif self.after_scheduler is not None:
            with warnings.catch_warnings():
                # After resuming, the optimizer has not stepped yet in this process.
                warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
                self.after_scheduler.step()
        self._last_lr = [float(group["lr"]) for group in self.optimizer.param_groups]

    def get_lr(self) -> list[float]:
        """The current learning rates, one per parameter group."""
        return self.get_last_lr()

    def state_dict(self) -> dict:
        """The state as numbers and lists only, which ``torch.load(weights_only=True)`` can load."""
        state = {name: value for name, value in self.__dict__.items() if name not in ("optimizer", "after_scheduler")}
        if self.after_scheduler is not None:
            state["after_scheduler"] = self.after_scheduler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore a saved state and the optimizer's rates, whichever of the two states is loaded first."""
        state = dict(state_dict)
        after = state.pop("after_scheduler", None)
        if (after is None) != (self.after_scheduler is None):
            raise ValueError("the state was saved " + ("without" if after is None else "with") + " an after_scheduler")
        if after is not None:
            self.after_scheduler.load_state_dict(after)
        self.__dict__.update(state)
        self._set_lrs(self._last_lr)

    def _warmup_lrs(self) -> list[float]:
        done = min(1.0, self.last_epoch / self.total_epoch) if self.total_epoch else 1.0
        if self.multiplier == 1:
            return [lr * done for lr in self.base_lrs]
        return [lr * (1 + (self.multiplier - 1) * done) for lr in self.base_lrs]

    def _set_lrs(self, lrs: list[float]) -> None:
        for group, lr in zip(self.optimizer.param_groups, lrs, strict=True):
            group["lr"] = lr
        self._last_lr = list(lrs)
