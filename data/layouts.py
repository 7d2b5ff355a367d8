"""How data sets name their files, and which input goes with which target.

A layout is a list of rules, a rule two patterns, one for inputs and one for targets. They are matched against a
file's path below the set's folder, without its suffix and without regard to case:

- ``{name}``, any name, stands for a part that is the same on both sides, as short as it can be;
- ``{number}`` for digits whose value is the same;
- ``*`` for anything.

Two files are partners when they have the same parts; several inputs may share a target. A rule without ``{...}``
pairs the first input with the first target and so on, in sorted order. The first rule that fits a folder is the one
that counts. A configuration may give one rule of its own in a layout's place: ``layout: ["in/{id}_n", "out/{id}"]``.
"""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from data.images import SUFFIXES
from utils.errors import InputError, listed

Rule = tuple[str, str]

LAYOUTS: dict[str, tuple[Rule, ...]] = {
    "plain": (("input/{id}", "target/{id}"),),
    # 1400_1.png -> 1400.png: RESIDE's ITS, OTS and SOTS as packed by the authors and as published
    "reside": (
        ("hazy/{id}_*", "gt/{id}"),
        ("hazy/{id}_*", "clear/{id}"),
        ("hazy/{id}", "gt/{id}"),
        ("hazy/{id}", "clear/{id}"),
    ),
    # 12_0.86_1.4.png -> 12.png as published, the same name as packed by the authors
    "haze4k": (("haze/{id}_*", "gt/{id}"), ("hazy/{id}_*", "clear/{id}"), ("in/{id}", "gt/{id}")),
    # Dense-Haze, NH-HAZE, O-HAZE, I-HAZE: 01_hazy.png, or 01_outdoor_hazy.jpg, in one folder or in two
    "real_haze": (("{number}_*hazy", "{number}_*gt"), ("hazy/{number}*", "gt/{number}*")),
    # GoPro with a folder for each sequence as published (blur_gamma beside it is left alone), flat as packed by the
    # authors, and as packed by Restormer
    "gopro": (
        ("{sequence}/blur/{id}", "{sequence}/sharp/{id}"),
        ("blur/{id}", "sharp/{id}"),
        ("blur/{a}blur{b}", "sharp/{a}gt{b}"),
        ("blur/{a}blur{b}", "gt/{a}gt{b}"),
        ("input/{id}", "target/{id}"),
        ("input_crops/{id}", "target_crops/{id}"),
    ),
    # RealBlur's scenes as published, which its lists split; and as packed by Restormer
    "realblur": (("{scene}/blur/blur_{id}", "{scene}/gt/gt_{id}"), ("input/{id}", "target/{id}")),
    # DPDD as published: the names of a pair differ, their order is the same; and as packed by Restormer, its combined
    # view (inputC)
    "dpdd": (("source/*", "target/*"), ("inputC/{id}", "target/{id}"), ("inputC_crops/{id}", "target_crops/{id}")),
    # CSD, SRRS and Snow100K as packed by the authors, and Snow100K as published
    "snow": (("snow/{id}", "gt/{id}"), ("synthetic/{id}", "gt/{id}")),
}

# Layouts whose published targets are larger than their inputs by a border: SOTS's indoor targets are 640x480, the
# hazy images 620x460, and every published evaluation takes the targets' centre.
CENTRED_TARGETS = ("reside",)


@dataclass(frozen=True)
class Pair:
    """A degraded image and its target.

    ``name`` is the input's path below the set's folder, without suffix. Of a target that is larger than its input
    the centre counts where ``centred`` is set; otherwise the sizes must agree. Of a clean image that is degraded
    when it is loaded, input and target are the same file.
    """

    name: str
    input: Path
    target: Path
    centred: bool = False


def find_pairs(folder: str | Path, layout: str | Rule) -> list[Pair]:
    """The pairs below ``folder``, sorted by name; ``layout`` is a key of LAYOUTS or a rule of one's own.

    Raises:
        InputError: no such folder or layout, no pairs, or images without a partner (all are counted, some named).
    """
    if isinstance(layout, str) and layout not in LAYOUTS:
        raise InputError(
            f"unknown layout {layout!r}: choose from {', '.join(LAYOUTS)}, or give [INPUT, TARGET] patterns"
        )
    rules = LAYOUTS[layout] if isinstance(layout, str) else (layout,)
    folder = Path(folder)
    images = images_below(folder)
    problems: dict[int, str] = {}
    for rule in rules:
        pairs, problem = _apply(rule, images)
        if pairs and not problem:
            return [replace(pair, centred=layout in CENTRED_TARGETS) for pair in pairs]
        if problem:
            problems.setdefault(len(pairs), problem)
    if not problems:
        raise InputError(
            f"{folder}: no input images; layout {layout!r} looks for "
            + " or ".join(f"{input} with {target}" for input, target in rules)
        )
    raise InputError(problems[max(problems)])  # the rule that pairs the most says best what is missing


