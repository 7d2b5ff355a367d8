"""Batch norm over the images of all processes.

Import it where it is used: the functional collectives import the compiler, a third of a script's start-up time.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import _functional_collectives as collectives

# Relative variance of equal values, whose mean is rounded in float64. Different float32 values have more.
ROUNDING = 1e-24


class SyncedBatchNorm(nn.BatchNorm2d):
    """``models.layers.BatchNorm`` with the statistics of the batches of all processes, on any device.

    torch's own SyncBatchNorm runs on GPUs only. Each process contributes its count, means and sums of squared
    deviations, and these are merged (Chan et al., "Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances", 1979). So the processes may have any number of images, and a mean much larger than the standard
    deviation costs no digits. Arithmetic is float64; the attention's features are one value per image and channel.

    If all images in all processes are the same one, as in a last batch that each process gets whole, there is no
    variance, and the running statistics are used. A batch that is not finite does not change them.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W); N may be 0."""
        if not self.training:
            return super().forward(x)
        channels = x.shape[1]
        count = x.numel() // channels
        values = x.double()
        mean = values.sum((0, 2, 3)) / max(count, 1)
        squares = (values - mean[:, None, None]).square().sum((0, 2, 3))
        gathered = _Gather.apply(torch.cat([mean.new_full((1,), count), mean, squares]))
        counts, means, squares = gathered.split([1, channels, channels], dim=1)
        total = counts.sum()
        mean = (counts * means).sum(0) / total
        variance = (squares + counts * (means - mean).square()).sum(0) / total
        several = (variance > ROUNDING * mean.square()).any()
        with torch.no_grad():
            self.num_batches_tracked += several
            for value, new in ((self.running_mean, mean), (self.running_var, variance * total / (total - 1))):
                new = new.to(value.dtype)
                value.lerp_(torch.where(new.isfinite() & several, new, value), self.momentum)
        mean = torch.where(several, mean, self.running_mean)
        variance = torch.where(several, variance, self.running_var)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        normalised = (values - mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]
        return normalised.to(x.dtype)


class _Gather(torch.autograd.Function):
    """A vector (V,) of each process -> all of them (P, V). Each process's result depends on the vectors of all."""

    @staticmethod
    def forward(ctx, values: Tensor) -> Tensor:
        gathered = collectives.all_gather_tensor(values, 0, dist.group.WORLD)
        return collectives.wait_tensor(gathered).view(-1, len(values))

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        total = collectives.wait_tensor(collectives.all_reduce(gradient, "sum", dist.group.WORLD))
        return total[dist.get_rank()]


def synchronise_batch_norm(model: nn.Module) -> None:
    """Replace each batch norm of ``model`` with ``SyncedBatchNorm``; names, weights, statistics and device are kept."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                synced = SyncedBatchNorm(child.num_features, child.eps, child.momentum, device=child.weight.device)
                synced.load_state_dict(child.state_dict())
                setattr(parent, name, synced)
