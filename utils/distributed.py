"""The process group: one process per GPU under torchrun, or a single process."""

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

# Keeps the process group alive until the process exits. Otherwise DistributedDataParallel drops the last reference to
# it while holding the GIL. gloo then joins its worker thread, which waits for the GIL if it is still cleaning up after
# the last collective: a deadlock at the end of the run, seen once.
_joined: list[dist.ProcessGroup] = []

START = (
    "start several processes with torchrun, which sets it (with Slurm: srun --ntasks-per-node 1 torchrun ...), or a "
    "single one without RANK"
)


@dataclass(frozen=True)
class Group:
    """The ``size`` processes of a run, seen from the one with number ``rank``, which computes on ``device``."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process; all processes must call this."""
        if self.size == 1:
            return flag
        flags = torch.tensor(int(flag))
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over all processes, which must all call this."""
        if self.size > 1:
            dist.all_reduce(values)
        return values / self.size

    def gather(self, items: list) -> list:
        """Reassemble, in every process, a list of which each process holds ``items[rank::size]``."""
        if self.size == 1:
            return items
        shards: list[list] = [[] for _ in range(self.size)]
        dist.all_gather_object(shards, items)
        joined = [None] * sum(map(len, shards))
        for rank, shard in enumerate(shards):
            joined[rank :: self.size] = shard
        return joined

    def refuse(self, message: str) -> NoReturn:
        """End all processes because of bad input; all must call this, and the main process reports ``message``."""
        if self.size > 1:
            dist.barrier()  # wait until the main process has saved its checkpoint
        if self.is_main:
            raise InputError(message)
        with contextlib.suppress(RuntimeError):
            self.any(True)  # fails when the main process has ended: torchrun would not let it report the problem
        sys.exit(2)

    @contextlib.contextmanager
    def by_main(self, context: contextlib.AbstractContextManager) -> Iterator[None]:
        """Run the block in all processes within ``context`` of the main process.

        Raises:
            InputError: raised by ``context`` on entering it; the other processes end, too.
        """
        problem = None
        with contextlib.ExitStack() as stack:
            try:
                if self.is_main:
                    stack.enter_context(context)
            except InputError as error:
                problem = str(error)
            if self.any(problem is not None):
                self.refuse(problem or "")
            yield

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """Run the block in the main process first, then in the others."""
        if self.size > 1 and not self.is_main:
            dist.barrier()
        yield
        if self.size > 1 and self.is_main:
            dist.barrier()


def join_group() -> Group:
    """Join the process group described by torchrun's environment variables; without them, a group of one.

    Raises:
        InputError: some of torchrun's variables are missing or wrong, or srun started several tasks without them.
    """
    has_gpu = torch.cuda.is_available()
    if "RANK" not in os.environ:
        _refuse_several_tasks()
        return Group(0, 1, torch.device("cuda" if has_gpu else "cpu"))
    local_rank = _check_variables()
    if has_gpu and local_rank >= (gpus := torch.cuda.device_count()):
        raise InputError(
            f"LOCAL_RANK: {local_rank} needs {local_rank + 1} GPUs, but this process sees {gpus}; start one process "
            f"per GPU (torchrun --nproc-per-node {gpus} ...)"
        )
    device = torch.device("cuda", local_rank) if has_gpu else torch.device("cpu")
    if has_gpu:
        torch.cuda.set_device(device)
    # After a restart, torchrun's store still contains the addresses of the previous processes: use a fresh prefix.
    store, rank, size = next(dist.rendezvous("env://"))
    store = dist.PrefixStore(f"restart {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    backend = "cpu:gloo,cuda:nccl" if has_gpu else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    _joined.append(dist.group.WORLD)
    return Group(dist.get_rank(), dist.get_world_size(), device)


def _check_variables() -> int:
    """Check the variables that torchrun sets for each process; returns LOCAL_RANK."""
    numbers = {}
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT", "MASTER_ADDR"):
        value = os.environ.get(name, "")
        if not value:
            raise InputError(f"{name}: not set, although RANK is; {START}")
        if name != "MASTER_ADDR":
            if not value.isdecimal():
                raise InputError(f"{name}: expected a number, got {value!r}; {START}")
            numbers[name] = int(value)
    rank, size = numbers["RANK"], numbers["WORLD_SIZE"]
    if rank >= size:
        raise InputError(f"RANK: expected less than WORLD_SIZE, {size}, got {rank}; {START}")
    return numbers["LOCAL_RANK"]


def _refuse_several_tasks() -> None:
    """Refuse the tasks of an srun that do not know each other: each would be a separate run in the same folder.

    Only srun sets SLURM_STEP_NUM_TASKS. SLURM_NTASKS is also set in a shell of salloc and in a batch script, which are
    single processes.
    """
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if tasks != "1":
        raise InputError(
            f"srun started {tasks} tasks, and without torchrun each would be a separate run in the same folder; for "
            "one run type srun --ntasks-per-node 1 torchrun --nproc-per-node GPUS ..., for separate runs "
            "srun --ntasks 1 ..."
        )


def separate_group() -> dist.ProcessGroup:
    """A second group of the same processes, whose collectives may run in another order than those of the first."""
    group = dist.new_group()
    _joined.append(group)
    return group


def leave_group() -> None:
    """Destroy the process group; no collective may follow."""
    if dist.is_initialized():
        dist.destroy_process_group()


def progress_bar(group: Group, *args, **options) -> tqdm:
    """A tqdm progress bar, shown by the main process only and only in a terminal."""
    return tqdm(*args, disable=None if group.is_main else True, **options)
