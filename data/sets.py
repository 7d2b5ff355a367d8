"""The sets of a configuration as pairs of files."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from data.layouts import Pair, find_clean, find_pairs
from utils.config import SetConfig, TestSetConfig, TrainSetConfig
from utils.errors import InputError, listed


def pairs_of_set(root: str | Path, part: SetConfig) -> list[Pair]:
    """The pairs that a set of a configuration means.

    Raises:
        InputError: as ``find_pairs``.
    """
    root = Path(root)
    folder = resolve_folder(root, part.folders)
    if folder is None:
        wanted = root if not root.is_dir() else " or ".join(str(root / name) for name in part.folders)
        raise InputError(f"{wanted}: no such folder; --data.root and the set's folder say where the images are")
    if isinstance(part, TrainSetConfig) and part.degrade is not None:
        return find_clean(folder)
    pairs = find_pairs(folder, part.layout)
    if isinstance(part.only, str):
        return select_listed(pairs, root / part.only)
    return pairs if part.only is None else select_numbered(pairs, *part.only)


def pairs_of_sets(root: str | Path, parts: dict[str, TestSetConfig]) -> dict[str, list[Pair]]:
    """``pairs_of_set`` of each by name; an optional set whose folder is not there is left out, which is printed.

    Raises:
        InputError: as ``find_pairs``; or all are left out.
    """
    found = {}
    for name, part in parts.items():
        if part.optional and resolve_folder(root, part.folders) is None:
            print(f"{name} is left out: no {' or '.join(part.folders)} in {root}")
        else:
            found[name] = pairs_of_set(root, part)
    if not found:
        raise InputError(f"{root}: none of the sets {', '.join(parts)} is there")
    return found


def subset_positions(root: str | Path, part: TestSetConfig, count: int) -> dict[str, list[int]]:
    """Where in the sorted order of a test set, from 0, the images of its subsets are.

    A subset whose file is not there is left out, which is printed.

    Raises:
        InputError: a file holds something else than positions from 1 to ``count``, the number of pairs.
    """
    folder = resolve_folder(root, part.folders)
    found = {}
    for name, subset in part.subsets.items():
        file = folder / subset.positions
        try:
            positions = np.load(file, allow_pickle=False).ravel()
        except FileNotFoundError:
            print(f"{name} is not scored by itself: no {file}")
            continue
        except (OSError, ValueError) as error:
            raise InputError(f"{file}: not a NumPy file of positions: {error}") from None
        if not set(positions.tolist()) <= set(range(1, count + 1)) or not len(positions):
            raise InputError(f"{file}: it should hold positions from 1 to {count}, the number of images")
        found[name] = [int(position) - 1 for position in positions]
    return found


def resolve_folder(root: str | Path, names: Iterable[str]) -> Path | None:
    """The first of ``names`` that is a folder below ``root``, whatever its case; None if there is none."""
    for name in names:
        found = Path(root)
        for part in Path(name).parts:
            if not (found / part).is_dir() and found.is_dir():
                spellings = {entry.casefold(): entry for entry in sorted(os.listdir(found))}
                part = spellings.get(part.casefold(), part)
            found = found / part
        if found.is_dir():
            return found
    return None


def select_numbered(pairs: list[Pair], first: int, last: int) -> list[Pair]:
    """The pairs whose input's file name begins with a number from ``first`` to ``last``.

    Raises:
        InputError: nothing is left, or a name begins with no number.
    """
    chosen = []
    for pair in pairs:
        number = re.match(r"\d+", pair.input.name)
        if number is None:
            raise InputError(f"{pair.input}: the set is split by the number of its images, and this name has none")
        if first <= int(number[0]) <= last:
            chosen.append(pair)
    if not chosen:
        raise InputError(f"{pairs[0].input.parent}: no images with numbers from {first} to {last}")
    return chosen


def select_listed(pairs: list[Pair], file: Path) -> list[Pair]:
    """The pairs whose inputs a text file names, one in each line.

    A line may have several columns, such as RealBlur's target and input. A name is a path that ends in
    ``Pair.name`` or is its end, in any case, with or without suffix.

    Raises:
        InputError: the file cannot be read, or has a line that names no input.
    """
    try:
        lines = [line.strip() for line in file.read_text().splitlines() if line.strip()]
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; it lists the images of the split") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot read the list of the split's images: {error}") from None
    whole = {pair.name.casefold(): [pair] for pair in pairs}
    ends: dict[str, list[Pair]] = {}
    for pair in pairs:
        for end in _ends(pair.name.casefold()):
            ends.setdefault(end, []).append(pair)
    chosen, missing = {}, []
    for line in lines:
        entries = [re.sub(r"\.\w+$", "", entry.casefold()) for entry in dict.fromkeys([line, *line.split()])]
        found = [ends[entry] for entry in entries if entry in ends]
        found += [whole[end] for entry in entries for end in _ends(entry) if end in whole]
        if not found:
            missing.append(line)
        else:
            chosen.update((pair.name, pair) for pair in found[0])
    if not chosen and not missing:
        raise InputError(f"{file}: the list is empty; it names the images of the split, one in each line")
    if missing:
        raise InputError(f"{file}: {listed(missing, 'line(s) without an input of the set')}")
    return [chosen[name] for name in sorted(chosen)]


def _ends(path: str) -> list[str]:
    """a/b/c -> a/b/c, b/c, c."""
    parts = path.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]
