"""Find the files to restore and decide where each result is written."""

import glob
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from data.decoding import heif
from data.folders import is_service, same_name, walk
from data.images import SUFFIXES
from inference.unread import advice_on, lines_about
from utils.errors import InputError
from utils.files import check_inside
from utils.text_files import expand_home


@dataclass(frozen=True)
class Job:
    """An input file and the output file it is restored to."""

    input: Path
    output: Path
    is_video: bool

    @property
    def comparison(self) -> Path:
        """The file with input and result side by side."""
        return self.output.with_name(f"{self.output.name}.compare{self.output.suffix if self.is_video else '.png'}")


def converted() -> dict[str, str]:
    """Suffixes of images that are read but not written, each with what is added to the name of the result."""
    return dict.fromkeys([".gif", *(heif.SUFFIXES if heif.is_available() else ())], ".png")


class Found(NamedTuple):
    """What a search found.

    Attributes:
        jobs: what is to be restored.
        unread: images and videos of kinds that are not read.
        others: all other files, and folders of the system.
    """

    jobs: list[Job]
    unread: list[Path]
    others: list[Path]


def find_jobs(inputs: list[str], output: Path, videos: Mapping[str, str]) -> Found:
    """What there is in a list of files, folders (searched recursively) and glob patterns.

    A file named explicitly is restored directly into ``output``. Files found in a folder or by a pattern keep their
    subfolders, relative to the folder or to the part of the pattern before the first wildcard. Links to folders are
    followed (``data.folders.walk``); results in an ``output`` within a folder are passed over.

    Args:
        videos: lower-case suffixes of videos, such as ".mp4", each with what is added to the name of the result;
            those of images are ``SUFFIXES`` and ``converted()``.

    Raises:
        InputError: an input does not exist or contains nothing to restore, two inputs share an output file, or an
            output file would overwrite an input or lie outside ``output``.
    """
    kinds = dict.fromkeys(SUFFIXES, "") | converted() | videos
    output = Path(os.path.abspath(output))
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: is a file, but --output must be a folder")
    jobs: dict[str, Job] = {}
    unread: dict[Path, None] = {}
    others: dict[Path, None] = {}
    if "" in inputs:
        raise InputError("--input: expected a file, folder or pattern, not an empty text")
    for name in map(str, map(expand_home, inputs)):
        found = 0
        for path, relative in _matches(name, kinds.keys()):
            if Path(os.path.abspath(path)).is_relative_to(output) and not Path(name).is_file():
                if relative is not None and Path(os.path.abspath(path)) == output / relative:
                    raise InputError(f"{output}: the results would overwrite the inputs; choose another --output")
                continue  # results of an earlier job: the output folder lies inside the input folder
            suffix = path.suffix.lower()
            if relative is None or suffix not in kinds:
                (others if relative is None or advice_on(path) is None else unread)[path] = None
                continue
            target = output / f"{relative}{kinds[suffix]}"
            check_inside(target, output)
            if os.path.realpath(target) == os.path.realpath(path):
                raise InputError(f"{path}: the result would overwrite the input; choose another --output")
            job = Job(path, target, suffix in videos)
            other = jobs.setdefault(same_name(str(target)), job)  # as on a disk that ignores case
            if other.input != path:
                where = target if other.output == target else f"{target} on disks that ignore case; rename one"
                raise InputError(
                    f"{other.input} and {path}: both would be written to {where}; "
                    "rename one, or choose another --output for it"
                )
            found += 1
        if not found:
            more = "".join(f"; {line}" for line in islice(lines_about(unread), 1))
            raise InputError(f"{name}: no images or videos found (supported: {', '.join(sorted(kinds))}){more}")
    return Found(list(jobs.values()), list(unread), list(others))


def check_comparisons(jobs: list[Job], output: Path) -> None:
    """Refuse comparisons that would overwrite a result or an input, or lie outside the folder ``output``.

    Raises:
        InputError: an input is called like the comparison of another, or a comparison is a link out of ``output``.
    """
    inputs = {same_name(os.path.realpath(job.input)): job.input for job in jobs}
    results = {same_name(os.path.realpath(job.output)): job.input for job in jobs}
    for job in jobs:
        check_inside(job.comparison, output)
        path = same_name(os.path.realpath(job.comparison))
        if other := results.get(path, inputs.get(path)):
            raise InputError(f"{other}: the comparison of {job.input} has this name too; rename it, or omit --compare")


def _matches(name: str, suffixes: Collection[str]) -> list[tuple[Path, Path | None]]:
    """The files that match an input, each with its path relative to the output folder, sorted by name.

    Service files and folders have no such path.
    """
    path = Path(name)
    if path.is_dir():
        return list(_below(path, path, suffixes))
    if path.exists():
        if path.suffix.lower() not in suffixes:
            advice = advice_on(path) or f"supported: {', '.join(sorted(suffixes))}"
            raise InputError(f"{path}: unsupported file type ({advice})")
        return [(path, Path(path.name))]
    if not glob.has_magic(name):
        raise InputError(f"{path}: no such file or folder; check --input for a spelling mistake")
    magic = next(index for index, part in enumerate(path.parts) if glob.has_magic(part))
    fixed = Path(*path.parts[:magic])
    found: dict[Path, Path | None] = {}
    for match in _expand(fixed, path.parts[magic:]):
        if match.is_dir() and match.suffix.lower() not in suffixes:
            found |= dict(_below(match, fixed, suffixes))
        else:
            found[match] = match.relative_to(fixed)
    return list(found.items())


def _expand(folder: Path, parts: tuple[str, ...]) -> Iterator[Path]:
    """What matches a pattern below a folder, sorted; ``**`` stands for any number of folders, as in the shell."""
    if not parts:
        yield folder
    elif not folder.is_dir():
        return
    elif parts[0] == "**":
        for inner, _, _ in walk(folder):
            yield from _expand(inner, parts[1:] or ("*",))
    elif glob.has_magic(parts[0]):
        for name in sorted(os.listdir(folder)):
            if fnmatchcase(name, parts[0]) and (parts[0].startswith(".") or not is_service(name)):
                yield from _expand(folder / name, parts[1:])
    elif os.path.lexists(folder / parts[0]):
        yield from _expand(folder / parts[0], parts[1:])


def _below(folder: Path, root: Path, suffixes: Collection[str]) -> Iterator[tuple[Path, Path | None]]:
    """Everything in a folder tree, as in ``_matches``; folders called like files too, so that they are reported."""
    for parent, folders, _ in walk(folder):
        passed = {name for name in folders if Path(name).suffix.lower() not in suffixes}
        for name in sorted(os.listdir(parent)):
            if is_service(name):
                yield parent / name, None
            elif name not in passed:
                yield parent / name, (parent / name).relative_to(root)
