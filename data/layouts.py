"""How data sets name their files, and which input goes with which target.

A layout is two lists of patterns, one for inputs and one for targets, matched against a file's path below the data
set's folder, without its suffix and without regard to case. ``{name}`` stands for a part that must be the same on
both sides, as short as it can be; ``*`` for anything. Of several patterns the first that fits counts. Two files are
partners when they have the same parts; several inputs may share a target.
"""

import os
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from data.pictures import SUFFIXES, picture_size
from utils.errors import InputError


@dataclass(frozen=True)
class Layout:
    """Patterns of the inputs and of the targets."""

    inputs: tuple[str, ...]
    targets: tuple[str, ...]


LAYOUTS = {
    "plain": Layout(inputs=("input/{id}",), targets=("target/{id}",)),
    # 1400_1.png -> 1400.png: RESIDE's ITS, OTS and SOTS, as published and as packed by the authors
    "reside": Layout(inputs=("hazy/{id}_*", "hazy/{id}"), targets=("gt/{id}", "clear/{id}")),
}


@dataclass(frozen=True)
class Pair:
    """A degraded picture and its target; ``name`` is the input's path below the folder, without suffix."""

    name: str
    input: Path
    target: Path


def find_pairs(folder: str | Path, layout: str) -> list[Pair]:
    """The pairs below ``folder``, sorted by name.

    Raises:
        InputError: no such folder or layout, no inputs, or pictures without a partner (all are counted, some named).
    """
    if layout not in LAYOUTS:
        raise InputError(f"unknown layout {layout!r}: choose from {', '.join(LAYOUTS)}")
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; --data.root and the set's folder say where the pictures are")
    pictures = _pictures_below(folder)
    patterns = LAYOUTS[layout]
    inputs = _match(pictures, patterns.inputs)
    targets = _match(pictures, patterns.targets)
    if not inputs:
        raise InputError(
            f"{folder}: no input pictures; layout {layout!r} looks for "
            f"{' or '.join(patterns.inputs)} with {' or '.join(patterns.targets)}"
        )
    return _join(folder, inputs, targets)


def pair_folders(input_folder: str | Path, target_folder: str | Path) -> list[Pair]:
    """The pairs of two folders: the same name, or else the input's name up to its first underscore (RESIDE).

    Raises:
        InputError: as ``find_pairs``.
    """
    folders = [Path(input_folder), Path(target_folder)]
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder")
    inputs, targets = (_pictures_below(folder) for folder in folders)
    if not inputs:
        raise InputError(f"{folders[0]}: no pictures in the folder")
    targets = _match(targets, ("{id}",))
    same_name = _match(inputs, ("{id}",))
    if not same_name.keys() <= targets.keys():
        by_prefix = _match(inputs, ("{id}_*", "{id}"))
        if by_prefix.keys() <= targets.keys():
            return _join(folders[0], by_prefix, targets)
    return _join(folders[0], same_name, targets)


def check_sizes(pairs: Iterable[Pair]) -> None:
    """Look at every picture's header, so that a run does not meet a broken one after hours.

    Raises:
        InputError: a picture is unreadable or cut off, or a pair differs in size (all are counted, some named).
    """
    pairs = list(pairs)
    paths = {path for pair in pairs for path in (pair.input, pair.target)}

    def size_or_error(path: Path) -> tuple[int, int] | InputError:
        try:
            return picture_size(path)
        except InputError as error:
            return error

    with ThreadPoolExecutor(16) as pool:
        sizes = dict(zip(paths, pool.map(size_or_error, paths), strict=True))
    broken = sorted(str(size) for size in sizes.values() if isinstance(size, InputError))
    if broken:
        raise InputError(_listed(broken, "broken picture"))
    different = [
        f"{pair.input} ({sizes[pair.input][1]}x{sizes[pair.input][0]}) and "
        f"{pair.target} ({sizes[pair.target][1]}x{sizes[pair.target][0]})"
        for pair in pairs
        if sizes[pair.input] != sizes[pair.target]
    ]
    if different:
        raise InputError(_listed(different, "pair of different size"))


def _pictures_below(folder: Path) -> list[tuple[str, Path]]:
    """(path below the folder without suffix, path) of each picture, sorted; links are followed, each once."""
    found = []
    seen = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        for file in files:
            path = Path(parent, file)
            if path.suffix.lower() in SUFFIXES and not file.startswith("."):
                found.append((path.relative_to(folder).with_suffix("").as_posix(), path))
    return sorted(found)


def _match(
    pictures: list[tuple[str, Path]], patterns: tuple[str, ...]
) -> dict[tuple[str, ...], list[tuple[str, Path]]]:
    """The pictures that fit one of the patterns, by the parts that stand for ``{...}``."""
    compiled = [_compile(pattern) for pattern in patterns]
    matched = {}
    for name, path in pictures:
        for pattern in compiled:
            if match := pattern.fullmatch(name):
                key = tuple(value.casefold() for _, value in sorted(match.groupdict().items()))
                matched.setdefault(key, []).append((name, path))
                break
    return matched


def _compile(pattern: str) -> re.Pattern:
    parts = re.split(r"(\{\w+\}|\*)", pattern)
    regex = "".join(
        f"(?P<{part[1:-1]}>.+?)" if part.startswith("{") else ".*" if part == "*" else re.escape(part) for part in parts
    )
    return re.compile(regex, re.IGNORECASE)


def _join(folder: Path, inputs: dict, targets: dict) -> list[Pair]:
    alone = [path for key in inputs.keys() - targets.keys() for _, path in inputs[key]]
    if alone:
        raise InputError(_listed(sorted(map(str, alone)), "input picture without a target"))
    alone = [path for key in targets.keys() - inputs.keys() for _, path in targets[key]]
    if alone:
        raise InputError(_listed(sorted(map(str, alone)), "target picture without an input"))
    double = [f"{paths[0][1]} and {paths[1][1]}" for paths in targets.values() if len(paths) > 1]
    if double:
        raise InputError(_listed(sorted(double), f"target in {folder} that is there twice"))
    pairs = [Pair(name, path, targets[key][0][1]) for key, found in inputs.items() for name, path in found]
    return sorted(pairs, key=lambda pair: pair.name)


def _listed(items: list[str], what: str, show: int = 5) -> str:
    more = f" and {len(items) - show} more" if len(items) > show else ""
    return f"{len(items)} {what}{'s' if len(items) > 1 else ''}: {', '.join(items[:show])}{more}"
