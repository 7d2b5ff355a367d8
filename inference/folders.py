"""Which files a job restores, and where each result goes."""

import glob
import os
from dataclasses import dataclass
from pathlib import Path

from data.images import SUFFIXES
from utils.errors import InputError


@dataclass(frozen=True)
class Job:
    """One file to restore and the file to write."""

    input: Path
    output: Path
    is_video: bool


def find_jobs(inputs: list[str], output: Path, videos: set[str]) -> list[Job]:
    """The jobs for files, folders (and all below them) and patterns; ``videos`` are suffixes, as ``SUFFIXES``.

    A file that is named itself goes straight into ``output``; what is found below a folder, or the fixed part of a
    pattern, keeps its subfolders. Files of other suffixes are passed over in folders and patterns.

    Raises:
        InputError: an input is not there or holds nothing to restore, two results would get the same name, or a result
            would replace an input or lie outside ``output``.
    """
    suffixes = SUFFIXES | videos
    output = Path(os.path.abspath(output))
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: a file, not a folder to write to")
    jobs: dict[Path, Job] = {}
    for name in inputs:
        found = 0
        for path, relative in _matches(name, suffixes):
            if Path(os.path.abspath(path)).is_relative_to(output) and not Path(name).is_file():
                if Path(os.path.abspath(path)) == output / relative:
                    raise InputError(f"{output}: the results would replace the inputs: name another --output")
                continue  # results of an earlier run, below the input's folder
            target = output / relative
            check_inside(target, output)
            if os.path.realpath(target) == os.path.realpath(path):
                raise InputError(f"{path}: the result would replace the input: name another --output")
            job = Job(path, target, path.suffix.lower() in videos)
            if jobs.setdefault(target, job).input != path:
                raise InputError(f"{path} and {jobs[target].input}: both would be written to {target}")
            found += 1
        if not found:
            raise InputError(f"{name}: nothing to restore ({', '.join(sorted(suffixes))} files are)")
    return list(jobs.values())


def check_inside(path: Path, output: Path) -> None:
    """Refuse a file to write that would not lie below ``output``.

    Raises:
        InputError: one of its folders is a link, or a name, that leads out.
    """
    if not Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(output)):
        raise InputError(f"{path.parent}: a link or name that leads out of the output folder: remove it")


def _matches(name: str, suffixes: set[str]) -> list[tuple[Path, Path]]:
    """The files that an input names, each with its path below the output folder, in order of their names."""
    path = Path(name)
    if path.is_dir():
        return [(file, file.relative_to(path)) for file in _below(path, suffixes)]
    if path.exists():
        if path.suffix.lower() not in suffixes:
            raise InputError(f"{path}: not one of {', '.join(sorted(suffixes))}")
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
    """Files, and folders that are named like files, below a folder; hidden ones are passed over."""
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = [name for name in (*files, *folders) if Path(name).suffix.lower() in suffixes]
        found += [Path(parent, name) for name in sorted(names) if not name.startswith(".")]
    return found
