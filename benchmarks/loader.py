"""Throughput of the training data loader, in crops per second, for different ways of reading the images.

    python -m benchmarks.loader                            # on an idle machine
    taskset -c 1 python -m benchmarks.loader --workers 1   # one worker and the main process share one core

Produces the table in docs/performance.md. The data are photographs written as PNG, in the image sizes of RESIDE ITS,
where ten inputs share a target, and of GoPro. A run is one epoch in batches of four 256x256 crops. Options are measured
in an interleaved fashion; rows show medians over runs. Besides crops per second, the table gives CPU time per crop,
which is least affected by other load on the machine: of the workers, and of the main process that receives the batches.
The ratio is the CPU time of the first option divided by that of the row. With a GPU, additional rows copy each batch to
it.
"""

from utils.signals import end_on_signals

if __name__ == "__main__":
    end_on_signals()  # before the imports below, which take seconds

import contextlib
import multiprocessing
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2
from tqdm import tqdm

from data.cache import DecodedCache
from data.datasets import PairedImages
from data.images import read_image, write_image
from data.layouts import Pair
from data.sampler import EpochSampler, derived_seed
from data.synthetic.drawn import DEGRADATIONS
from data.synthetic.photographs import photographs
from data.transforms import PairedCropFlip, to_tensor
from evaluation.tables import as_markdown
from utils.cli import ScriptParser, number_type
from utils.cpus import cpu_count
from utils.errors import InputError, run_script
from utils.signals import leave_signals_to_the_parent

CROP = (256, 256)
BATCH_SIZE = 4
TARGET_RATE = 1000  # crops per second


@dataclass(kw_only=True)
class SyntheticSet:
    """A data set to be written for the benchmark."""

    title: str
    size: tuple[int, int]
    """Width and height of the images."""
    inputs: int
    """Number of degraded images."""
    inputs_per_target: int
    degradation: str
    """A key of data.synthetic.drawn.DEGRADATIONS."""

    def write(self, folder: Path) -> list[Pair]:
        """Write targets, each a different part of a photograph, and their degraded inputs."""
        originals = [image for _, image, _ in photographs("train")]
        pairs = []
        for number in tqdm(range(self.inputs), f"writing {self.title} images", disable=None, leave=False):
            target = folder / "target" / f"{number // self.inputs_per_target}.png"
            if number % self.inputs_per_target == 0:
                rng = np.random.default_rng(number)
                original = originals[number // self.inputs_per_target % len(originals)]
                top, left = (int(rng.integers(side // 4)) for side in original.shape[:2])
                clean = cv2.resize(original[top:, left:], self.size, interpolation=cv2.INTER_CUBIC)
                write_image(target, clean)
            degraded = DEGRADATIONS[self.degradation](clean.astype(np.float32) / 255, rng)
            pair = Pair(str(number), folder / "input" / f"{number}.png", target)
            write_image(pair.input, np.uint8(np.round(degraded * 255)))
            pairs.append(pair)
        return pairs


SETS = {
    "its": SyntheticSet(title="ITS-like", size=(620, 460), inputs=400, inputs_per_target=10, degradation="haze"),
    "gopro": SyntheticSet(
        title="GoPro-like", size=(1280, 720), inputs=120, inputs_per_target=1, degradation="motion_blur"
    ),
}


class WholeImageConversion(PairedImages):
    """The original loader: converts whole images before cropping, and augments with torchvision's global generator."""

    def __getitem__(self, key: tuple[int, int]) -> dict:
        pair = self.pairs[key[1]]
        images = [tv_tensors.Image(to_tensor(read_image(path))) for path in (pair.input, pair.target)]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derived_seed(self.seed, *key))
            crops = v2.Compose([v2.RandomCrop(CROP), v2.RandomHorizontalFlip(0.5)])(*images)
        input, target = (crop.as_subclass(Tensor) for crop in crops)
        return {"name": pair.name, "input": input, "target": target}


class Uint8Crops(PairedImages):
    """Returns unconverted uint8 crops, a quarter of the bytes: an upper bound on the gain of converting on the GPU."""

    def __getitem__(self, key: tuple[int, int]) -> dict:
        pair = self.pairs[key[1]]
        generator = torch.Generator().manual_seed(derived_seed(self.seed, *key))
        input, target = self.read(pair.input), self.read(pair.target)
        top, left = (
            int(torch.randint(0, side - crop + 1, (), generator=generator))
            for side, crop in zip(input.shape[:2], CROP, strict=True)
        )
        crops = [image[top : top + CROP[0], left : left + CROP[1]] for image in (input, target)]
        input, target = (torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1))) for crop in crops)
        return {"name": pair.name, "input": input, "target": target}


