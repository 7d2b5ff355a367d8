"""Data-parallel training over several processes."""

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from utils.distributed import Group


def synchronised(model: nn.Module, group: Group) -> nn.Module:
    """The model with batch norm over the batches of all processes; unchanged in a group of one."""
    if group.size > 1:
        from training.synced_batch_norm import synchronise_batch_norm  # imports the compiler, which is slow

        synchronise_batch_norm(model)
    return model


def distributed(model: nn.Module, group: Group) -> nn.Module:
    """The model with gradients averaged over all processes; unchanged in a group of one."""
    return model if group.size == 1 else DistributedDataParallel(model)
