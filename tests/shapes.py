"""Tiny data sets of photographs in the shape of each public one, as its configuration expects it."""

from pathlib import Path

import cv2
import numpy as np
import skimage.data

from data.images import write_image
from data.synthetic.drawn import DEGRADATIONS

TRAIN, TEST = (1, 2, 3), (51, 52)
HEIGHT, WIDTH = 72, 80

RAIN_SETS = ("Test100", "Rain100H", "Rain100L", "Test1200", "Test2800")
DPDD = [(f"{part}_c/source/1P0A{{:04}}.png", f"{part}_c/target/1P0B{{:04}}.png") for part in ("train", "val", "test")]
REALBLUR_J = "RealBlur-J_ECC_IMCORR_centroid_itensity_ref/scene{:03}"
REALBLUR_R = "RealBlur-R_BM3D_ECC_IMCORR_centroid_itensity_ref/scene{:03}"

ALL_IN_ONE = [
    ("train/haze/hazy/{:04}_0.8_0.2.jpg", "train/haze/gt/{:04}.png", TRAIN),
    ("train/rain/input/{}.png", "train/rain/target/{}.png", (1,)),
    (None, "train/noise/{}.png", TRAIN),
    ("test/SOTS-Outdoor/hazy/{:04}_0.8_0.2.jpg", "test/SOTS-Outdoor/gt/{:04}.png", TEST),
    ("test/Rain100L/input/{}.png", "test/Rain100L/target/{}.png", TEST),
    (None, "test/CBSD68/{}.png", TEST),
]

# For each configuration: how its task degrades, and (input, target, numbers) with the number put into both names; the
# input is None where the loader makes it.
SHAPES: dict[str, tuple[str, list[tuple[str | None, str, tuple[int, ...]]]]] = {
    "all_in_one": ("haze", ALL_IN_ONE),
    "all_in_one_five": (
        "haze",
        [
            *ALL_IN_ONE,
            ("train/blur/GOPR0372_07_00/blur/{:06}.png", "train/blur/GOPR0372_07_00/sharp/{:06}.png", TRAIN),
            ("train/low_light/low/{}.png", "train/low_light/high/{}.png", TRAIN),
            ("test/GoPro/GOPR0384_11_00/blur/{:06}.png", "test/GoPro/GOPR0384_11_00/sharp/{:06}.png", (51,)),
            ("test/LOL/low/{}.png", "test/LOL/high/{}.png", (51,)),
        ],
    ),
    "dehazing_its": (
        "haze",
        [
            ("train/hazy/{}_1.png", "train/gt/{}.png", TRAIN),
            ("train/hazy/{}_2.png", "train/gt/{}.png", TRAIN),
            ("test/hazy/{}_1.png", "test/gt/{}.png", TEST),
        ],
    ),
    "dehazing_ots": (
        "haze",
        [
            ("OTS/hazy/{:04}_0.8_0.04.jpg", "OTS/clear/{:04}.jpg", TRAIN),
            ("SOTS/outdoor/hazy/{:04}_0.8_0.2.jpg", "SOTS/outdoor/gt/{:04}.png", TEST),
        ],
    ),
    "dehazing_haze4k": (
        "haze",
        [
            ("train/haze/{}_0.86_1.4.png", "train/gt/{}.png", TRAIN),
            ("test/haze/{}_0.5_1.88.png", "test/gt/{}.png", TEST),
        ],
    ),
    "dehazing_dense_haze": ("haze", [("{:02}_hazy.png", "{:02}_GT.png", TRAIN + TEST)]),
    "dehazing_nh_haze": ("haze", [("hazy/{:02}.png", "GT/{:02}.png", TRAIN + TEST)]),
    "dehazing_o_haze": ("haze", [("hazy/{:02}_outdoor_hazy.jpg", "GT/{:02}_outdoor_GT.jpg", (*TRAIN, 41, 42))]),
    "dehazing_i_haze": ("haze", [("hazy/{:02}_indoor_hazy.JPG", "GT/{:02}_indoor_GT.jpg", (*TRAIN, 31, 32))]),
    "deblurring_gopro": (
        "motion_blur",
        [
            ("train/GOPR0372_07_00/blur/{:06}.png", "train/GOPR0372_07_00/sharp/{:06}.png", TRAIN),
            ("train/GOPR0372_07_00/blur_gamma/{:06}.png", "train/GOPR0372_07_00/sharp/{:06}.png", TRAIN),
            ("test/GOPR0384_11_00/blur/{:06}.png", "test/GOPR0384_11_00/sharp/{:06}.png", TEST),
            ("HIDE/input/{}fromGOPR0950.png", "HIDE/target/{}fromGOPR0950.png", TEST),
        ],
    ),
    "deblurring_realblur_j": (
        "motion_blur",
        [(f"{REALBLUR_J}/blur/blur_1.png", f"{REALBLUR_J}/gt/gt_1.png", TRAIN + TEST)],
    ),
    "deblurring_realblur_r": (
        "motion_blur",
        [(f"{REALBLUR_R}/blur/blur_1.png", f"{REALBLUR_R}/gt/gt_1.png", TRAIN + TEST)],
    ),
    "defocus_dpdd": ("defocus", [(*DPDD[0], TRAIN), (*DPDD[1], (11,)), (*DPDD[2], TEST)]),
    "deraining_rain13k": (
        "rain",
        [
            ("train/input/{}.jpg", "train/target/{}.jpg", TRAIN),
            *((f"test/{name}/input/{{}}.png", f"test/{name}/target/{{}}.png", (51,)) for name in RAIN_SETS),
        ],
    ),
    "desnowing_csd": (
        "snow",
        [
            ("train2500/Snow/{}.tif", "train2500/Gt/{}.tif", TRAIN),
            ("test2000/Snow/{}.tif", "test2000/Gt/{}.tif", TEST),
        ],
    ),
    "desnowing_srrs": (
        "snow",
        [
            ("train2500/Snow/{}.jpg", "train2500/Gt/{}.jpg", TRAIN),
            ("test2000/Snow/{}.png", "test2000/Gt/{}.jpg", TEST),
        ],
    ),
    "desnowing_snow100k": (
        "snow",
        [
            ("train/synthetic/beautiful_smile_{:05}.jpg", "train/gt/beautiful_smile_{:05}.jpg", TRAIN),
            ("train/mask/beautiful_smile_{:05}.jpg", "train/gt/beautiful_smile_{:05}.jpg", TRAIN),
            ("test/synthetic/city_{:05}.jpg", "test/gt/city_{:05}.jpg", TEST),
        ],
    ),
}
SHAPES["deraining_rain13k_progressive"] = SHAPES["deraining_rain13k"]