def find_clean(folder: str | Path) -> list[Pair]:
    """Every image below ``folder`` as a pair with itself, to be degraded when it is loaded.

    Raises:
        InputError: no such folder, or no images.
    """
    images = images_below(Path(folder))
    if not images:
        raise InputError(f"{folder}: no images in the folder")
    return [Pair(name, path, path) for name, path in images]


def pair_folders(input_folder: str | Path, target_folder: str | Path) -> list[Pair]:
    """The pairs of two folders: the same name, or else the input's name up to its first underscore (RESIDE).

    Raises:
        InputError: as ``find_pairs``.
    """
    folders = [Path(input_folder), Path(target_folder)]
    inputs, targets = (images_below(folder) for folder in folders)
    if not inputs:
        raise InputError(f"{folders[0]}: no images in the folder")
    targets = _match(targets, "{id}")
    same_name = _match(inputs, "{id}")
    by_prefix = _match(inputs, "{id}_*")
    by_prefix = by_prefix if sum(map(len, by_prefix.values())) == len(inputs) else {}
    for grouped in (same_name, by_prefix):
        if grouped and grouped.keys() <= targets.keys():
            same_name = grouped
            break
    if problem := _unpaired(same_name, targets):
        raise InputError(problem)
    return _join(same_name, targets)


def images_below(folder: Path) -> list[tuple[str, Path]]:
    """(path below the folder without suffix, path) of each image, sorted; links are followed, each once.

    Raises:
        InputError: no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
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


def _apply(rule: Rule, images: list[tuple[str, Path]]) -> tuple[list[Pair], str | None]:
    """The pairs that a rule makes, and what is wrong with the rest; ([], None) where it fits no input."""
    inputs, targets = (_match(images, pattern) for pattern in rule)
    if not inputs:
        return [], None
    if "{" not in rule[0]:
        (inputs,), (targets,) = inputs.values(), targets.values() or [[]]
        if len(inputs) != len(targets):
            what = f"{len(inputs)} images in {rule[0]} and {len(targets)} in {rule[1]}"
            return [], f"{inputs[0][1].parent}: {what}, which are paired in sorted order"
        return [Pair(*input, target) for input, (_, target) in zip(inputs, targets, strict=True)], None
    pairs = _join(inputs, targets)
    return pairs, _unpaired(inputs, targets) or _unplaced(images, inputs, targets)


Grouped = dict[tuple[str, ...], list[tuple[str, Path]]]


def _match(images: list[tuple[str, Path]], pattern: str) -> Grouped:
    """The images that fit a pattern, by the parts that stand for ``{...}``."""
    compiled = _compile(pattern)
    matched = {}
    for name, path in images:
        if match := compiled.fullmatch(name):
            parts = sorted(match.groupdict().items())
            key = tuple(str(int(value)) if part == "number" else value.casefold() for part, value in parts)
            matched.setdefault(key, []).append((name, path))
    return matched


def _compile(pattern: str) -> re.Pattern:
    regex = ""
    for part in re.split(r"(\{\w+\}|\*)", pattern):
        if part == "{number}":
            regex += r"(?P<number>\d+)(?!\d)"
        elif part.startswith("{"):
            regex += f"(?P<{part[1:-1]}>.+?)"
        else:
            regex += ".*" if part == "*" else re.escape(part)
    return re.compile(regex, re.IGNORECASE | re.DOTALL)  # a name may have lines


def _join(inputs: Grouped, targets: Grouped) -> list[Pair]:
    pairs = [Pair(*found, targets[key][0][1]) for key in inputs.keys() & targets.keys() for found in inputs[key]]
    return sorted(pairs, key=lambda pair: pair.name)


def _unpaired(inputs: Grouped, targets: Grouped) -> str | None:
    """What has no partner, or more targets than one."""
    for one, other, what in (
        (inputs, targets, "input image(s) without a target"),
        (targets, inputs, "target image(s) without an input"),
    ):
        if alone := sorted(str(path) for key in one.keys() - other.keys() for _, path in one[key]):
            return listed(alone, what)
    double = [f"{paths[0][1]} and {paths[1][1]}" for paths in targets.values() if len(paths) > 1]
    return listed(sorted(double), "target(s) there twice") if double else None


def _unplaced(images: list[tuple[str, Path]], inputs: Grouped, targets: Grouped) -> str | None:
    """Images beside the paired ones whose names fit neither pattern."""
    placed = {path for grouped in (inputs, targets) for found in grouped.values() for _, path in found}
    folders = {path.parent for path in placed}
    rest = sorted(str(path) for _, path in images if path not in placed and path.parent in folders)
    return listed(rest, "image(s) with a name that does not fit the layout") if rest else None
