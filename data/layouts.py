"""File layouts of the published data sets, and how inputs are matched to their targets.

A layout is a list of rules. A rule is a pair of patterns, one for inputs and one for targets, matched against each
file's path relative to the set's folder, without suffix and ignoring case (``data.patterns``):

- ``{name}``, for any name, is a non-greedy wildcard that must match the same text in input and target;
- ``{number}`` matches digits, compared by value, so that 7 and 007 are equal;
- ``*`` matches anything.

An input and a target form a pair if all their fields match; several inputs may share a target. A rule without
``{...}`` pairs files by position in sorted order. The first rule that pairs all images of the folder is used. A
configuration may give a custom rule in place of a layout name: ``layout: ["in/{id}_n", "out/{id}"]``.
"""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from data.folders import walk
from data.images import SUFFIXES
from data.patterns import Pattern, compile_rule
from utils.errors import InputError, listed

FORMATS = ", ".join(sorted(SUFFIXES))
Rule = tuple[str, str]

LAYOUTS: dict[str, tuple[Rule, ...]] = {
    "plain": (("input/{id}", "target/{id}"),),
    # 1400_1.png -> 1400.png: RESIDE's ITS, OTS and SOTS, as repackaged by the authors and as published
    "reside": (
        ("hazy/{id}_*", "gt/{id}"),
        ("hazy/{id}_*", "clear/{id}"),
        ("hazy/{id}", "gt/{id}"),
        ("hazy/{id}", "clear/{id}"),
    ),
    # 12_0.86_1.4.png -> 12.png as published; identical names as repackaged by the authors
    "haze4k": (("haze/{id}_*", "gt/{id}"), ("hazy/{id}_*", "clear/{id}"), ("in/{id}", "gt/{id}")),
    # Dense-Haze, NH-HAZE, O-HAZE, I-HAZE: 01_hazy.png, or 01_outdoor_hazy.jpg, in one or two folders
    "real_haze": (("{number}_*hazy", "{number}_*gt"), ("hazy/{number}*", "gt/{number}*")),
    # GoPro with one folder per sequence as published (ignoring blur_gamma), flat as repackaged by the authors, and as
    # repackaged by Restormer
    "gopro": (
        ("{sequence}/blur/{id}", "{sequence}/sharp/{id}"),
        ("blur/{id}", "sharp/{id}"),
        ("blur/{a}blur{b}", "sharp/{a}gt{b}"),
        ("blur/{a}blur{b}", "gt/{a}gt{b}"),
        ("input/{id}", "target/{id}"),
        ("input_crops/{id}", "target_crops/{id}"),
    ),
    # RealBlur by scene as published, split by its list files; and as repackaged by Restormer
    "realblur": (("{scene}/blur/blur_{id}", "{scene}/gt/gt_{id}"), ("input/{id}", "target/{id}")),
    # DPDD as published: names differ within a pair, but both folders sort in the same order; and as repackaged by
    # Restormer, combined view (inputC)
    "dpdd": (("source/*", "target/*"), ("inputC/{id}", "target/{id}"), ("inputC_crops/{id}", "target_crops/{id}")),
    # CSD, SRRS and Snow100K as repackaged by the authors, and Snow100K as published
    "snow": (("snow/{id}", "gt/{id}"), ("synthetic/{id}", "gt/{id}")),
}

# Layouts whose published targets have a border that the inputs lack: the targets of SOTS-Indoor are 640x480, the hazy
# images 620x460, and published evaluations centre-crop the targets.
CENTRED_TARGETS = ("reside",)


@dataclass(frozen=True)
class Pair:
    """The files of a degraded image and its target.

    ``name`` is the input's path relative to the set's folder, without suffix unless another input differs in nothing
    else. If ``centred`` is set, a target larger than its input is centre-cropped to the input's size; otherwise both
    sizes must be equal. For inputs synthesised when loading, ``input`` and ``target`` are the same, clean file.
    """

    name: str
    input: Path
    target: Path
    centred: bool = False


def find_pairs(folder: str | Path, layout: str | Rule) -> list[Pair]:
    """Find all pairs below ``folder``, sorted by name; ``layout`` is a key of LAYOUTS or a custom rule.

    Raises:
        InputError: the folder or layout does not exist or is malformed, there are no pairs, or some images are unpaired
            (the message gives their number and the first few names).
    """
    if isinstance(layout, str) and layout not in LAYOUTS:
        raise InputError(f"layout: expected one of {', '.join(LAYOUTS)}, or [INPUT, TARGET] patterns, not {layout!r}")
    rules = LAYOUTS[layout] if isinstance(layout, str) else (tuple(layout),)
    for rule in rules:
        compile_rule(rule)
    folder = Path(folder)
    images = list_images(folder)
    problems: dict[int, str] = {}
    for rule in rules:
        pairs, problem = _apply(rule, images)
        if pairs and not problem:
            return _named_apart([replace(pair, centred=layout in CENTRED_TARGETS) for pair in pairs])
        if problem:
            problems.setdefault(len(pairs), problem)
    if not problems:
        raise InputError(
            f"{folder}: no input images found; layout {layout!r} expects "
            + " or ".join(f"{input} paired with {target}" for input, target in rules)
        )
    raise InputError(problems[max(problems)])  # the rule with the most pairs is most likely the intended one


