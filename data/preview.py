"""Draw what a network will see in training: a sheet of 16 samples, input over target, with their names.

    python -m data.preview --config configs/dehazing_its.yaml --data.root DIR --output sheet.png
    python -m data.preview --config configs/small/deraining.yaml --data.root DIR --output sheet.png --epoch 20

The samples are the first of an epoch, as training draws them: cropped, flipped and degraded. Under each one are its
name and the parameters drawn for its degradations; with several training sets, the sets take turns, and the number of
the set is in front of the name. Crops of up to 256 pixels are shown pixel by pixel, larger ones at a smaller size.
"""

from pathlib import Path

from utils.signals import end_on_signals

if __name__ == "__main__":
    end_on_signals()  # before the imports below, which take seconds
    from utils.cli import ScriptParser, number_type
    from utils.errors import or_exit

    parser = ScriptParser(prog="python -m data.preview", doc=__doc__)
    parser.add_config()
    parser.add_argument("--output", type=Path, required=True, help="image file for the sheet, such as sheet.png")
    parser.add_argument("--epoch", type=number_type(int, 1, 10**6), default=1, help="epoch of the first sample")
    args = or_exit(parser.parse)

import sys
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import count, islice, starmap

import cv2
import numpy as np
from jsonargparse import Namespace
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from data.datasets import Sample, TrainingSets, to_8bit, training_sets
from data.images import SUFFIXES, write_image
from data.sampler import EpochSampler
from data.sets import training_pairs, training_shares
from data.synthetic.drawn import Drawn
from utils.cli import config_of
from utils.config import Config
from utils.errors import InputError, listed, printable, run_script, shortened

SAMPLES, COLUMNS = 16, 8
LARGEST, GAP, FONT_SIZE, LINE = 256, 8, 12, 15  # pixels

Labelled = tuple[str, Sample]


def main(args: Namespace) -> None:
    config = config_of(args)
    if args.output.suffix.lower() not in SUFFIXES or args.output.is_dir():
        raise InputError(f"--output {args.output}: expected the name of an image file, such as sheet.png")
    write_image(args.output, sheet(list(islice(samples(config, args.epoch), SAMPLES))))
    print(printable(f"written to {args.output}"))


def samples(config: Config, epoch: int) -> Iterator[Labelled]:
    """The training samples from ``epoch`` on, each with its label; several sets take turns.

    Raises:
        InputError: a set is missing or an image broken.
    """
    pairs = training_pairs(config.data.root, config.data.train)
    sets = training_sets(config, pairs)
    sampler = EpochSampler(training_shares(config.data.train, pairs), batch_size=1, seed=config.seed)
    streams = [keys_of_set(sampler, sets, number, epoch) for number in range(len(pairs))]
    for keys in zip(*streams, strict=True):
        for number, key in enumerate(keys):
            sample = sets[key]
            problems = [printable(problem) for problem in sample["broken"].values()]
            if "input" not in sample:
                raise InputError(listed(problems, "broken training image(s)"))
            for problem in problems:
                print(f"warning: {problem}; replaced by another image", file=sys.stderr)
            yield f"[{number}] " * (len(pairs) > 1) + sample["name"], sample


def keys_of_set(sampler: EpochSampler, sets: TrainingSets, number: int, epoch: int) -> Iterator[tuple[int, int]]:
    """The (epoch, index) of one of the sets' samples, in the order of training."""
    for current in count(epoch):
        sampler.set_position(current, samples=0)
        for (key,) in list(sampler):
            if sets.locate(key[1])[0] == number:
                yield key


def sheet(shown: Sequence[Labelled]) -> np.ndarray:
    """Samples in rows, input over target over text: uint8 (H, W, 3)."""
    font = ImageFont.load_default(FONT_SIZE)
    images = [[to_shown(sample[key]) for key in ("input", "target")] for _, sample in shown]
    height, width = (max(image.shape[axis] for pair in images for image in pair) for axis in (0, 1))
    texts = [wrapped(caption(label, sample["drawn"]), width, font) for label, sample in shown]
    cell = 2 * height + LINE * max(map(len, texts)) + 2 * GAP
    rows = -(-len(shown) // COLUMNS)
    page = Image.new("RGB", (COLUMNS * (width + GAP) + GAP, rows * cell + GAP), "white")
    draw = ImageDraw.Draw(page)
    for place, (pair, lines) in enumerate(zip(images, texts, strict=True)):
        left, top = GAP + place % COLUMNS * (width + GAP), GAP + place // COLUMNS * cell
        for number, image in enumerate(pair):
            page.paste(Image.fromarray(image), (left, top + number * height))
        for number, line in enumerate(lines):
            draw.text((left, top + 2 * height + GAP // 2 + number * LINE), line, "black", font)
    return np.asarray(page)


def to_shown(image: Tensor) -> np.ndarray:
    """(3, H, W) in [0, 1] -> uint8 (h, w, 3) of at most ``LARGEST`` pixels to a side."""
    pixels = to_8bit(image)
    scale = LARGEST / max(pixels.shape)
    return pixels if scale >= 1 else cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def caption(label: str, drawn: Sequence[tuple[str, Drawn]]) -> list[str]:
    """The name of a sample, then a line for each degradation with its parameters."""
    return [shortened(label), *(f"{name}: {', '.join(starmap(described, values.items()))}" for name, values in drawn)]


def described(name: str, value: float | int | bool) -> str:
    """A parameter in words."""
    if isinstance(value, bool):
        return f"{name} {'yes' if value else 'no'}"
    return f"{name} {value:.3g}" if abs(value) < 1000 else f"{name} {value:.0f}"


def wrapped(lines: Sequence[str], width: int, font: ImageFont.FreeTypeFont) -> list[str]:
    """The lines broken between words, or within words that are too long, to at most ``width`` pixels."""
    broken = []
    for line in lines:
        while font.getlength(line) > width:
            fits = max(1, bisect_right(range(len(line)), width, key=lambda length: font.getlength(line[:length])) - 1)
            space = line.rfind(" ", 1, fits + 1)
            cut = space if space > 0 else fits
            broken.append(line[:cut])
            line = line[cut:].lstrip()
        broken.append(line)
    return broken


if __name__ == "__main__":
    run_script(main, args)
