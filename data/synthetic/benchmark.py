"""Data for the embedded benchmark: scikit-image's sample photographs, degraded, in the layouts of public data sets.

    python -m data.synthetic.benchmark --output datasets/benchmark

Folders and file names below the output folder follow these data sets:

    dehazing/{train,test}/{hazy,gt}                      RESIDE
    deblurring/{train,test}/NAME/{blur,sharp}            GoPro, with one photograph per sequence
    defocus/{train,val,test}_c/{source,target}           DPDD: 16 bit, indoor_labels.npy and outdoor_labels.npy
    deraining/train/{input,target}, deraining/test/SET/{input,target}    Rain13K; SET: Test100, Rain100H, Rain100L
    desnowing/{train2500,test2000}/{Snow,Gt}             CSD

No photograph occurs in more than one split. Depth is measured for the motorcycle and synthetic for all others. The
output is deterministic: running the script again rewrites the same files.
"""

from utils.signals import end_on_signals

if __name__ == "__main__":
    end_on_signals()  # before the imports below, which take seconds

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from data.images import write_image
from data.synthetic.degradations import haze, motion_blur, shake_kernel, to_linear, to_srgb
from data.synthetic.depth import smooth_depth
from data.synthetic.drawn import DEGRADATIONS
from data.synthetic.photographs import PHOTOGRAPHS, photographs
from utils.cli import ScriptParser
from utils.errors import run_script
from utils.files import replacing

VARIANTS = {"train": 12, "validation": 2, "test": 4}  # degraded versions per photograph
INDOOR = ("coffee",)  # test photographs labelled indoor, as in DPDD; all others are outdoor


def clean_images(
    split: str, variants: dict[str, int], seed: int, recolour: bool = True
) -> Iterator[tuple[str, int, np.ndarray, np.ndarray | None, np.random.Generator]]:
    """Yield each photograph of a split ``variants[split]`` times.

    Yields (name, number from 1, image uint8 (H, W, 3), depth or None if unknown, random generator). With ``recolour``,
    training images get different colours each time.
    """
    for position, (name, photograph, depth) in enumerate(photographs(split)):
        rng = np.random.default_rng([seed, list(PHOTOGRAPHS).index(split), position])
        for number in range(1, variants[split] + 1):
            clean = random_colours(photograph, rng) if recolour and split == "train" else photograph
            yield name, number, clean, depth, rng


