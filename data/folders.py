"""Folders as people have them: with links, and with the files of their systems in between."""

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from utils.errors import InputError

# What systems and tools leave beside the images; names that start with a dot are passed over as well.
SERVICE_NAMES = {
    "__macosx",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "$recycle.bin",
    "system volume information",
    "@eadir",
}
MAX_FOLDERS = 200_000  # below one folder: links that cross each other can make any number of paths


def is_service(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or belongs to the system and not to the user."""
    return name.startswith(".") or name.casefold() in SERVICE_NAMES


def walk(top: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """The folders below ``top``, itself included: (folder, names of its folders, names of its files), sorted.

    Links to folders are followed, except for those to a folder that contains them. Service files and folders are passed
    over.

    Raises:
        InputError: there are more than ``MAX_FOLDERS`` folders.
        OSError: a folder cannot be read.
    """
    waiting: list[tuple[Path, tuple[tuple[int, int], ...]]] = [(top, ())]
    count = 0
    while waiting:
        folder, above = waiting.pop()
        status = os.stat(folder)
        identity = status.st_dev, status.st_ino
        if identity in above:
            continue
        count += 1
        if count > MAX_FOLDERS:
            raise InputError(
                f"{top}: more than {MAX_FOLDERS} folders; remove links that lead back and forth between them"
            )
        with os.scandir(folder) as entries:
            is_folder = {entry.name: _is_folder(entry) for entry in entries if not is_service(entry.name)}
        folders = sorted(name for name, value in is_folder.items() if value)
        yield folder, folders, sorted(name for name, value in is_folder.items() if not value)
        waiting += [(folder / name, (*above, identity)) for name in reversed(folders)]


def same_name(name: str) -> str:
    """The form in which names are compared: macOS stores accents decomposed, and file systems may ignore case."""
    return (
        name.casefold()
        if name.isascii()
        else unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    )


def find_below(root: Path, name: str | Path) -> Path:
    """``root / name``, with each part spelt as on disk: compared by ``same_name`` if it does not exist as given."""
    found = Path(root)
    for part in Path(name).parts:
        if not os.path.lexists(found / part) and found.is_dir():
            spellings = {same_name(entry): entry for entry in sorted(os.listdir(found))}
            part = spellings.get(same_name(part), part)
        found = found / part
    return found


def _is_folder(entry: os.DirEntry) -> bool:
    # DirEntry.is_dir raises an error for a link to itself.
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()
