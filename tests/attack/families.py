"""The families of attacks, and what they work on."""

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from album import PHOTO
from conftest import SMALL, awake, save_model, write_reside

import training.run  # noqa: F401  with the others, what every fork would import
from attack import configurations, disks, images, kills, names, page, states, weights
from attack.judge import Trial, Victim
from data.images import write_image
from models import build_model

# How often each attacks in about ten minutes on two cores.
FAMILIES = {
    "images": (images.attack, 450),
    "weights": (weights.attack, 140),
    "states": (states.attack, 60),
    "configurations": (configurations.attack, 100),
    "names": (names.attack, 60),
    "kills": (kills.attack, 40),
    "disks": (disks.attack, 40),
    "page": (page.attack, 90),
}


def generator(seed: int, family: str) -> np.random.Generator:
    """The random numbers of a family, whichever others run."""
    return np.random.default_rng([seed, zlib.crc32(family.encode())])


def trials(family: str, folder: Path, rng: np.random.Generator, count: int) -> Iterator[Trial]:
    """Attack ``count`` times, in an empty folder."""
    torch.manual_seed(0)
    network = save_model(folder / "best.pt", awake(build_model(**SMALL)), SMALL)
    victim = Victim(network, write_reside(folder / "reside"), folder / "photo.png")
    write_image(victim.image, PHOTO)
    (folder / "work").mkdir()
    return FAMILIES[family][0](folder / "work", victim, rng, count)
