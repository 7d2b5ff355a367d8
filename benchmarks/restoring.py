"""How much of the time of restoring a folder of images is the network's own.

    python -m benchmarks.restoring --weights runs/demo/checkpoints/best.pt
    taskset -c 0,1 python -m benchmarks.restoring --weights best.pt --format png --width 1280 --height 960

A folder of photographs of one size, cut out of those of scikit-image, is restored as restore.py does it, from the
search for files to the last result. The network's own time is measured in the same run, half of it before and half
after, on images in memory, when nothing else runs; ``share`` is its part of the whole. ``in a row`` adds to it the time
for reading and writing each file, measured likewise: what the whole would take if nothing overlapped. On the CPU,
reading and writing take cores away from the network, so that the gain is smaller than with a GPU.
"""

from utils.signals import STOPPED, end_on_signals

if __name__ == "__main__":
    end_on_signals()  # before the imports below, which take seconds

import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np
import torch

from data.synthetic.photographs import PHOTOGRAPHS, photographs
from inference.folders import find_jobs
from inference.manifest import Manifest, settings_of
from inference.photo_files import Photograph, read_photograph
from inference.photo_writing import FORMATS, write_photograph
from inference.restorer import Restorer
from inference.session import Options, Session
from utils.cli import ScriptParser, number_type
from utils.errors import InputError, run_script

MEASURED = 20  # images on which the parts are measured, half of them before and half after the whole


def write_photographs(folder: Path, count: int, size: tuple[int, int], suffix: str) -> None:
    """Random cuts of colour photographs, scaled to ``size`` (width, height)."""
    rng = np.random.default_rng(0)
    sources = [image for split in PHOTOGRAPHS for _, image, _ in photographs(split) if np.ptp(image, axis=2).any()]
    for index, image in enumerate(islice(cycle(sources), count)):
        height, width = image.shape[:2]
        scale = min(width / size[0], height / size[1]) * rng.uniform(0.6, 1)
        across, down = int(size[0] * scale), int(size[1] * scale)
        left, top = rng.integers(width - across + 1), rng.integers(height - down + 1)
        cut = cv2.resize(image[top : top + down, left : left + across], size, interpolation=cv2.INTER_AREA)
        write_photograph(folder / f"{index:04}{suffix}", Photograph(cut))


def parts(restorer: Restorer, sources: list[Path], target: Path) -> np.ndarray:
    """Seconds for the images: in the network, and for reading and writing files."""
    photographs = [read_photograph(source) for source in sources]
    start = time.perf_counter()
    restored = [restorer.restore(photograph.colour) for photograph in photographs]
    middle = time.perf_counter()
    for source, photograph, colour in zip(sources, photographs, restored, strict=True):
        read_photograph(source)
        write_photograph(target, photograph.with_colour(colour))
    return np.array([middle - start, time.perf_counter() - middle])


def restore_folder(restorer: Restorer, weights: Path, source: Path, output: Path) -> float:
    """Seconds for what restore.py does with a folder once it has loaded the weights."""
    start = time.perf_counter()
    jobs = find_jobs([str(source)], output, videos={}).jobs
    manifest = Manifest(output, settings_of(weights, restorer.precision, self_ensemble=False))
    session = Session(restorer, Options(), manifest, jobs)
    if not session.run():
        sys.exit(STOPPED)
    return time.perf_counter() - start


def main() -> None:
    parser = ScriptParser(
        usage="python -m benchmarks.restoring --weights FILE [options]", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--weights", type=Path, existing=True, required=True, help="checkpoint of this project, or released weights"
    )
    parser.add_argument("--images", type=number_type(int, 2, 10**5), default=200, help="number of photographs")
    parser.add_argument("--width", type=number_type(int, 16, 2**14), default=640, help="of a photograph, in pixels")
    parser.add_argument("--height", type=number_type(int, 16, 2**14), default=480, help="of a photograph, in pixels")
    parser.add_argument("--format", type=str, default="jpg", help="suffix of the files, such as jpg or png")
    args = parser.parse()
    suffix = f".{args.format}"
    if suffix not in FORMATS:
        raise InputError(f"--format: expected one of {', '.join(kind[1:] for kind in FORMATS)}, not {args.format}")
    restorer = Restorer(args.weights)
    with tempfile.TemporaryDirectory() as root:
        source, target = Path(root, "in"), Path(root, f"alone{suffix}")
        source.mkdir()
        write_photographs(source, args.images, (args.width, args.height), suffix)
        measured = sorted(source.iterdir())[:: max(1, args.images // MEASURED)]
        half = len(measured) // 2
        parts(restorer, measured[:1], target)  # the first time, libraries are loaded
        before = parts(restorer, measured[:half], target)
        whole = restore_folder(restorer, args.weights, source, Path(root, "out"))
        after = parts(restorer, measured[half:], target)
    network, files = (before + after) * args.images / len(measured)
    where = restorer.device.type if restorer.device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{args.images} photographs of {args.width}x{args.height}, {args.format}; {where}")
    print(f"whole      {whole:8.1f} s")
    print(f"network    {network:8.1f} s, share {network / whole:.3f}")
    print(f"in a row   {network + files:8.1f} s, share {network / (network + files):.3f}")


if __name__ == "__main__":
    run_script(main)
