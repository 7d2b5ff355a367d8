"""Keep the restored frames of a video on disk until all are there, so that a stopped job goes on where it was."""

import json
import os
import shutil
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np

from inference.video_colours import Planes
from inference.video_reading import Description
from inference.video_writing import encode, str_of
from utils.errors import InputError
from utils.files import without_links, write_atomically
from utils.text_files import read_text

# Frames per segment. Segments start at multiples of it wherever a job was stopped, so that the result does not depend
# on that.
SEGMENT = 32
RECORD = struct.Struct("<Iqq")  # checksum of a frame's samples, timestamp, duration


class Segments:
    """Restored frames in a folder: whole segments as H.264, those after the last one as they are, with a checksum.

    Args:
        folder: created for the first frame, removed if it was made with other ``settings``.
        settings: everything that determines the frames, as JSON has it.

    Attributes:
        count: number of frames in the folder.

    Raises:
        InputError: ``folder`` is a link, or not a folder.
        OSError: it cannot be written.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], description: Description, crf: int) -> None:
        self.folder, self.settings, self.description, self.crf = folder, settings, description, crf
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise InputError(f"{folder}: in the way of the frames to be restored; remove it")
        if folder.exists() and _read(self._listing) != settings:
            shutil.rmtree(folder)
        self.paths = self._whole_segments()
        for path in set(folder.glob("*")) - {self._listing, self._frames, *self.paths}:
            path.unlink()
        self.kept = sum(1 for _ in self._stored())
        self.count = len(self.paths) * SEGMENT + self.kept
        if self.kept:
            os.truncate(self._frames, self.kept * self._record_size)
        else:
            self._frames.unlink(missing_ok=True)

    def add(self, planes: Planes, pts: int, duration: int) -> None:
        """Keep one more frame."""
        if self.count == 0:
            write_atomically(self._listing, json.dumps(self.settings))
        if self.kept == SEGMENT:
            frames, path = self._frames, self._encode()
            self.paths.append(path)
            self.kept = 0
            frames.unlink()
        samples = b"".join(np.ascontiguousarray(plane).tobytes() for plane in planes)
        with open(self._frames, "ab", opener=without_links) as file:
            file.write(RECORD.pack(zlib.crc32(samples), pts, duration) + samples)
        self.kept += 1
        self.count += 1

    def finish(self) -> list[Path]:
        """The files of all segments, in order, encoded; the frames of the last one stay, should joining be stopped."""
        return [*self.paths, self._encode()] if self.kept else self.paths

    def remove(self) -> None:
        shutil.rmtree(self.folder)

    @property
    def _listing(self) -> Path:
        return self.folder / "settings.json"

    @property
    def _frames(self) -> Path:
        """The file of the frames after the last whole segment."""
        return self.folder / f"{len(self.paths):06}.frames"

    def _whole_segments(self) -> list[Path]:
        """Segments from the first on, up to the first that is missing or damaged."""
        paths = []
        while _frames_of(path := self.folder / f"{len(paths):06}.nut") == SEGMENT:
            paths.append(path)
        return paths

    def _encode(self) -> Path:
        """Encode the frames after the last whole segment."""
        path = self.folder / f"{len(self.paths):06}.nut"
        encode(path, "nut", self._stored(), self.description, self.crf)
        if (written := _frames_of(path)) != self.kept:
            raise InputError(
                f"{path}: {written} frames could be read again instead of {self.kept}; run the same command again"
            )
        return path

    def _stored(self) -> Iterator[tuple[Planes, int, int]]:
        """The frames after the last whole segment, up to the first that is incomplete."""
        if not self._frames.is_file():
            return
        with open(self._frames, "rb", opener=without_links) as file:
            while len(record := file.read(self._record_size)) == self._record_size:
                checksum, pts, duration = RECORD.unpack_from(record)
                samples = memoryview(record)[RECORD.size :]
                if zlib.crc32(samples) != checksum:
                    return
                yield self._planes(samples), pts, duration

    @property
    def _shapes(self) -> list[tuple[int, int]]:
        height, width = self.description.size
        chroma = (height // 2, width // 2) if self.description.subsampled else (height, width)
        return [(height, width), chroma, chroma]

    @property
    def _record_size(self) -> int:
        return RECORD.size + sum(h * w for h, w in self._shapes) * (1 if self.description.bits == 8 else 2)

    def _planes(self, samples: memoryview) -> Planes:
        values = np.frombuffer(samples, np.uint8 if self.description.bits == 8 else "<u2")
        ends = np.cumsum([h * w for h, w in self._shapes])
        return tuple(part.reshape(shape) for part, shape in zip(np.split(values, ends[:-1]), self._shapes, strict=True))


def _frames_of(path: Path) -> int:
    """How many frames a segment has; 0 if it is missing or damaged."""
    if path.is_symlink() or not path.is_file():
        return 0
    try:
        with av.open(str_of(path), format="nut") as container:
            return sum(1 for packet in container.demux(video=0) if packet.size)
    except (av.FFmpegError, IndexError):
        return 0


def _read(path: Path) -> Any:
    try:
        return json.loads(read_text(path))
    except (OSError, ValueError):
        return None
