"""Read and write videos frame by frame with OpenCV; OpenCV drops audio, so ffmpeg, if installed, copies it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from utils.errors import InputError

# Silence FFmpeg: problems with a file are reported in one line by InputError.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
# Codec for each container, limited to those that the FFmpeg bundled with OpenCV can encode.
CODECS = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}


class VideoReader:
    """The frames of a video, in order.

    Attributes:
        count: number of frames according to the header, which may be wrong or 0.
        rate: frames per second.
        size: (height, width).

    Raises:
        InputError: the file is missing or not a readable video.
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
            raise InputError(f"{path}: not a video, or in an unsupported format")

    def __iter__(self) -> Iterator[np.ndarray]:
        """Frames (H, W, 3), RGB uint8, with the rotation in the header applied."""
        while True:
            found, frame = self.capture.read()
            if not found:
                return
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


class VideoWriter:
    """Writes frames (H, W, 3), RGB uint8, to ``path``; its suffix selects the container.

    Args:
        rate: frames per second.
        size: (height, width).

    Raises:
        InputError: this build of OpenCV cannot encode for the container.
    """

    def __init__(self, path: Path, rate: float, size: tuple[int, int]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        codec = CODECS[path.suffix.lower()]
        self.writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), rate, size[::-1])
        if not self.writer.isOpened():
            raise InputError(f"{path}: this build of OpenCV cannot write {path.suffix} videos ({codec})")

    def write(self, frame: np.ndarray) -> None:
        self.writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        self.writer.release()


def copy_audio(source: Path, silent: Path, target: Path) -> str | None:
    """Write the video stream of ``silent`` and the audio of ``source`` to ``target``.

    Returns None on success, otherwise the reason; ``target`` then does not exist.
    """
    if shutil.which("ffmpeg") is None:
        return "audio (if any) is not copied: install ffmpeg to keep it"
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", str(silent), "-i", str(source)]
    command += ["-map", "0:v", "-map", "1:a?", "-c", "copy", str(target)]
    result = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if result.returncode == 0:
        return None
    target.unlink(missing_ok=True)
    return f"audio is not copied: ffmpeg reports {' '.join(result.stderr.decode(errors='replace').split())[-200:]!r}"
