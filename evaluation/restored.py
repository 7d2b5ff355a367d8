"""Images that any method restored, as files: which belongs to which input."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from data.layouts import FORMATS, Pair, list_images
from utils.errors import InputError, listed


def find_restored(folder: Path, sets: Mapping[str, Sequence[Pair]]) -> dict[str, dict[str, Path]]:
    """The restored image of each pair, by set and name.

    With several sets, each has a folder of its name in ``folder``; so test.py's ``--save-images`` stores them below
    ``images``. A single set may lie in ``folder`` itself. An image has the name of the input, in the same subfolder or
    in none, or that of the target, if no other input shares it.

    Raises:
        InputError: a folder or an image is missing, or an image belongs to no pair.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected restored images (--restored)")
    if len(sets) == 1:
        ((name, pairs),) = sets.items()
        return {name: _match(folder / name if (folder / name).is_dir() else folder, pairs)}
    if missing := [name for name in sets if not (folder / name).is_dir()]:
        raise InputError(f"{folder}: no folder {missing[0]!r} with the restored images of that set (--restored)")
    return {name: _match(folder / name, pairs) for name, pairs in sets.items()}


def _match(folder: Path, pairs: Sequence[Pair]) -> dict[str, Path]:
    images = list_images(folder)
    if not images:
        raise InputError(f"{folder}: no restored images found; expected {FORMATS} files")
    by_name = {
        name: path for stem, path in reversed(images) for name in (stem, stem + path.suffix)
    }  # of 1.png and 1.jpg, "1" is the first in sorted order
    ways = (
        {pair.name: pair.name for pair in pairs},
        _unique((pair.name, pair.name.split("/")[-1]) for pair in pairs),
        _unique((pair.name, pair.target.stem) for pair in pairs),
    )
    found = max(({pair: by_name[name] for pair, name in way.items() if name in by_name} for way in ways), key=len)
    if missing := sorted(pair.name for pair in pairs if pair.name not in found):
        raise InputError(f"{folder}: no restored image for {listed(missing, 'input(s)')}; each needs one of its name")
    if extra := sorted(str(path) for _, path in images if path not in found.values()):
        raise InputError(f"{folder}: {listed(extra, 'restored image(s)')} of no input; remove them, or check --input")
    return found


def _unique(names: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Names of pairs and of their files, without the files that several pairs share."""
    names = list(names)
    count = Counter(file for _, file in names)
    return {pair: file for pair, file in names if count[file] == 1}
