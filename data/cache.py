"""A cache of decoded images: memory-mapped files, so that each image is decoded only once."""

import errno
import hashlib
import multiprocessing
import os
import shutil
import sys
import uuid
from pathlib import Path

import cv2
import numpy as np

from data.images import read_image
from utils.shared_memory import explained_if_full

# Disk space in bytes that the cache leaves free: checkpoints may share the disk, and the loader's batches /dev/shm.
RESERVE = 2**30


class DecodedCache:
    """Drop-in replacement for ``read_image`` that stores each decoded image in ``folder`` and reads it from there.

    The files are memory-mapped: only the rows that are accessed are read, and all processes on a machine share them
    through the page cache. Any number of processes and runs may use the folder at the same time, and it can be deleted
    at any time. A modified image gets a new file; files of earlier versions are not removed.

    If the folder is not writable or less than ``RESERVE`` bytes are free, a warning is printed to stderr once, and
    images that are not cached yet are decoded on every access.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        with explained_if_full():
            self.read_only = multiprocessing.Value("b", False)  # shared with the loader's workers
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._stop_writing(error)

    def read(self, path: Path) -> np.ndarray:
        """Return RGB (H, W, 3), uint8 or uint16; the array must not be modified.

        Raises:
            InputError: as ``read_image``.
        """
        try:
            file = self._cache_file(path)
        except OSError:
            return read_image(path)  # raises a descriptive error
        try:
            return np.load(file, mmap_mode="r")
        except (OSError, ValueError, EOFError):  # not cached yet, or truncated
            image = read_image(path)
        if not self.read_only.value:
            try:
                self._write(file, image)
            except OSError as error:
                self._stop_writing(error)
        return image

    def _cache_file(self, path: Path) -> Path:
        """The cache file, named by a hash of everything that determines the decoded pixels."""
        status = os.stat(path)
        version = f"{os.path.abspath(path)} {status.st_size} {status.st_mtime_ns} {cv2.__version__}"
        return self.folder / f"{hashlib.sha256(version.encode()).hexdigest()[:32]}.npy"

    def _write(self, file: Path, image: np.ndarray) -> None:
        if shutil.disk_usage(self.folder).free < RESERVE + image.nbytes:
            raise OSError(errno.ENOSPC, f"less than {RESERVE / 2**30:.0f} GiB free")
        temporary = file.with_suffix(f".{uuid.uuid4().hex}.tmp")
        try:
            with open(temporary, "wb") as stream:
                np.save(stream, image)
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)

    def _stop_writing(self, error: OSError) -> None:
        with self.read_only.get_lock():
            first, self.read_only.value = not self.read_only.value, True
        if first:
            reason = error.strerror or error  # errors raised by NumPy have no strerror
            print(
                f"data.cache: {self.folder}: {reason}; images that are not cached yet are decoded on every access",
                file=sys.stderr,
            )
