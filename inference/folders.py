"""Find the files to restore and decide where each result is written."""

import glob
import os
from dataclasses import dataclass
from pathlib import Path

from data.images import SUFFIXES
from utils.errors import InputError
from utils.files import check_inside


@dataclass(frozen=True)
class Job:
    """An input file and the output file it is restored to."""

    input: Path
    output: Path
    is_video: bool


def find_jobs(inputs: list[str], output: Path, videos: set[str]) -> list[Job]:
    """The jobs for a list of files, folders (searched recursively) and glob patterns.

    A file named explicitly is restored directly into ``output``. Files found in a folder or by a pattern keep their
    subfolders, relative to the folder or to the part of the pattern before the first wildcard. Folders and patterns
    skip files with other suffixes, and hidden files.

    Args:
        videos: lower-case suffixes of videos, such as ".mp4"; those of images are ``SUFFIXES``.

    Raises:
        InputError: an input does not exist or contains nothing to restore, two inputs share an output file, or an
            output file would overwrite an input or lie outside ``output``.
    """
    suffixes = SUFFIXES | videos
    output = Path(os.path.abspath(output))
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: is a file, but --output must be a folder")
    jobs: dict[Path, Job] = {}
    for name in inputs:
        found = 0
        for path, relative in _matches(name, suffixes):
            if Path(os.path.abspath(path)).is_relative_to(output) and not Path(name).is_file():
                if Path(os.path.abspath(path)) == output / relative:
                    raise InputError(f"{output}: the results would overwrite the inputs; choose another --output")
                continue  # results of an earlier job: the output folder lies inside the input folder
            target = output / relative
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
    fixed = Path()
    for part in path.parts:
        if glob.has_magic(part):
            break
        fixed /= part
    found = []
    for match in sorted(map(Path, glob.glob(name, recursive=True))):
        files = _below(match, suffixes) if match.is_dir() and match.suffix.lower() not in suffixes else [match]
        found += [(file, file.relative_to(fixed)) for file in files if file.suffix.lower() in suffixes]
    return list(dict.fromkeys(found))


def _below(folder: Path, suffixes: set[str]) -> list[Path]:
    """Files in a folder tree, without hidden ones; folders with a matching suffix too, so that they are reported."""
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = [name for name in (*files, *folders) if Path(name).suffix.lower() in suffixes]
        found += [Path(parent, name) for name in sorted(names) if not name.startswith(".")]
    return found
