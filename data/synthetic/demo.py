"""Data for the demo: scikit-image's sample photographs with synthetic haze, in RESIDE's layout.

    python -m data.synthetic.demo --output datasets/demo

Writes train/{hazy,gt} and test/{hazy,gt}, with 16 hazy versions of each training photograph and 4 of each test
photograph. No photograph occurs in both splits. Depth is measured for the motorcycle and synthetic for all others. The
output is deterministic: running the script again rewrites the same files.
"""

from utils.signals import end_on_signals

if __name__ == "__main__":
    end_on_signals()  # before the imports below, which take seconds

from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.images import write_image
from data.synthetic.degradations import haze
from data.synthetic.depth import smooth_depth
from data.synthetic.photographs import PHOTOGRAPHS, photographs
from utils.cli import ScriptParser
from utils.errors import run_script

VARIANTS = {"train": 16, "test": 4}


def write_demo(output: Path, seed: int = 0) -> None:
    """Write both splits below ``output``."""
    for number, split in enumerate(VARIANTS):
        rng = np.random.default_rng([seed, number])
        for name, image, depth in tqdm(photographs(split), split, len(PHOTOGRAPHS[split]), disable=None):
            write_image(output / split / "gt" / f"{name}.png", image)
            clear = image.astype(np.float32) / 255
            for index in range(VARIANTS[split]):
                beta, airlight = rng.uniform(0.6, 1.8), rng.uniform(0.7, 1)
                distance = smooth_depth(*image.shape[:2], rng) if depth is None else depth
                hazy = haze(clear, distance, beta, airlight)
                path = output / split / "hazy" / f"{name}_{index + 1}_{beta:.2f}_{airlight:.2f}.png"
                write_image(path, np.round(hazy * 255).astype(np.uint8))


def main() -> None:
    parser = ScriptParser(prog="python -m data.synthetic.demo", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("datasets/demo"), help="output folder")
    write_demo(parser.parse().output)


if __name__ == "__main__":
    run_script(main)
