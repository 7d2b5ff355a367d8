"""Decoded images kept as files that are mapped into memory, so that each image is decoded once."""

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

# What the cache leaves free where it is: checkpoints may lie on the same disk, and in /dev/shm the workers' batches do.
RESERVE = 2**30


class DecodedCache:
    """``read`` returns what ``read_image`` does, from a file in ``folder`` once the image has been decoded.

    The files are mapped: of an image only the rows that are used are read, and all processes of a machine share what
    is in memory of them. Any number of processes and runs may use a folder at the same time, and it can be deleted at
    any time. An image that changed has another file; those of former ones stay.

    Where nothing more can be written, because the folder cannot be or less than RESERVE is free, stderr says so once
    and images that have no file are decoded each time.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.closed = multiprocessing.Value("b", False)  # shared with the loader's workers
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._close(error)

    def read(self, path: Path) -> np.ndarray:
        """RGB (H, W, 3), uint8 or uint16, not to be written to.

        Raises:
            InputError: as ``read_image``.
        """
        try:
            file = self._file_of(path)
        except OSError:
            return read_image(path)  # which says what is wrong
        try:
            return np.load(file, mmap_mode="r")
        except (OSError, ValueError, EOFError):  # not there yet, or cut off
            image = read_image(path)
        if not self.closed.value:
            try:
                self._write(file, image)
            except OSError as error:
                self._close(error)
        return image

    def _file_of(self, path: Path) -> Path:
        """A name that follows from all that decides about the pixels."""
        status = os.stat(path)
        version = f"{os.path.abspath(path)} {status.st_size} {status.st_mtime_ns} {cv2.__version__}"
        return self.folder / f"{hashlib.sha256(version.encode()).hexdigest()[:32]}.npy"

    def _write(self, file: Path, image: np.ndarray) -> None:
        if shutil.disk_usage(self.folder).free < RESERVE + image.nbytes:
            raise OSError(errno.ENOSPC, f"less than {RESERVE / 2**30:.0f} GiB is free")
        temporary = file.with_suffix(f".{uuid.uuid4().hex}.tmp")
        try:
            with open(temporary, "wb") as stream:
                np.save(stream, image)
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)

    def _close(self, error: OSError) -> None:
        with self.closed.get_lock():
            first, self.closed.value = not self.closed.value, True
        if first:
            reason = error.strerror or error  # NumPy's own says how much of a file was written, and no more
            print(f"data.cache: {self.folder}: {reason}; what is not in it is decoded each time", file=sys.stderr)
