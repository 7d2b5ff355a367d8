"""What the images of a set are like: headers, damage, sizes, and targets that training and test share."""

import hashlib
import multiprocessing
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from tqdm import tqdm

from data.images import Header, image_header, read_image
from data.layouts import Pair
from utils.cpus import cpu_count
from utils.errors import InputError, listed

Found = TypeVar("Found")
Appearance = np.ndarray | InputError | None

LOOK_ALIKE = 10  # of 256 bits; photographs of different scenes differ in about a hundred


def check_pairs(pairs: Iterable[Pair]) -> None:
    """Look at every image's header, so that a run does not meet a broken one after hours.

    Raises:
        InputError: an image is unreadable or cut off, or a pair differs in size (all are counted, some named).
    """
    pairs = list(pairs)
    if problems := problems_of(pairs, headers_of(pairs)):
        raise InputError(problems[0])


def still_broken(problems: Mapping[str, str]) -> dict[str, str]:
    """Of broken images, as file and problem, those that cannot be read yet."""
    looks = {file: appearance(Path(file)) for file in problems}
    return {file: problem for file, problem in problems.items() if isinstance(looks[file], InputError)}


def headers_of(pairs: Iterable[Pair], title: str | None = None) -> dict[Path, Header | InputError]:
    """What the header of each image says, or what is wrong with it; ``title`` is that of a progress bar."""
    with ThreadPoolExecutor(4) as pool:
        return _of_each(_header, pairs, pool, title)


def appearances_of(pairs: Iterable[Pair], title: str | None = None) -> dict[Path, Appearance]:
    """Decode each image, on all cores, and return its ``appearance``."""
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cpu_count(), spawning) as pool:
        return _of_each(appearance, pairs, pool, title)


def problems_of(pairs: Iterable[Pair], headers: dict[Path, Header | InputError]) -> list[str]:
    """What would stop a run: unreadable images, and pairs whose sizes do not go together."""
    problems = []
    if broken := sorted(str(headers[path]) for path in _paths(pairs) if isinstance(headers[path], InputError)):
        problems.append(listed(broken, "broken image(s)"))
    different = []
    for pair in pairs:
        input, target = headers[pair.input], headers[pair.target]
        if isinstance(input, Header) and isinstance(target, Header) and not _fit(input, target, pair.centred):
            sides = [f"{header.width}x{header.height}" for header in (input, target)]
            different.append(f"{pair.input} ({sides[0]}) and {pair.target} ({sides[1]})")
    if different:
        problems.append(listed(different, "pair(s) of different size"))
    return problems


def shared_targets(
    training: Iterable[Pair], test: Iterable[Pair], appearances: dict[Path, Appearance]
) -> list[tuple[Path, Path]]:
    """Targets of the test set that are training targets too: (test, training).

    Those whose files are the same byte for byte (only files of equal length are read), and of the images whose
    appearance is given those that look alike.
    """
    known, tested = (sorted({pair.target for pair in pairs if pair.target.is_file()}) for pairs in (training, test))
    by_length: dict[int, list[Path]] = {}
    for path in known:
        by_length.setdefault(path.stat().st_size, []).append(path)
    lengths = {path: path.stat().st_size for path in tested}
    by_content = {(length, _digest(path)): path for length in {*lengths.values()} for path in by_length.get(length, [])}
    seen = [path for path in known if isinstance(appearances.get(path), np.ndarray)]
    table = np.array([appearances[path] for path in seen], np.uint64).reshape(len(seen), 4)
    shared = []
    for path in tested:
        twin = by_content.get((lengths[path], _digest(path))) if lengths[path] in by_length else None
        if twin is None and seen and isinstance(appearances.get(path), np.ndarray):
            distances = np.bitwise_count(table ^ appearances[path]).sum(1)
            twin = seen[distances.argmin()] if distances.min() <= LOOK_ALIKE else None
        if twin is not None:
            shared.append((path, twin))
    return shared


def appearance(path: Path) -> Appearance:
    """256 bits, uint64 (4,), that say where an image gets brighter from left to right; they survive compression.

    None for an image with next to no contrast, whose bits would be noise; for a broken one what is wrong with it.
    """
    try:
        image = read_image(path)
    except InputError as error:
        return error
    small = cv2.resize(image.astype(np.float32).mean(2), (17, 16), interpolation=cv2.INTER_AREA)
    if small.std() < np.iinfo(image.dtype).max / 100:
        return None
    return np.packbits(small[:, 1:] > small[:, :-1]).view(np.uint64)


def _header(path: Path) -> Header | InputError:
    try:
        return image_header(path)
    except InputError as error:
        return error


def _of_each(look: Callable[[Path], Found], pairs: Iterable[Pair], pool: Executor, title: str | None) -> dict:
    paths = _paths(pairs)
    bar = tqdm(total=len(paths), desc=title, unit="image", leave=False, disable=title is None or None)
    with bar:
        found = {}
        for path, value in zip(paths, pool.map(look, paths, chunksize=16), strict=True):
            found[path] = value
            bar.update()
        return found


def _paths(pairs: Iterable[Pair]) -> list[Path]:
    return sorted({path for pair in pairs for path in (pair.input, pair.target)})


def _fit(input: Header, target: Header, centred: bool) -> bool:
    margins = (target.height - input.height, target.width - input.width)
    return margins == (0, 0) or (centred and all(margin >= 0 and margin % 2 == 0 for margin in margins))


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(pairs: Iterable[Pair]) -> dict[str, int | str]:
    """Number of pairs, and a digest of their names and file sizes, by which a changed data set is noticed."""
    digest, count = hashlib.sha256(), 0
    for pair in pairs:
        sizes = [path.stat().st_size if path.exists() else 0 for path in (pair.input, pair.target)]
        digest.update(f"{pair.name}\0{pair.target.name}\0{sizes}\n".encode(errors="surrogateescape"))
        count += 1
    return {"pairs": count, "sha256": digest.hexdigest()}