def random_colours(photograph: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Randomise exposure (0 to -2 stops), white balance and channel order of a photograph, uint8 (H, W, 3).

    With only a handful of photographs, a network would otherwise mistake pale objects for haze, rain or snow.
    """
    stops = rng.uniform(-2, 0) + rng.uniform(-0.5, 0.5, 3)
    light = to_linear(as_float(photograph[..., rng.permutation(3)]))
    return to_integer(to_srgb(light * np.float32(2) ** stops.astype(np.float32)), np.uint8)


def write_dehazing(folder: Path, variants: dict[str, int], seed: int) -> None:
    """Write hazy images at half size, so that a training crop shows enough of the scene to estimate its haze."""
    for split in ("train", "test"):
        for name, number, clean, depth, rng in clean_images(split, variants, seed):
            hazes = (1, 2) if split == "train" else (number,)
            name = f"{name}-{number}" if split == "train" else name
            clean = cv2.resize(clean, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            write_image(folder / split / "gt" / f"{name}.png", clean)
            for haze_number in hazes:
                airlight, beta = rng.uniform(0.7, 1), rng.uniform(0.6, 1.8)
                size = clean.shape[:2]
                distance = smooth_depth(*size, rng) if depth is None else cv2.resize(depth, size[::-1])
                path = folder / split / "hazy" / f"{name}_{haze_number}_{airlight:.2f}_{beta:.2f}.png"
                write_image(path, to_integer(haze(as_float(clean), distance, beta, airlight), np.uint8))


def write_deblurring(folder: Path, variants: dict[str, int], seed: int) -> None:
    """Write images with camera shake."""
    for split in ("train", "test"):
        for name, number, clean, _, rng in clean_images(split, variants, seed, recolour=False):
            blurred = motion_blur(as_float(clean), shake_kernel(rng, extent=rng.uniform(4, 16)))
            write_image(folder / split / name / "sharp" / f"{number:06}.png", clean)
            write_image(folder / split / name / "blur" / f"{number:06}.png", to_integer(blurred, np.uint8))


def write_defocus(folder: Path, variants: dict[str, int], seed: int) -> None:
    """Write 16-bit images with defocus blur, and the index files of the indoor and outdoor test images."""
    shot = 1  # DPDD numbers inputs and targets consecutively, as separate exposures
    for split, subfolder in (("train", "train_c"), ("validation", "val_c"), ("test", "test_c")):
        is_indoor = []
        for name, _, clean, depth, rng in clean_images(split, variants, seed, recolour=False):
            blurred = DEGRADATIONS["defocus"](as_float(clean), rng, depth)
            write_image(folder / subfolder / "source" / f"1P0A{shot:04}.png", to_integer(blurred, np.uint16))
            write_image(folder / subfolder / "target" / f"1P0A{shot + 1:04}.png", clean.astype(np.uint16) * 257)
            is_indoor.append(name in INDOOR)
            shot += 2
        if split == "test":
            for name, chosen in (("indoor", is_indoor), ("outdoor", np.logical_not(is_indoor))):
                with replacing(folder / subfolder / f"{name}_labels.npy") as file:
                    np.save(file, np.flatnonzero(chosen) + 1)


def write_deraining(folder: Path, variants: dict[str, int], seed: int) -> None:
    """Write rainy images: one training set and three test sets."""
    sets = {
        "train": ("train", DEGRADATIONS["rain"]),
        "test/Test100": ("test", DEGRADATIONS["rain"]),
        "test/Rain100H": ("test", DEGRADATIONS["heavy_rain"]),
        "test/Rain100L": ("test", DEGRADATIONS["light_rain"]),
    }
    for index, (subfolder, (split, degrade)) in enumerate(sets.items()):
        images = clean_images(split, variants, len(TASKS) * index + seed)
        for position, (_, _, clean, _, rng) in enumerate(images, 1):
            write_image(folder / subfolder / "target" / f"{position}.png", clean)
            rainy = degrade(as_float(clean), rng)
            write_image(folder / subfolder / "input" / f"{position}.png", to_integer(rainy, np.uint8))


def write_desnowing(folder: Path, variants: dict[str, int], seed: int) -> None:
    """Write snowy images."""
    for split, subfolder in (("train", "train2500"), ("test", "test2000")):
        for position, (_, _, clean, _, rng) in enumerate(clean_images(split, variants, seed), 1):
            write_image(folder / subfolder / "Gt" / f"{position}.tif", clean)
            snowy = DEGRADATIONS["snow"](as_float(clean), rng)
            write_image(folder / subfolder / "Snow" / f"{position}.tif", to_integer(snowy, np.uint8))


TASKS: dict[str, Callable[[Path, dict[str, int], int], None]] = {
    "dehazing": write_dehazing,
    "deblurring": write_deblurring,
    "defocus": write_defocus,
    "deraining": write_deraining,
    "desnowing": write_desnowing,
}


def write_benchmark(output: Path, tasks: Iterable[str] = TASKS, variants: dict[str, int] = VARIANTS) -> None:
    """Write the data of ``tasks`` below ``output``; ``variants`` is the number of images per photograph, by split."""
    for task in tqdm(tasks, "writing images", disable=None):
        TASKS[task](output / task, variants, seed=list(TASKS).index(task))


def as_float(image: np.ndarray) -> np.ndarray:
    """uint8 -> float32 in [0, 1]."""
    return image.astype(np.float32) / 255


def to_integer(image: np.ndarray, dtype: type) -> np.ndarray:
    """[0, 1] -> the full range of ``dtype``, rounded."""
    return np.round(image * np.iinfo(dtype).max).astype(dtype)


def main() -> None:
    parser = ScriptParser(prog="python -m data.synthetic.benchmark", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("datasets/benchmark"), help="output folder")
    write_benchmark(parser.parse().output)


if __name__ == "__main__":
    run_script(main)