@dataclass(kw_only=True)
class Option:
    """A loader configuration to measure."""

    name: str
    dataset: PairedImages
    before: Callable[[], None] = lambda: None
    """Called before each run, not timed."""
    persistent: bool = True
    """Keep the workers between runs."""
    copies: bool = False
    """Copy each batch to the GPU."""
    pinned: bool = False
    """Pin the batches' memory and copy them asynchronously."""

    def loader(self, workers: int) -> DataLoader:
        return DataLoader(
            self.dataset,
            batch_sampler=EpochSampler(len(self.dataset), BATCH_SIZE, seed=0),
            num_workers=workers,
            persistent_workers=self.persistent,
            pin_memory=self.pinned,
            worker_init_fn=leave_signals_to_the_parent,
        )


def options(pairs: list[Pair], folder: Path, memory: Path | None) -> Iterator[Option]:
    """The options to measure; decoded images are cached below ``folder`` and, if given, ``memory`` (in /dev/shm)."""
    paths = {path for pair in pairs for path in (pair.input, pair.target)}
    targets = {pair.target for pair in pairs}

    def dataset(kind: type[PairedImages] = PairedImages, read: Callable = read_image) -> PairedImages:
        return kind(pairs, PairedCropFlip(CROP), read=read)

    def filled_cache(location: Path) -> Callable[[Path], np.ndarray]:
        decoded = DecodedCache(location)
        for path in paths:
            decoded.read(path)
        if len(list(location.glob("*.npy"))) < len(paths):
            raise InputError(f"{location}: not enough space for the decoded images; choose another --folder")
        return decoded.read

    read_cached = cache(read_image)

    def read_with_cached_targets(path: Path) -> np.ndarray:
        return read_cached(path) if path in targets else read_image(path)

    yield Option(name="original: whole images converted", dataset=dataset(WholeImageConversion))
    yield Option(name="crops converted (`data.cache: null`)", dataset=dataset())
    yield Option(name="same, page cache dropped", dataset=dataset(), before=lambda: drop_from_page_cache(paths))
    if len(targets) < len(pairs):
        yield Option(name="same, targets cached by each worker", dataset=dataset(read=read_with_cached_targets))
    filling, full = folder / "filling", folder / "full"
    read = DecodedCache(filling).read
    yield Option(name="cache on disk, first epoch", dataset=dataset(read=read), before=lambda: clear_folder(filling))
    read = filled_cache(full)
    yield Option(name="cache on disk", dataset=dataset(read=read))
    yield Option(
        name="same, page cache dropped", dataset=dataset(read=read), before=lambda: drop_from_page_cache(full.iterdir())
    )
    yield Option(name="same, workers restarted", dataset=dataset(read=read), persistent=False)
    yield Option(name="same, uint8 crops", dataset=dataset(Uint8Crops, read))
    if memory is not None:
        yield Option(name="cache in /dev/shm", dataset=dataset(read=filled_cache(memory)))
    if torch.cuda.is_available():
        yield Option(name="cache on disk, copied to the GPU", dataset=dataset(read=read), copies=True)
        yield Option(name="same, pinned and non-blocking", dataset=dataset(read=read), copies=True, pinned=True)


def drop_from_page_cache(paths: Iterable[Path]) -> None:
    """Evict files from the page cache, so that the next read accesses the disk."""
    for path in paths:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def clear_folder(folder: Path) -> None:
    """Delete all files in a folder."""
    for file in folder.iterdir():
        file.unlink()


class Rate(NamedTuple):
    """Crops per second, and CPU milliseconds per crop of the workers and of the main process."""

    crops: float
    worker: float
    loop: float


