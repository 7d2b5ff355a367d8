"""Data-parallel training over several processes."""

import sys
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from utils.compiling import Network
from utils.config import Config
from utils.distributed import Group, separate_group


def synchronised(model: nn.Module, group: Group) -> nn.Module:
    """The model with batch norm over the batches of all processes; unchanged in a group of one."""
    if group.size > 1:
        from training.synced_batch_norm import synchronise_batch_norm  # imports the compiler, which is slow

        synchronise_batch_norm(model)
    return model


def distributed(model: nn.Module, forward: Network, group: Group) -> Network:
    """``forward``, which is the model or compiled from it, with gradients averaged over all processes.

    The gradients have a process group of their own. In eager mode they are exchanged during the backward pass, between
    the exchanges of the batch norms; in a compiled network after it. In separate groups the order does not matter, so a
    process in which compilation failed works with others in which it did not.
    """
    if group.size == 1:
        return forward
    module = model if forward is model else _Forward(model, forward)
    return DistributedDataParallel(module, process_group=separate_group())


def warn_of_single_images(config: Config, model: nn.Module, frozen: Sequence[nn.Module], group: Group) -> None:
    """Warn on stderr if accumulation leaves batch norm one image at a time, whose statistics it cannot learn."""
    train = config.train
    has_norm = any(isinstance(module, nn.BatchNorm2d) and module not in frozen for module in model.modules())
    together = group.size if train.sync_batch_norm else 1
    if train.accumulate > 1 and has_norm and together * train.batch_size < 2 * group.size * train.accumulate:
        print(
            f"warning: train.accumulate: with {train.accumulate}, micro-batches have a single image, so batch norm "
            f"uses its running statistics and does not update them; a train.batch_size of "
            f"{2 * group.size * train.accumulate} gives each two",
            file=sys.stderr,
        )


class _Forward(nn.Module):
    """The parameters of ``model`` with another forward pass, for DistributedDataParallel."""

    def __init__(self, model: nn.Module, forward: Network) -> None:
        super().__init__()
        self.model, self.compute = model, forward

    def forward(self, x: Tensor) -> list[Tensor]:
        """As ``model``."""
        return self.compute(x)