def photograph(number: int) -> np.ndarray:
    """A different part of a photograph for each number: uint8 (72, 80, 3)."""
    image = cv2.resize(skimage.data.coffee(), (400, 267), interpolation=cv2.INTER_AREA)
    top, left = number * 37 % (267 - HEIGHT), number * 71 % (400 - WIDTH)
    return image[top : top + HEIGHT, left : left + WIDTH]


def write_shape(name: str, root: Path) -> Path:
    """Write the data set of ``configs/NAME.yaml``, with the files beside its images that it comes with."""
    degradation, parts = SHAPES[name]
    rng = np.random.default_rng(0)
    for input, target, numbers in parts:
        for number in numbers:
            clean = photograph(number).astype(np.float32) / 255
            degraded = DEGRADATIONS[degradation](clean, rng)
            for file, image in ((input, degraded), (target, clean))[input is None :]:
                depth = np.uint16 if name == "defocus_dpdd" else np.uint8
                values = np.round(image * np.iinfo(depth).max).astype(depth)
                write_image(root / file.format(number), values)
    if name == "defocus_dpdd":
        np.save(root / "test_c" / "indoor_labels.npy", np.array([2]))
        np.save(root / "test_c" / "outdoor_labels.npy", np.array([1]))
    if name.startswith("deblurring_realblur"):
        ((input, target, _),) = parts
        for split, numbers in (("train", TRAIN), ("test", TEST)):
            lines = [f"{target.format(number)} {input.format(number)}\n" for number in numbers]
            (root / f"RealBlur_{name[-1].upper()}_{split}_list.txt").write_text("".join(lines))
    return root
