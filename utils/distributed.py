"""Several processes, one for each GPU, as torchrun starts them; a process that was started alone is a group of one."""

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

from utils.errors import InputError

# Keeps the group until the process ends. DistributedDataParallel would let go of it last, under Python's lock: gloo
# then waits for a thread of its own, which waits for that lock if it has not yet put away the last exchange, and the
# run never ends (seen once).
_joined: list[dist.ProcessGroup] = []


@dataclass(frozen=True)
class Group:
    """The processes of a run, of which this one is number ``rank`` of ``size`` and computes on ``device``."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in some process; each of them has to ask."""
        if self.size == 1:
            return flag
        flags = torch.tensor(int(flag))
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over processes."""
        if self.size > 1:
            dist.all_reduce(values)
        return values / self.size

    def gather(self, items: list) -> list:
        """What was dealt out as ``items[rank::size]``, together again, in every process."""
        if self.size == 1:
            return items
        shards: list[list] = [[] for _ in range(self.size)]
        dist.all_gather_object(shards, items)
        joined = [None] * sum(map(len, shards))
        for rank, shard in enumerate(shards):
            joined[rank :: self.size] = shard
        return joined

    def refuse(self, message: str) -> NoReturn:
        """End every process, each of which calls this, for bad input; the main one says why."""
        if self.size > 1:
            dist.barrier()  # what the main process had to save before it came here is saved
        if self.is_main:
            raise InputError(message)
        sys.exit(2)

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process goes through the block before the others enter it."""
        if self.size > 1 and not self.is_main:
            dist.barrier()
        yield
        if self.size > 1 and self.is_main:
            dist.barrier()


def join_group() -> Group:
    """The group that torchrun's environment variables describe, or this process alone."""
    has_gpu = torch.cuda.is_available()
    if "RANK" not in os.environ:
        return Group(0, 1, torch.device("cuda" if has_gpu else "cpu"))
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if has_gpu else torch.device("cpu")
    if has_gpu:
        torch.cuda.set_device(device)
    # After a restart torchrun's store still has the addresses of the processes before: take none of them for ours.
    store, rank, size = next(dist.rendezvous("env://"))
    store = dist.PrefixStore(f"restart {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    backend = "cpu:gloo,cuda:nccl" if has_gpu else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    _joined.append(dist.group.WORLD)
    return Group(dist.get_rank(), dist.get_world_size(), device)


def leave_group() -> None:
    """Take leave of the others; the last thing that each process does with them."""
    if dist.is_initialized():
        dist.destroy_process_group()


def progress_bar(group: Group, *args, **options) -> tqdm:
    """A bar in the main process alone, and only in a terminal."""
    return tqdm(*args, disable=None if group.is_main else True, **options)
