"""Batch norm over the images of all processes.

A module of its own, to be imported where it is used: naming the compiler, as it has to, imports it, and that would be
a third of the time in which a script starts.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn


class SyncedBatchNorm(nn.BatchNorm2d):
    """Batch norm whose statistics are those of the batches of all processes together, on any backend.

    torch's own SyncBatchNorm computes on GPUs only. The statistics are exchanged as sums, so that the processes' shares
    of the batch may differ. A batch that is not finite leaves the running statistics as they are.
    """

    @torch.compiler.disable  # the exchange is none of the compiler's
    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        if not self.training:
            return super().forward(x)
        channels = x.shape[1]
        count = x.new_full((1,), x.numel() / channels)
        sums = _SumOverProcesses.apply(torch.cat([x.sum((0, 2, 3)), x.square().sum((0, 2, 3)), count]))
        total, squares, count = sums.split([channels, channels, 1])
        mean = total / count
        variance = (squares / count - mean.square()).clamp_min(0)
        with torch.no_grad():
            self.num_batches_tracked += 1
            for value, new in ((self.running_mean, mean), (self.running_var, variance * count / (count - 1))):
                value.lerp_(torch.where(new.isfinite(), new, value), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (x - mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]


class _SumOverProcesses(torch.autograd.Function):
    """Each process's result depends on the values of all, so that its gradient goes to all of them."""

    @staticmethod
    def forward(ctx, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def synchronise_batch_norm(model: nn.Module) -> None:
    """Put ``SyncedBatchNorm`` in the place of each batch norm of ``model``; names, weights and statistics stay."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                synced = SyncedBatchNorm(child.num_features, child.eps, child.momentum, device=child.weight.device)
                synced.load_state_dict(child.state_dict())
                setattr(parent, name, synced)
