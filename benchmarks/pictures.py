"""Make the pictures of README.md: what the networks in weights/ do to photographs of scikit-image.

    python -m benchmarks.pictures --output docs

None of the photographs was trained on. Rain, snow and shake are put into five of them, once each. Haze and defocus
depend on depth, which was measured for one, the motorcycle: it is degraded five times. Of each five, the one with the
median gain in PSNR is shown, neither the best nor the worst, and of it the region where it differs most from the
original, pixel by pixel. Writes restored.jpg (dehazing, deraining and desnowing, before and after) and tasks.jpg (all
five tasks with the originals) to OUTPUT, and prints the gains.
"""

from utils.signals import end_on_signals

if __name__ == "__main__":
    end_on_signals()  # before the imports below, which take seconds

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.classical import as_tensor
from data.datasets import to_8bit
from data.synthetic.drawn import DEGRADATIONS
from data.synthetic.photographs import photographs
from evaluation.metrics import psnr
from evaluation.sheets import CAPTION, HEIGHT, labelled_sheet, region_of_interest
from inference.shipped import shipped_weights
from inference.whole import restore
from models import load_model
from utils.cli import ScriptParser
from utils.errors import run_script
from utils.files import write_atomically

SPLITS = ("train", "test")  # of the demo, which have all that are in colour
COLOURED = ("astronaut", "chelsea", "coffee", "motorcycle-left", "rocket")
WITH_DEPTH, OF_DEPTH = "motorcycle-left", ("dehazing", "defocus")
DEGRADED_BY = {
    "dehazing": ("haze", "hazy"),
    "deraining": ("rain", "rainy"),
    "desnowing": ("snow", "snowy"),
    "defocus": ("defocus", "out of focus"),
    "deblurring": ("motion_blur", "shaken"),
}
FIRST = ("dehazing", "deraining", "desnowing")  # differences that are seen at a glance
REGION = (HEIGHT - CAPTION, 262)  # in pixels: shown as they are, three of them are as wide as a README
QUALITY = 90  # of the JPEG files


class Example(NamedTuple):
    """A degraded photograph, what the network made of it, and the original: (3, H, W) in [0, 1]; the gain in dB."""

    name: str
    input: Tensor
    restored: Tensor
    target: Tensor
    gain: float


def main() -> None:
    about, _, details = __doc__.split("\n\n")
    parser = ScriptParser(prog="python -m benchmarks.pictures", description=f"{about} {details}")
    parser.add_argument("--output", type=Path, required=True, help="folder for the pictures")
    args = parser.parse()
    shown: dict[str, Example] = {}
    for task in DEGRADED_BY:
        examples = sorted(examples_of(task), key=lambda example: example.gain)
        shown[task] = examples[len(examples) // 2]
        gains = ", ".join(f"{example.name} {example.gain:+.2f}" for example in examples)
        print(f"{task}: {gains} dB; {shown[task].name} is shown")
    rows = {task: captioned(task, example) for task, example in shown.items()}
    write_jpeg(args.output / "restored.jpg", [[rows[task][column] for task in FIRST] for column in (0, 1)])
    write_jpeg(args.output / "tasks.jpg", list(rows.values()))


@torch.inference_mode()
def examples_of(task: str) -> list[Example]:
    """Five photographs, degraded and restored for a task."""
    network, degradation = load_model(shipped_weights(task)), DEGRADATIONS[DEGRADED_BY[task][0]]
    known = {name: (image, depth) for split in SPLITS for name, image, depth in photographs(split)}
    names, examples = [WITH_DEPTH] * 5 if task in OF_DEPTH else COLOURED, []
    for number, name in enumerate(tqdm(names, task, leave=False, disable=None)):
        image, depth = known[name]
        clean = image / np.float32(255)
        degraded = degradation(clean, np.random.default_rng(number), depth)
        input, target = as_tensor(degraded)[None], as_tensor(clean)[None]
        restored = restore(network, input)
        gain = psnr(restored, target) - psnr(input, target)
        examples.append(Example(name, input[0], restored[0], target[0], gain.item()))
    return examples


def captioned(task: str, example: Example) -> list[tuple[np.ndarray, str]]:
    """The region of interest of input, restored and target, uint8 (h, w, 3), with captions."""
    rows, columns = region_of_interest(example.input, example.target, *REGION)
    parts = (to_8bit(image[:, rows, columns]) for image in (example.input, example.restored, example.target))
    captions = (DEGRADED_BY[task][1], f"restored, {example.gain:+.1f} dB", "original")
    return list(zip(parts, captions, strict=True))


def write_jpeg(path: Path, cells: list[list[tuple[np.ndarray, str]]]) -> None:
    """Write a sheet of captioned images as JPEG."""
    content = cv2.imencode(".jpg", labelled_sheet(cells)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    write_atomically(path, content.tobytes())


if __name__ == "__main__":
    run_script(main)
