"""What a run will need, measured by a few of its steps: train.py --plan."""

import contextlib
import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain, repeat
from pathlib import Path
from statistics import mean

import psutil
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from evaluation.cost import count_gmacs
from evaluation.scoring import network_method, score_images
from inference.memory import free_memory, is_out_of_memory, release_cached_memory
from training.loaders import Loaders, build_loaders
from training.run import Run
from utils.config import Config, TrainConfig
from utils.distributed import Group
from utils.errors import InputError, listed, printable
from utils.versions import versions

STEPS, SECONDS = 5, 60  # measured steps: so many, or fewer once so much time has passed
MORE_IMAGES = 2  # the memory per image is that of so many more
SHARE = 0.9  # of the free memory, to plan with
SAMPLING = 0.002  # seconds between two looks at the memory of this process
GIB = 2**30


def plan(config: Config, output: Path, group: Group, init_from: Path | None = None) -> None:
    """Measure a few steps of a run and one validation image of each set, and print what the run will need.

    Nothing is written to ``output``, and the cache of images is not used.

    Raises:
        InputError: see ``build_loaders`` and ``Run``; several processes; or not even one image fits in memory.
    """
    if group.size > 1:
        raise InputError("--plan: measures one process; run it without torchrun, with the batch of one process")
    loaders = build_loaders(replace(config, data=replace(config.data, cache=None)), group)
    free, before = free_memory(group.device), used_memory(group.device)
    run = Run(config, output, group, loaders.sampler, init_from)
    loaders.sampler.set_position(1, 0)
    run.scheduler.step()
    run.start_training()
    batch = first_batch(loaders)
    memory = measure_memory(run, batch, before)
    most = memory.largest(SHARE * free)
    train = config.train
    if most < 1:
        raise InputError(
            f"data.crop_size: a step with one image takes about {memory.of(1) / GIB:.2f} GiB, but only "
            f"{free / GIB:.2f} GiB are free; lower data.crop_size or the size of the network"
        )
    needed = accumulation(train.batch_size, most)
    parts = max(train.accumulate, needed)
    seconds = measure_steps(run, loaders, batch, parts)
    validation = sum(
        len(loader.dataset) * measure_image(run, name, loader) for name, loader in loaders.validation.items()
    )
    last, best, saving = measure_checkpoints(run)
    batches = [loaders.sampler.batches(epoch) for epoch in range(1, train.epochs + 1)]
    size, steps, times = -(-train.batch_size // train.accumulate), sum(batches), validations(train, batches)
    hours = [steps * seconds / 3600, times * validation / 3600, (train.epochs + times) * saving / 3600]
    images = sum(len(loader.dataset) for loader in loaders.validation.values())
    rows = {
        "parameters": f"{sum(parameter.numel() for parameter in run.model.parameters()):,}",
        "cost": f"{count_gmacs(run.evaluated):.2f} GMACs for an image of 256x256",
        "memory of a step": f"{memory.of(size) / GIB:.2f} GiB at {count('image', size)} "
        f"(train.batch_size {train.batch_size}, train.accumulate {train.accumulate})",
        "largest that fits": f"{count('image', most)} at a time, in {SHARE:.0%} of {free / GIB:.1f} GiB that are free",
        "whole batch": f"train.batch_size {train.batch_size} "
        + ("fits at once" if needed == 1 else f"needs train.accumulate {needed} or more here"),
        "speed": f"{1 / seconds:.3g} steps/s, {min(train.batch_size, loaders.sampler.length) / seconds:.3g} images/s"
        + f" (with train.accumulate {parts})" * (parts != train.accumulate),
        "validation": f"{validation:.3g} s for {count('image', images)}, {times} times",
        "whole run": f"{sum(hours):.3g} hours: {count('step', steps)} {hours[0]:.3g} h, validation {hours[1]:.3g} h, "
        f"checkpoints {hours[2]:.3g} h",
        "disk": f"{(train.keep_checkpoints * last + best) / 1e6:.3g} MB: {train.keep_checkpoints} times "
        f"{last / 1e6:.3g} MB, best.pt {best / 1e6:.3g} MB; and the curves",
        **({"progressive": "measured with the crops and the batch of the first epoch"} if train.progressive else {}),
        "measured on": f"{versions()['device']}; {output} is untouched",
    }
    for name, text in rows.items():
        print(f"{name:<18} {printable(text)}")


@dataclass(frozen=True)
class Memory:
    """Bytes that a step takes: ``fixed`` for weights, gradients and optimizer, and those of each image."""

    fixed: float
    per_image: float

    def of(self, images: int) -> float:
        """Bytes of a step that computes this many images at a time."""
        return self.fixed + images * self.per_image

    def largest(self, free: float) -> int:
        """The most images at a time that fit in ``free`` bytes; 0 if none does."""
        return max(0, int((free - self.fixed) // self.per_image))


def measure_memory(run: Run, batch: dict[str, Tensor], before: int) -> Memory:
    """The memory of steps with one image and with a few more, beyond ``before`` bytes.

    Raises:
        InputError: a step with one image does not fit in memory.
    """

    def peak(images: int) -> float:
        some = [index % len(batch["input"]) for index in range(images)]
        part = {key: batch[key][some] for key in ("input", "target")}
        run.step(part)  # allocates the optimizer's state, or compiles
        with peak_memory(run.group.device) as most:
            run.step(part)
            synchronise(run.group.device)
        return most() - before

    try:
        one = peak(1)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError("data.crop_size: a step with one image does not fit in memory; lower it") from None
    state = 4 * sum(p.numel() * p.itemsize for p in run.model.parameters())  # weights, gradients, two means of Adam
    per_image = max(one - state, 1)
    if one + MORE_IMAGES * per_image < SHARE * free_memory(run.group.device):
        with contextlib.suppress(torch.OutOfMemoryError):
            per_image = max((peak(1 + MORE_IMAGES) - one) / MORE_IMAGES, 1)
    release_cached_memory()
    return Memory(max(state, one - per_image), per_image)  # torch may reuse memory that this process has freed


def accumulation(batch_size: int, most: int) -> int:
    """The least ``train.accumulate`` with which at most ``most`` images of a batch are computed at a time."""
    return -(-batch_size // most)


def measure_steps(run: Run, loaders: Loaders, batch: dict[str, Tensor], parts: int) -> float:
    """Mean seconds of a step and its loading, after one to warm up; ``batch`` is repeated once an epoch is over."""
    times, begin = [], time.perf_counter()
    start = begin
    for each in chain(loaders.training, repeat(batch)):
        if "input" in each:
            run.step(each, 1.0, min(parts, len(each["input"])))
        synchronise(run.group.device)
        now = time.perf_counter()
        times.append(now - start)
        start = now
        if len(times) > STEPS or (len(times) > 1 and now - begin > SECONDS):
            break
    return mean(times[1:])


def first_batch(loaders: Loaders) -> dict[str, Tensor]:
    """The first batch with images.

    Raises:
        InputError: none of its images can be read.
    """
    batch = next(iter(loaders.training))
    if "input" not in batch:
        raise InputError(listed(list(batch["broken"].values()), "broken training image(s)"))
    return batch


def measure_image(run: Run, name: str, loader: DataLoader) -> float:
    """Seconds to read, restore and score the first image of a validation set, the second time."""
    parts = run.config.data.validated
    run.evaluated.eval()
    torch.backends.cudnn.benchmark = False
    for _ in range(2):
        samples = DataLoader(Subset(loader.dataset, [0]), batch_size=loader.batch_size, collate_fn=loader.collate_fn)
        start = time.perf_counter()
        list(score_images(network_method(run.evaluated), samples, parts[name].protocol, run.group.device))
        seconds = time.perf_counter() - start
    return seconds


def measure_checkpoints(run: Run) -> tuple[int, int, float]:
    """Bytes of last.pt and of best.pt, and the seconds to put the former together."""
    last, best, start = io.BytesIO(), io.BytesIO(), time.perf_counter()
    torch.save(run.state(), last)
    seconds = time.perf_counter() - start
    torch.save(run.evaluated.state_dict(), best)
    return last.tell(), best.tell(), seconds


def validations(train: TrainConfig, batches: Sequence[int]) -> int:
    """How often a whole run validates whose epochs have so many batches; see ``Run.awaits_validation``."""
    ends = list(accumulate(batches))
    due = {step for epoch, step in enumerate(ends, 1) if epoch % train.validate_every == 0 or epoch == train.epochs}
    if train.validate_every_steps is not None:
        due.update(range(train.validate_every_steps, ends[-1] + 1, train.validate_every_steps))
    return train.validate_start + len(due)


def used_memory(device: torch.device) -> int:
    """Bytes that this process has allocated on the device, or in main memory."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss


@contextlib.contextmanager
def peak_memory(device: torch.device) -> Iterator[Callable[[], int]]:
    """Watch the memory of this process within the block; the function given returns its largest value, in bytes.

    In main memory it is sampled, so the peak of a step of a few milliseconds may be missed.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield lambda: torch.cuda.max_memory_allocated(device)
        return
    process, done = psutil.Process(), threading.Event()
    most = [process.memory_info().rss]

    def watch() -> None:
        while not done.wait(SAMPLING):
            most[0] = max(most[0], process.memory_info().rss)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lambda: most[0]
    finally:
        done.set()
        thread.join()


def synchronise(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def count(what: str, number: int) -> str:
    """``count("image", 1200)`` is "1,200 images"."""
    return f"{number:,} {what}{'s' * (number != 1)}"
