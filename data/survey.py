"""Integrity checks over a data set: broken images, mismatched sizes, and targets shared by training and test."""

import hashlib
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from tqdm import tqdm

from data.images import Header, image_header, read_image
from data.layouts import Pair
from utils.cpus import cpu_count
from utils.errors import InputError, listed, printable
from utils.shared_memory import explained_if_full
from utils.signals import kept_from_children

Result = TypeVar("Result")
ImageHash = np.ndarray | InputError | None

MAX_HASH_DISTANCE = 10  # differing bits of 256 between duplicates; different scenes differ in about a hundred


def check_pairs(pairs: Iterable[Pair]) -> None:
    """Check every image's header, so that a run does not fail on a broken file hours later.

    Raises:
        InputError: images are unreadable or truncated, or pairs differ in size (the message gives their number and the
            first few names).
    """
    pairs = list(pairs)
    if problems := find_problems(pairs, read_headers(pairs)):
        raise InputError(problems[0])


def still_broken(problems: Mapping[str, str]) -> dict[str, str]:
    """The subset of ``problems`` (file -> message) whose files still cannot be decoded."""
    hashes = {file: image_hash(Path(file)) for file in problems}
    return {file: problem for file, problem in problems.items() if isinstance(hashes[file], InputError)}


def read_headers(pairs: Iterable[Pair], title: str | None = None) -> dict[Path, Header | InputError]:
    """The header of each image, or the error it raised; ``title`` labels the progress bar."""
    with ThreadPoolExecutor(4) as pool:
        return _map_images(_header, pairs, pool, title)


def image_hashes(pairs: Iterable[Pair], title: str | None = None) -> dict[Path, ImageHash]:
    """Decode each image, using all cores, and return its ``image_hash``; ``title`` labels the progress bar."""
    _start_resource_tracker()
    context = multiprocessing.get_context("spawn")
    with explained_if_full(), ProcessPoolExecutor(cpu_count(), context) as pool:
        return _map_images(image_hash, pairs, pool, title)


def find_problems(pairs: Iterable[Pair], headers: dict[Path, Header | InputError]) -> list[str]:
    """Messages for what would stop a run: broken images, and pairs whose sizes do not match."""
    problems = []
    if broken := sorted(str(headers[path]) for path in _paths(pairs) if isinstance(headers[path], InputError)):
        problems.append(listed(broken, "broken image(s)"))
    different = []
    for pair in pairs:
        input, target = headers[pair.input], headers[pair.target]
        if isinstance(input, Header) and isinstance(target, Header) and not _sizes_match(input, target, pair.centred):
            sides = [f"{header.width}x{header.height}" for header in (input, target)]
            different.append(f"{pair.input} ({sides[0]}) and {pair.target} ({sides[1]})")
    if different:
        problems.append(listed(different, "pair(s) of different size"))
    return problems


def shared_targets(
    training: Iterable[Pair], test: Iterable[Pair], hashes: dict[Path, ImageHash]
) -> list[tuple[Path, Path]]:
    """Test targets that also occur in the training set, as (test target, training target).

    Finds identical files (only files of equal length are read) and, among the images in ``hashes``, near duplicates,
    such as the same image recompressed.
    """
    known, tested = (sorted({pair.target for pair in pairs if pair.target.is_file()}) for pairs in (training, test))
    by_length: dict[int, list[Path]] = {}
    for path in known:
        by_length.setdefault(path.stat().st_size, []).append(path)
    lengths = {path: path.stat().st_size for path in tested}
    by_content = {(length, _sha256(path)): path for length in {*lengths.values()} for path in by_length.get(length, [])}
    hashed = [path for path in known if isinstance(hashes.get(path), np.ndarray)]
    table = np.array([hashes[path] for path in hashed], np.uint64).reshape(len(hashed), 4)
    shared = []
    for path in tested:
        twin = by_content.get((lengths[path], _sha256(path))) if lengths[path] in by_length else None
        if twin is None and hashed and isinstance(hashes.get(path), np.ndarray):
            distances = np.bitwise_count(table ^ hashes[path]).sum(1)
            twin = hashed[distances.argmin()] if distances.min() <= MAX_HASH_DISTANCE else None
        if twin is not None:
            shared.append((path, twin))
    return shared


def image_hash(path: Path) -> ImageHash:
    """256-bit difference hash, uint64 (4,), robust to recompression.

    Each bit tells whether a downscaled image gets brighter from one pixel to its right neighbour. Returns None for an
    image with almost no contrast, whose bits would be noise, and the error for a broken image.
    """
    try:
        image = read_image(path)
    except InputError as error:
        return error
    small = cv2.resize(image.astype(np.float32).mean(2), (17, 16), interpolation=cv2.INTER_AREA)
    if small.std() < np.iinfo(image.dtype).max / 100:
        return None
    return np.packbits(small[:, 1:] > small[:, :-1]).view(np.uint64)


def _start_resource_tracker() -> None:
    """Start Python's process that cleans up after an interruption, so that it does not warn about what it finds."""
    sys.warnoptions.append("ignore:resource_tracker")  # the process gets these options
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.pop()


def _header(path: Path) -> Header | InputError:
    try:
        return image_header(path)
    except InputError as error:
        return error


def _map_images(function: Callable[[Path], Result], pairs: Iterable[Pair], pool: Executor, title: str | None) -> dict:
    paths = _paths(pairs)
    bar = tqdm(
        total=len(paths), desc=title and printable(title), unit="image", leave=False, disable=title is None or None
    )
    with bar:
        results = {}
        with kept_from_children():  # a pool starts its processes with the first task
            values = pool.map(function, paths, chunksize=16)
        for path, value in zip(paths, values, strict=True):
            results[path] = value
            bar.update()
        return results


def _paths(pairs: Iterable[Pair]) -> list[Path]:
    return sorted({path for pair in pairs for path in (pair.input, pair.target)})


def _sizes_match(input: Header, target: Header, centred: bool) -> bool:
    margins = (target.height - input.height, target.width - input.width)
    return margins == (0, 0) or (centred and all(margin >= 0 and margin % 2 == 0 for margin in margins))


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(pairs: Iterable[Pair]) -> dict[str, int | str]:
    """Number of pairs, and a digest of their names and file sizes; detects changes to the data set."""
    pairs = list(pairs)
    sizes = {path: path.stat().st_size if path.exists() else 0 for path in _paths(pairs)}  # many share a target
    digest = hashlib.sha256()
    for pair in pairs:
        line = f"{pair.name}\0{pair.target.name}\0{[sizes[pair.input], sizes[pair.target]]}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return {"pairs": len(pairs), "sha256": digest.hexdigest()}


def fingerprint_of_sets(sets: Sequence[Sequence[Pair]]) -> dict[str, int | str]:
    """``fingerprint`` of one set, or of several in their order."""
    if len(sets) == 1:
        return fingerprint(sets[0])
    found = [fingerprint(pairs) for pairs in sets]
    digest = hashlib.sha256("".join(str(part["sha256"]) for part in found).encode())
    return {"pairs": sum(map(len, sets)), "sha256": digest.hexdigest()}
