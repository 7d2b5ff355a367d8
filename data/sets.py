"""Resolve the data sets of a configuration to pairs of files."""

import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from data.folders import find_below
from data.layouts import Pair, find_clean, find_pairs
from data.lists import select_listed
from data.shares import Share, weighted_shares
from utils.config import SetConfig, TestSetConfig, TrainSetConfig
from utils.errors import InputError, printable
from utils.text_files import expand_home, read_bytes


def pairs_of_set(root: str | Path, part: SetConfig) -> list[Pair]:
    """Find the pairs of one configured set.

    Raises:
        InputError: the folder does not exist, or as ``find_pairs``, ``select_listed`` and ``select_numbered``.
    """
    root = expand_home(root)
    folder = resolve_folder(root, part.folders)
    if folder is None:
        wanted = root if not root.is_dir() else " or ".join(str(root / name) for name in part.folders)
        raise InputError(f"{wanted}: no such folder; check --data.root and the set's `folder`")
    pairs = find_pairs(folder, part.layout) if part.degrade is None else find_clean(folder)
    if isinstance(part.only, str):
        return select_listed(pairs, find_below(root, expand_home(part.only)))
    return pairs if part.only is None else select_numbered(pairs, *part.only)


def training_pairs(root: str | Path, train: TrainSetConfig) -> list[list[Pair]]:
    """Find the pairs of each training set.

    Raises:
        InputError: as ``pairs_of_set``.
    """
    return [pairs_of_set(root, part) for part in train.parts]


def training_shares(train: TrainSetConfig, pairs: Sequence[Sequence[Pair]]) -> list[Share]:
    """What an epoch draws from each training set, of which ``pairs`` were found.

    Raises:
        InputError: the weight of a set is so small that an epoch draws nothing from it.
    """
    crops = [len(of_set) * part.repeats for of_set, part in zip(pairs, train.parts, strict=True)]
    weights = [part.weight for part in train.sets]
    if None in weights or not weights:
        return [Share(count, count) for count in crops]
    shares = weighted_shares(crops, weights)
    for number, share in enumerate(shares):
        if share.drawn == 0:
            raise InputError(
                f"data.train[{number}].weight: {weights[number]:g} of {sum(weights):g} is less than one of the "
                f"{sum(crops)} samples of an epoch; raise it, or the repeats of the sets"
            )
    return shares


def pairs_of_sets(root: str | Path, parts: dict[str, TestSetConfig]) -> dict[str, list[Pair]]:
    """Find the pairs of several sets, by name. Optional sets whose folder is missing are skipped with a message.

    Raises:
        InputError: all sets were skipped, or as ``pairs_of_set``.
    """
    found = {}
    for name, part in parts.items():
        if part.optional and resolve_folder(root, part.folders) is None:
            print(printable(f"skipping {name}: no {' or '.join(part.folders)} in {root}"))
        else:
            found[name] = pairs_of_set(root, part)
    if not found:
        raise InputError(f"{root}: none of the sets {', '.join(parts)} found; check --data.root")
    return found


def subset_positions(root: str | Path, part: TestSetConfig, count: int) -> dict[str, list[int]]:
    """Positions (from 0) of each subset's images in the sorted test set of ``count`` pairs.

    Subsets whose file is missing are skipped with a message.

    Raises:
        InputError: a file does not hold positions from 1 to ``count``.
    """
    folder = resolve_folder(root, part.folders)
    found = {}
    for name, subset in part.subsets.items():
        file = find_below(folder, expand_home(subset.positions))
        try:
            positions = np.load(io.BytesIO(read_bytes(file)), allow_pickle=False).ravel()
        except FileNotFoundError:
            print(printable(f"skipping subset {name}: no {file}"))
            continue
        except (OSError, ValueError, EOFError, MemoryError) as error:
            raise InputError(
                f"{file}: not a valid .npy file of positions; expected integers, as written by numpy.save: {error}"
            ) from None
        if not set(positions.tolist()) <= set(range(1, count + 1)) or not len(positions):
            raise InputError(f"{file}: expected positions from 1 to {count} (the number of images)")
        found[name] = [int(position) - 1 for position in positions]
    return found


def resolve_folder(root: str | Path, names: Iterable[str]) -> Path | None:
    """The first of ``names`` that is a folder below ``root``, see ``find_below``; None if there is none."""
    candidates = (find_below(expand_home(root), expand_home(name)) for name in names)
    return next((folder for folder in candidates if folder.is_dir()), None)


def select_numbered(pairs: list[Pair], first: int, last: int) -> list[Pair]:
    """The pairs whose input's file name starts with a number from ``first`` to ``last``, inclusive.

    Raises:
        InputError: a name does not start with a number, or no pair is in the range.
    """
    chosen = []
    for pair in pairs:
        number = re.match(r"\d+", pair.input.name)
        if number is None:
            raise InputError(f"{pair.input}: the name must start with a number, by which `only` splits the set")
        if first <= int(number[0]) <= last:
            chosen.append(pair)
    if not chosen:
        raise InputError(f"{pairs[0].input.parent}: no images numbered {first} to {last}; check the set's `only`")
    return chosen