def measure_rate(option: Option, loader: DataLoader, epoch: int) -> Rate:
    """Iterate over one epoch; starting workers that are not running yet is included."""
    option.before()
    loader.batch_sampler.set_position(epoch, samples=0)
    wall, worker, loop = time.perf_counter(), worker_seconds(), time.process_time()
    batches = iter(loader)
    for batch in batches:
        if option.copies:
            for key in ("input", "target"):
                batch[key].to("cuda", non_blocking=option.pinned)
    if option.copies:
        torch.cuda.synchronize()
    crops = len(option.dataset)
    spent = [1000 * seconds / crops for seconds in (worker_seconds() - worker, time.process_time() - loop)]
    return Rate(crops / (time.perf_counter() - wall), *spent)


def worker_seconds() -> float:
    """CPU time of all child processes, running and finished."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    stats = [Path(f"/proc/{process.pid}/schedstat").read_text() for process in multiprocessing.active_children()]
    return ended.ru_utime + ended.ru_stime + sum(int(line.split()[0]) for line in stats) / 1e9


def median_rates(choices: list[Option], workers: int, runs: int) -> list[Rate]:
    """Median rates over ``runs`` interleaved runs of each option, after one warm-up run."""
    loaders = [option.loader(workers) for option in choices]
    found: list[list[Rate]] = [[] for _ in choices]
    for run in tqdm(range(runs + 1), f"{workers} worker(s)", disable=None, leave=False):
        for option, loader, rates in zip(choices, loaders, found, strict=True):
            rates.append(measure_rate(option, loader if option.persistent else option.loader(workers), epoch=run + 1))
    return [Rate(*(statistics.median(column) for column in zip(*rates[1:], strict=True))) for rates in found]


def table_rows(data: SyntheticSet, workers: list[int], runs: int, folder: Path) -> Iterator[list[str]]:
    """Rows of the table for one data set, which is written to a temporary folder below ``folder``."""
    with contextlib.ExitStack() as stack:
        location = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        memory = None
        if Path("/dev/shm").is_dir():
            memory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        pairs = data.write(location)
        file_size = statistics.mean(pair.input.stat().st_size for pair in pairs)
        title = f"{data.title}, {data.size[0]}x{data.size[1]}, {file_size / 1e6:.2f} MB"
        choices = list(options(pairs, location, memory))
        for number in workers:
            rates = median_rates(choices, number, runs)
            for option, rate in zip(choices, rates, strict=True):
                first, spent = (sum(each[1:]) for each in (rates[0], rate))
                numbers = [f"{rate.crops:.0f}", f"{first / spent:.2f}"]
                numbers += [f"{rate.worker:.2f}", f"{rate.loop:.2f}", f"{TARGET_RATE * spent / 1000:.1f}"]
                yield [title, option.name, str(number), *numbers]


def machine() -> str:
    """CPU model, available cores, GPU and library versions."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{model}, {cpu_count()} core(s), {device}; "
        f"torch {torch.__version__}, OpenCV {cv2.__version__}, Python {platform.python_version()}"
    )


def main() -> None:
    parser = ScriptParser(prog="python -m benchmarks.loader", description=__doc__.split("\n")[0])
    parser.add_argument("--sets", nargs="+", choices=tuple(SETS), default=list(SETS), help="data sets to measure")
    parser.add_argument(
        "--workers", type=number_type(int, 1, 256), nargs="+", default=[1, 2], help="numbers of workers to measure"
    )
    parser.add_argument("--runs", type=number_type(int, 1, 10_000), default=7, help="runs per option")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="temporary folder, needs 2 GB")
    args = parser.parse()
    torch.set_num_threads(1)
    rows = [row for name in args.sets for row in table_rows(SETS[name], args.workers, args.runs, args.folder)]
    heading = [
        "data set",
        "option",
        "workers",
        "crops/s",
        "ratio",
        "worker ms/crop",
        "main ms/crop",
        f"cores for {TARGET_RATE}/s",
    ]
    print(f"{machine()}\n\n{as_markdown(heading, rows)}")


if __name__ == "__main__":
    run_script(main)
