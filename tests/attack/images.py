"""Mutated image files, restored in one job: each is restored or reported in one line."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from album import write_album
from PIL import Image

from attack.judge import Trial, Victim, faults_of, run_script

EXTRA_BYTES = 64


def mutated(content: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """How a file was mutated, and the result."""
    kind = str(rng.choice(["cut", "flips", "insert", "delete", "zeros", "header"]))
    place = int(rng.integers(1, len(content)))
    data = bytearray(content)
    if kind == "cut":
        data = data[:place]
    elif kind == "flips":
        for position in rng.integers(0, len(data), int(rng.integers(1, 20))):
            data[position] ^= 1 << int(rng.integers(8))
    elif kind == "insert":
        data[place:place] = rng.bytes(int(rng.integers(1, EXTRA_BYTES)))
    elif kind == "delete":
        del data[place : place + int(rng.integers(1, EXTRA_BYTES))]
    elif kind == "zeros":
        data[place : place + EXTRA_BYTES] = bytes(len(data[place : place + EXTRA_BYTES]))
    else:
        for position in rng.integers(0, min(len(data), 100), 3):
            data[position] = int(rng.integers(256))
    return kind, bytes(data)


def attack(folder: Path, victim: Victim, rng: np.random.Generator, count: int) -> Iterator[Trial]:
    """Restore ``count`` mutants of an album in one job, next to the whole files."""
    write_album(folder / "whole")
    whole = sorted(path for path in (folder / "whole").rglob("*") if path.is_file())
    (folder / "in").mkdir()
    mutants = {}
    for index in range(count):
        source = whole[index % len(whole)]
        kind, content = mutated(source.read_bytes(), rng)
        path = folder / "in" / f"{index:04d}_{kind}_{source.name}"
        path.write_bytes(content)
        mutants[path] = (kind, source)
    job = ["--weights", victim.weights, "--input"]
    reference = run_script("restore.py", *job, folder / "whole", "--output", folder / "expected", seconds=300)
    yield Trial("the album as it is", faults_of(reference, allowed=(0,)))
    outcome = run_script("restore.py", *job, folder / "in", "--output", folder / "out", seconds=600 + count)
    yield Trial("restoring all mutants in one job", faults_of(outcome, one_error=False))
    header_only = cut_files_found(folder, mutants)
    for path, (kind, source) in mutants.items():
        trial = Trial(f"{path.name}: mutant of {source.name}")
        lines = [line for line in outcome.errors if path.name in line]
        result = folder / "out" / path.name
        if len(lines) != (not result.exists()):
            trial.faults.append(f"{len(lines)} error lines, result {'written' if result.exists() else 'missing'}")
        if result.exists():
            trial.faults += unreadable(result)
        if kind == "cut" and result.exists():
            expected = folder / "expected" / source.relative_to(folder / "whole")
            if not same_pixels(result, expected):
                trial.faults.append("cut off, but restored as if it were whole")
        elif kind == "cut" and path not in header_only:
            trial.faults.append("cut off, but data.check does not say so")
        yield trial


def cut_files_found(folder: Path, mutants: dict[Path, tuple[str, Path]]) -> set[Path]:
    """The mutants that the look at headers and ends finds fault with."""
    from data.images import BrokenImage, image_header

    found = set()
    for path in mutants:
        try:
            image_header(path)
        except BrokenImage:
            found.add(path)
    return found


def unreadable(path: Path) -> list[str]:
    """Why a result is no sound image; empty if it is."""
    try:
        with Image.open(path) as image:
            image.load()
    except Exception as error:
        return [f"the result cannot be read: {error}"]
    return []


def same_pixels(one: Path, other: Path) -> bool:
    """Whether two images have the same pixels."""
    pixels = []
    for path in (one, other):
        with Image.open(path) as image:
            pixels.append(np.asarray(image))
    return np.array_equal(*pixels)
