"""How many training crops per second the loader gives, for each way to get at the images.

    python -m benchmarks.loader                            # on an idle machine
    taskset -c 1 python -m benchmarks.loader --workers 1   # the worker and the loop that it feeds on one core

The table of docs/performance.md comes from here. The images are photographs in the sizes of RESIDE ITS, where
ten inputs share a target, and of GoPro, written as PNG. A run is an epoch, in which each input comes once, in batches
of 4 crops of 256x256. The options take turns; a row has the medians of its runs. Beside crops per second stands the
processor time for a crop, which other work on the machine changes least: in the workers, and in the loop that gets the
batches; the ratio is that of the first row's to it. Where there is a GPU, further rows copy each batch to it.
"""

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
from data.synthetic.degradations import DEGRADATIONS
from data.synthetic.photographs import photographs
from data.transforms import PairedCropFlip, to_tensor
from evaluation.tables import as_markdown
from utils.cli import ScriptParser
from utils.cpus import cpu_count
from utils.errors import InputError, run_script
from utils.signals import leave_signals_to_the_parent

CROP = (256, 256)
BATCH_SIZE = 4
WANTED = 1000  # crops per second


@dataclass(kw_only=True)
class Images:
    """The shape of a data set: ``inputs`` degraded images, of which ``shared`` at a time have one target."""

    title: str
    size: tuple[int, int]
    """(width, height)."""
    inputs: int
    shared: int
    degradation: str

    def write(self, folder: Path) -> list[Pair]:
        """Write photographs, each target another part of one, and their degraded inputs."""
        originals = [image for _, image, _ in photographs("train")]
        pairs = []
        for number in tqdm(range(self.inputs), f"writing {self.title} images", disable=None, leave=False):
            target = folder / "target" / f"{number // self.shared}.png"
            if number % self.shared == 0:
                rng = np.random.default_rng(number)
                original = originals[number // self.shared % len(originals)]
                top, left = (int(rng.integers(side // 4)) for side in original.shape[:2])
                clean = cv2.resize(original[top:, left:], self.size, interpolation=cv2.INTER_CUBIC)
                write_image(target, clean)
            degraded = DEGRADATIONS[self.degradation](clean.astype(np.float32) / 255, rng)
            pair = Pair(str(number), folder / "input" / f"{number}.png", target)
            write_image(pair.input, np.uint8(np.round(degraded * 255)))
            pairs.append(pair)
        return pairs


SETS = {
    "its": Images(title="ITS-like", size=(620, 460), inputs=400, shared=10, degradation="haze"),
    "gopro": Images(title="GoPro-like", size=(1280, 720), inputs=120, shared=1, degradation="motion_blur"),
}


class ConvertedWhole(PairedImages):
    """As the loader was at first: whole images are converted, and torchvision draws from the global state."""

    def __getitem__(self, key: tuple[int, int]) -> dict:
        pair = self.pairs[key[1]]
        images = [tv_tensors.Image(to_tensor(read_image(path))) for path in (pair.input, pair.target)]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derived_seed(self.seed, *key))
            crops = v2.Compose([v2.RandomCrop(CROP), v2.RandomHorizontalFlip(0.5)])(*images)
        input, target = (crop.as_subclass(Tensor) for crop in crops)
        return {"name": pair.name, "input": input, "target": target}


class StoredCrops(PairedImages):
    """Crops in uint8, a quarter of the bytes, which nobody converts: the most that converting on the GPU can save."""

    def __getitem__(self, key: tuple[int, int]) -> dict:
        pair = self.pairs[key[1]]
        generator = torch.Generator().manual_seed(derived_seed(self.seed, *key))
        input, target = self.read(pair.input), self.read(pair.target)
        top, left = (
            int(torch.randint(0, have - want + 1, (), generator=generator))
            for have, want in zip(input.shape[:2], CROP, strict=True)
        )
        crops = [image[top : top + CROP[0], left : left + CROP[1]] for image in (input, target)]
        input, target = (torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1))) for crop in crops)
        return {"name": pair.name, "input": input, "target": target}


