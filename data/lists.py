"""Select the images of a split that a text file lists."""

import csv
import os
import re
from collections.abc import Iterator
from pathlib import Path

from data.folders import same_name
from data.images import SUFFIXES
from data.layouts import Pair
from utils.errors import InputError, listed
from utils.text_files import read_text

# A first line with one of these words, and without the name of an image, is the heading of a table.
HEADINGS = {"file", "filename", "file_name", "id", "image", "image_name", "img", "input", "name", "path"}
HEADINGS |= {"blur", "blurry", "degraded", "hazy", "lq", "rain", "rainy", "snow", "snowy", "source"}


def select_listed(pairs: list[Pair], file: Path) -> list[Pair]:
    """The pairs whose inputs are listed in a text file, one per line.

    A line may have several columns, such as RealBlur's target and input, or those of a CSV file, which may have a
    heading. An entry matches an input if the path of one ends with that of the other, whatever their case and Unicode
    normal form, and with ``\\`` for ``/``. The suffix may be missing or that of another image format, but the input
    with the very suffix is preferred.

    Raises:
        InputError: the file cannot be read, or a line matches no input or several.
    """
    try:
        text = os.fsdecode(read_text(file).encode())  # spelt as os.listdir spells names, in any locale
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; expected a list of the split's images, as set by `only`") from None
    except OSError as error:
        raise InputError(
            f"{file}: cannot read the image list of the split: {error.strerror}; check the set's `only`"
        ) from None
    except UnicodeError:
        raise InputError(f"{file}: the image list of the split is not a text file; expected UTF-8 or UTF-16") from None
    lines = [line.strip() for line in text.splitlines() if line.strip(" \t,;\0")]
    index = _Index(pairs)
    chosen, missing, ambiguous = {}, [], []
    for number, line in enumerate(lines):
        found = index.find(line)
        if len(found) > 1:
            ambiguous.append(line)
        elif found:
            chosen[found[0].name] = found[0]
        elif number > 0 or not _is_heading(line):
            missing.append(line)
    if missing:
        raise InputError(f"{file}: {listed(missing, 'line(s) with no matching input')}; remove them, or add the images")
    if ambiguous:
        matches = " and ".join(str(pair.input) for pair in index.find(ambiguous[0])[:2])
        raise InputError(
            f"{file}: {listed(ambiguous, 'line(s) with several matching inputs')} ({matches}); "
            "write names with their folders"
        )
    if not chosen:
        raise InputError(f"{file}: the list is empty, expected one image name per line")
    return [chosen[name] for name in sorted(chosen)]


class _Index:
    """The inputs by the ends of their paths, with and without suffix."""

    def __init__(self, pairs: list[Pair]) -> None:
        self.whole: dict[str, list[Pair]] = {}  # by path within the set
        self.ends: dict[str, list[Pair]] = {}
        for pair in pairs:
            folder, _, _ = pair.name.rpartition("/")
            path = same_name(f"{folder}/{pair.input.name}".lstrip("/"))
            for spelling in dict.fromkeys([path, _without_suffix(path)]):
                self.whole.setdefault(spelling, []).append(pair)
                for end in _path_ends(spelling):
                    self.ends.setdefault(end, []).append(pair)

    def find(self, line: str) -> list[Pair]:
        """The inputs that a line names: by an entry with the very suffix, with another one, or else without one."""
        entries = [same_name(entry.replace("\\", "/")) for entry in _columns(line)]
        named = [entry for entry in entries if _without_suffix(entry) != entry]
        for spelling in [*named, *map(_without_suffix, named), *entries]:
            found = self.ends.get(spelling) or [
                pair for end in _path_ends(spelling) for pair in self.whole.get(end, [])
            ]
            if found:
                return list(dict.fromkeys(found))
        return []


def _columns(line: str) -> list[str]:
    """The line as a whole, since names may contain spaces and commas, then its columns."""
    columns = [line, line.strip("\"'")]
    columns += [cell.strip() for separator in ",;\t" for row in csv.reader([line], delimiter=separator) for cell in row]
    return list(filter(None, dict.fromkeys([*columns, *line.split()])))


def _is_heading(line: str) -> bool:
    cells = {same_name(cell) for cell in re.split(r"[,;\t\s\"']+", line)}
    return not cells.isdisjoint(HEADINGS) and not any(_without_suffix(cell) != cell for cell in cells)


def _without_suffix(path: str) -> str:
    """The path without the suffix of an image format; 0005_0.8_0.04 has none."""
    stem, dot, suffix = path.rpartition(".")
    return stem if stem and dot + suffix in SUFFIXES else path


def _path_ends(path: str) -> Iterator[str]:
    """a/b/c -> a/b/c, b/c, c."""
    parts = path.split("/")
    return ("/".join(parts[start:]) for start in range(len(parts)))
