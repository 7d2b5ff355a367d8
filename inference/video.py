"""Videos, frame by frame, through OpenCV; audio, which OpenCV does not carry, through ffmpeg where it is installed."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from utils.errors import InputError

# What FFmpeg has to say about a broken file, InputError says in one line.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
# The codec that each container is written with: one that OpenCV's own FFmpeg can encode.
CODECS = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}


class VideoReader:
    """The frames of a video, in order.

    Attributes:
        count: frames that the file says it has; some files are wrong about it, or say 0.
        rate: frames per second.
        size: (height, width).

    Raises:
        InputError: no video can be read from the path.
    """

    def __init__(self, path: str | Path) -> None:
        if not Path(path).is_file():
            raise InputError(f"{path}: not a file")
        self.capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        self.count = max(0, int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self.rate = self.capture.get(cv2.CAP_PROP_FPS) or 25.0
        width, height = (int(self.capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        self.size = height, width
        if not self.capture.isOpened() or not width or not height:
            raise InputError(f"{path}: not a video, or in a format that is not read")

    def __iter__(self) -> Iterator[np.ndarray]:
        """Frames (H, W, 3), RGB uint8, upright."""
        while True:
            there, frame = self.capture.read()
            if not there:
                return
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


class VideoWriter:
    """Writes frames (H, W, 3), RGB uint8, to ``path`` in the container of its suffix.

    Raises:
        InputError: OpenCV has no encoder for the container here.
    """

    def __init__(self, path: Path, rate: float, size: tuple[int, int]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        codec = CODECS[path.suffix.lower()]
        self.writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), rate, size[::-1])
        if not self.writer.isOpened():
            raise InputError(f"{path}: OpenCV cannot write {path.suffix} videos here ({codec})")

    def write(self, frame: np.ndarray) -> None:
        self.writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        self.writer.release()


def copy_audio(source: Path, silent: Path, target: Path) -> str | None:
    """Write ``silent``'s images and ``source``'s audio to ``target``; where that cannot be, say why.

    ``target`` is written only where the audio came along.
    """
    if shutil.which("ffmpeg") is None:
        return "audio, if there was any, is not kept: there is no ffmpeg program to copy it with"
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", str(silent), "-i", str(source)]
    command += ["-map", "0:v", "-map", "1:a?", "-c", "copy", str(target)]
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if result.returncode == 0:
        return None
    target.unlink(missing_ok=True)
    return f"audio is not kept: ffmpeg says {' '.join(result.stderr.split())[-200:]!r}"