@dataclass(kw_only=True)
class Option:
    """A way to load."""

    name: str
    dataset: PairedImages
    before: Callable[[], None] = lambda: None
    """Done before each run, untimed."""
    persistent: bool = True
    """Workers are kept from one run to the next."""
    copies: bool = False
    """Each batch is copied to the GPU."""
    pinned: bool = False

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
    """The ways to load ``pairs``; cached images go below ``folder`` and, as files in memory, below ``memory``."""
    paths = {path for pair in pairs for path in (pair.input, pair.target)}
    targets = {pair.target for pair in pairs}

    def dataset(kind: type[PairedImages] = PairedImages, read: Callable = read_image) -> PairedImages:
        return kind(pairs, PairedCropFlip(CROP), read=read)

    def filled(place: Path) -> Callable[[Path], np.ndarray]:
        cached = DecodedCache(place)
        for path in paths:
            cached.read(path)
        if len(list(place.glob("*.npy"))) < len(paths):
            raise InputError(f"{place}: the decoded images of the benchmark do not fit; name another --folder")
        return cached.read

    kept = cache(read_image)

    def read_keeping_targets(path: Path) -> np.ndarray:
        return kept(path) if path in targets else read_image(path)

    yield Option(name="at first: whole images converted", dataset=dataset(ConvertedWhole))
    yield Option(name="crops converted (`data.cache: null`)", dataset=dataset())
    yield Option(name="the same, files not in memory", dataset=dataset(), before=lambda: forget(paths))
    if len(targets) < len(pairs):
        yield Option(name="the same, targets kept by each worker", dataset=dataset(read=read_keeping_targets))
    filling, full = folder / "filling", folder / "full"
    read = DecodedCache(filling).read
    yield Option(name="cache on disk, first epoch", dataset=dataset(read=read), before=lambda: empty(filling))
    read = filled(full)
    yield Option(name="cache on disk", dataset=dataset(read=read))
    yield Option(
        name="the same, files not in memory", dataset=dataset(read=read), before=lambda: forget(full.iterdir())
    )
    yield Option(name="the same, workers started anew", dataset=dataset(read=read), persistent=False)
    yield Option(name="the same, crops handed over as uint8", dataset=dataset(StoredCrops, read))
    if memory is not None:
        yield Option(name="cache in /dev/shm", dataset=dataset(read=filled(memory)))
    if torch.cuda.is_available():
        yield Option(name="cache on disk, copied to the GPU", dataset=dataset(read=read), copies=True)
        yield Option(name="the same, pinned and non-blocking", dataset=dataset(read=read), copies=True, pinned=True)


def forget(paths: Iterable[Path]) -> None:
    """Drop files from the page cache, so that the next one to read them waits for the disk."""
    for path in paths:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


class Rate(NamedTuple):
    """Crops per second, and the milliseconds of processor time that the workers and the loop need for each."""

    crops: float
    worker: float
    loop: float


def rate_of(option: Option, loader: DataLoader, epoch: int) -> Rate:
    """Run through an epoch; workers that ``loader`` has not got yet are started, and counted."""
    option.before()
    loader.batch_sampler.set_position(epoch, samples=0)
    wall, worker, loop = time.perf_counter(), workers_seconds(), time.process_time()
    batches = iter(loader)
    for batch in batches:
        if option.copies:
            for key in ("input", "target"):
                batch[key].to("cuda", non_blocking=option.pinned)
    if option.copies:
        torch.cuda.synchronize()
    crops = len(option.dataset)
    spent = [1000 * seconds / crops for seconds in (workers_seconds() - worker, time.process_time() - loop)]
    return Rate(crops / (time.perf_counter() - wall), *spent)


def workers_seconds() -> float:
    """Processor time of the child processes that run, and of those that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    stats = [Path(f"/proc/{process.pid}/schedstat").read_text() for process in multiprocessing.active_children()]
    return ended.ru_utime + ended.ru_stime + sum(int(line.split()[0]) for line in stats) / 1e9


def rates_of(choices: list[Option], workers: int, runs: int) -> list[Rate]:
    """The medians over ``runs`` of each option, which take turns; a first run of each warms up and does not count."""
    loaders = [option.loader(workers) for option in choices]
    found: list[list[Rate]] = [[] for _ in choices]
    for run in tqdm(range(runs + 1), f"{workers} worker(s)", disable=None, leave=False):
        for option, loader, rates in zip(choices, loaders, found, strict=True):
            rates.append(rate_of(option, loader if option.persistent else option.loader(workers), epoch=run + 1))
    return [Rate(*(statistics.median(column) for column in zip(*rates[1:], strict=True))) for rates in found]


def rows_of(images: Images, workers: list[int], runs: int, folder: Path) -> Iterator[list[str]]:
    """The table's rows for a data set, written to a folder of their own below ``folder``."""
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        memory = None
        if Path("/dev/shm").is_dir():
            memory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        pairs = images.write(place)
        length = statistics.mean(pair.input.stat().st_size for pair in pairs)
        title = f"{images.title}, {images.size[0]}x{images.size[1]}, {length / 1e6:.2f} MB"
        choices = list(options(pairs, place, memory))
        for number in workers:
            rates = rates_of(choices, number, runs)
            for option, rate in zip(choices, rates, strict=True):
                first, spent = (sum(each[1:]) for each in (rates[0], rate))
                numbers = [f"{rate.crops:.0f}", f"{first / spent:.2f}"]
                numbers += [f"{rate.worker:.2f}", f"{rate.loop:.2f}", f"{WANTED * spent / 1000:.1f}"]
                yield [title, option.name, str(number), *numbers]


def machine() -> str:
    """Processor, cores that may be used, and what does the work."""
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
    parser.add_argument("--sets", nargs="+", choices=tuple(SETS), default=list(SETS), help="only these")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="numbers of workers")
    parser.add_argument("--runs", type=int, default=7, help="of each option")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="a disk with 2 GB free")
    args = parser.parse()
    torch.set_num_threads(1)
    rows = [row for name in args.sets for row in rows_of(SETS[name], args.workers, args.runs, args.folder)]
    heading = [
        "images",
        "option",
        "workers",
        "crops/s",
        "ratio",
        "worker ms/crop",
        "loop ms/crop",
        f"cores for {WANTED}/s",
    ]
    print(f"{machine()}\n\n{as_markdown(heading, rows)}")


if __name__ == "__main__":
    run_script(main)