def find_clean(folder: str | Path) -> list[Pair]:
    """Every image below ``folder``, paired with itself: the input is synthesised from it when loading.

    Raises:
        InputError: the folder does not exist or contains no images.
    """
    images = list_images(Path(folder))
    if not images:
        raise InputError(f"{folder}: no images found; expected {FORMATS} files")
    return _named_apart([Pair(name, path, path) for name, path in images])


def pair_folders(input_folder: str | Path, target_folder: str | Path) -> list[Pair]:
    """Pair the images of two folders: by identical names, or by the input's name up to the first underscore (RESIDE).

    Raises:
        InputError: as ``find_pairs``.
    """
    folders = [Path(input_folder), Path(target_folder)]
    inputs, targets = (list_images(folder) for folder in folders)
    if not inputs:
        raise InputError(f"{folders[0]}: no images found; expected {FORMATS} files")
    whole, prefix = Pattern("{id}"), Pattern("{id}_*")
    targets = _match(targets, whole)
    same_name = _match(inputs, whole)
    by_prefix = _match(inputs, prefix)
    by_prefix = by_prefix if sum(map(len, by_prefix.values())) == len(inputs) else {}
    for grouped in (same_name, by_prefix):
        if grouped and grouped.keys() <= targets.keys():
            same_name = grouped
            break
    if problem := _unpaired(same_name, targets):
        raise InputError(problem)
    return _named_apart(_join(same_name, targets))


def list_images(folder: Path) -> list[tuple[str, Path]]:
    """Sorted (path relative to ``folder`` without suffix, path) of every image below it.

    Links are followed and service files passed over, see ``data.folders.walk``.

    Raises:
        InputError: the folder does not exist.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; check the path for a spelling mistake")
    paths = (Path(parent, file) for parent, _, files in walk(folder) for file in files)
    images = [path for path in paths if path.suffix.lower() in SUFFIXES]
    return sorted((path.relative_to(folder).with_suffix("").as_posix(), path) for path in images)


def _named_apart(pairs: list[Pair]) -> list[Pair]:
    """Give the inputs that share a name, such as 1.png and 1.jpg, their names with suffix: results are kept by name."""
    while shared := {name for name, count in Counter(pair.name for pair in pairs).items() if count > 1}:
        pairs = [_with_suffix(pair) if pair.name in shared else pair for pair in pairs]
    return sorted(pairs, key=lambda pair: pair.name)


def _with_suffix(pair: Pair) -> Pair:
    has_suffix = pair.name.split("/")[-1] == pair.input.name
    return pair if has_suffix else replace(pair, name=pair.name + pair.input.suffix)


def _apply(rule: Rule, images: list[tuple[str, Path]]) -> tuple[list[Pair], str | None]:
    """The pairs found by a rule, and an error message if images are unpaired; ([], None) if no input matches."""
    inputs, targets = (_match(images, pattern) for pattern in compile_rule(rule))
    if not inputs:
        return [], None
    if "{" not in rule[0]:
        (inputs,), (targets,) = inputs.values(), targets.values() or [[]]
        if len(inputs) != len(targets):
            what = f"{len(inputs)} images in {rule[0]} but {len(targets)} in {rule[1]}"
            return [], f"{inputs[0][1].parent}: {what}; pairing by sorted order needs the same number of each"
        return [Pair(*input, target) for input, (_, target) in zip(inputs, targets, strict=True)], None
    pairs = _join(inputs, targets)
    return pairs, _unpaired(inputs, targets) or _unmatched(images, inputs, targets)


Grouped = dict[tuple[str, ...], list[tuple[str, Path]]]


def _match(images: list[tuple[str, Path]], pattern: Pattern) -> Grouped:
    """The images that match a pattern, grouped by the values of its ``{...}`` fields."""
    matched = {}
    for name, path in images:
        if (key := pattern.match(name)) is not None:
            matched.setdefault(key, []).append((name, path))
    return matched


def _join(inputs: Grouped, targets: Grouped) -> list[Pair]:
    pairs = [Pair(*image, targets[key][0][1]) for key in inputs.keys() & targets.keys() for image in inputs[key]]
    return sorted(pairs, key=lambda pair: pair.name)


def _unpaired(inputs: Grouped, targets: Grouped) -> str | None:
    """An error message if images are unpaired, or if an input has several targets."""
    for one, other, what in (
        (inputs, targets, "input image(s) without a target"),
        (targets, inputs, "target image(s) without an input"),
    ):
        if unpaired := sorted(str(path) for key in one.keys() - other.keys() for _, path in one[key]):
            return listed(unpaired, what)
    duplicates = [f"{paths[0][1]} and {paths[1][1]}" for paths in targets.values() if len(paths) > 1]
    return listed(sorted(duplicates), "target(s) found twice") if duplicates else None


def _unmatched(images: list[tuple[str, Path]], inputs: Grouped, targets: Grouped) -> str | None:
    """An error message if images in the same folders as the pairs match neither pattern."""
    matched = {path for grouped in (inputs, targets) for group in grouped.values() for _, path in group}
    folders = {path.parent for path in matched}
    rest = sorted(str(path) for _, path in images if path not in matched and path.parent in folders)
    return listed(rest, "image(s) with a name that does not match the layout") if rest else None
