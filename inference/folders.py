"""Find the files to restore and decide where each result is written."""

import glob
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from data.folders import is_service, walk
from data.images import SUFFIXES
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


def find_jobs(inputs: list[str], output: Path, videos: Mapping[str, str]) -> list[Job]:
    """The jobs for a list of files, folders (searched recursively) and glob patterns.

    A file named explicitly is restored directly into ``output``. Files found in a folder or by a pattern keep their
    subfolders, relative to the folder or to the part of the pattern before the first wildcard. Folders and patterns
    skip files with other suffixes and service files; links to folders are followed (``data.folders.walk``).

    Args:
        videos: lower-case suffixes of videos, such as ".mp4", each with what is added to the name of the result;
            those of images are ``SUFFIXES``.

    Raises:
        InputError: an input does not exist or contains nothing to restore, two inputs share an output file, or an
            output file would overwrite an input or lie outside ``output``.
    """
    suffixes = SUFFIXES | videos.keys()
    output = Path(os.path.abspath(output))
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: is a file, but --output must be a folder")
    jobs: dict[Path, Job] = {}
    if "" in inputs:
        raise InputError("--input: expected a file, folder or pattern, not an empty text")
    for name in map(str, map(expand_home, inputs)):
        found = 0
        for path, relative in _matches(name, suffixes):
            if Path(os.path.abspath(path)).is_relative_to(output) and not Path(name).is_file():
                if Path(os.path.abspath(path)) == output / relative:
                    raise InputError(f"{output}: the results would overwrite the inputs; choose another --output")
                continue  # results of an earlier job: the output folder lies inside the input folder
            target = output / f"{relative}{videos.get(path.suffix.lower(), '')}"
            check_inside(target, output)
            if os.path.realpath(target) == os.path.realpath(path):
                raise InputError(f"{path}: the result would overwrite the input; choose another --output")
            job = Job(path, target, path.suffix.lower() in videos)
            if jobs.setdefault(target, job).input != path:
                raise InputError(f"{path} and {jobs[target].input}: both would be written to {target}")
            found += 1
        if not found:
            raise InputError(f"{name}: no images or videos found (supported: {', '.join(sorted(suffixes))})")
    return list(jobs.values())


def check_comparisons(jobs: list[Job]) -> None:
    """Refuse comparisons that would overwrite a result or an input.

    Raises:
        InputError: an input is called like the comparison of another.
    """
    inputs = {os.path.realpath(job.input): job.input for job in jobs}
    results = {os.path.realpath(job.output): job.input for job in jobs}
    for job in jobs:
        path = os.path.realpath(job.comparison)
        if other := results.get(path, inputs.get(path)):
            raise InputError(f"{other}: the comparison of {job.input} has this name too; rename it, or omit --compare")


def _matches(name: str, suffixes: set[str]) -> list[tuple[Path, Path]]:
    """The files that match an input, each with its path relative to the output folder, sorted by name."""
    path = Path(name)
    if path.is_dir():
        return [(file, file.relative_to(path)) for file in _below(path, suffixes)]
    if path.exists():
        if path.suffix.lower() not in suffixes:
            raise InputError(f"{path}: unsupported file type (supported: {', '.join(sorted(suffixes))})")
        return [(path, Path(path.name))]
    if not glob.has_magic(name):
        raise InputError(f"{path}: no such file or folder")
    magic = next(index for index, part in enumerate(path.parts) if glob.has_magic(part))
    fixed = Path(*path.parts[:magic])
    found = []
    for match in _expand(fixed, path.parts[magic:]):
        files = _below(match, suffixes) if match.is_dir() and match.suffix.lower() not in suffixes else [match]
        found += [(file, file.relative_to(fixed)) for file in files if file.suffix.lower() in suffixes]
    return list(dict.fromkeys(found))


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


def _below(folder: Path, suffixes: set[str]) -> list[Path]:
    """Files in a folder tree; folders with a matching suffix too, so that they are reported."""
    return [
        parent / name
        for parent, folders, files in walk(folder)
        for name in sorted([*files, *folders])
        if Path(name).suffix.lower() in suffixes
    ]
