"""Exponential moving average of the weights."""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class MovingAverage(AveragedModel):
    """torch's ``AveragedModel``, with the same state dict and values but an update that does not wait for the device.

    In each update, torch reads ``n_averaged`` on the host and copies it to the device; both wait for all queued work.

    Args:
        model: the model whose weights are averaged; the first update copies them.
        decay: d in average <- d * average + (1 - d) * weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self._is_empty: bool | None = None  # read once from n_averaged, which a checkpoint may set

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Update the average with the weights of ``model`` and copy its buffers."""
        if self._is_empty is None:
            self._is_empty = bool(self.n_averaged == 0)
        average, weights = list(self.module.parameters()), list(model.parameters())
        if self._is_empty:
            torch._foreach_copy_(average, weights)
        else:
            self.multi_avg_fn(average, weights, self.n_averaged)
        for buffer, current in zip(self.module.buffers(), model.buffers(), strict=True):
            buffer.copy_(current)
        self.n_averaged += 1
        self._is_empty = False
