"""Short videos of a photograph that pans, in every form that people have of them."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from album import CHELSEA

SIZE = (64, 96)  # (height, width)


def pan(count: int, size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    """Frames (H, W, 3), uint8."""
    height, width = size
    photo = cv2.resize(CHELSEA, (2 * width + 2 * count, 2 * height + count), interpolation=cv2.INTER_AREA)
    return [np.ascontiguousarray(photo[i : i + height, 2 * i : 2 * i + width]) for i in range(count)]


def write_clip(path: Path, frames: Iterable[np.ndarray], *arguments: Any, **options: Any) -> Path:
    """Write a video, see ``encode``.

    In a thread of its own: libsvtav1 gives the thread that calls it real-time priority where it may, as root does, and
    whatever that thread starts afterwards, such as training processes on one core, would inherit it and starve.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(encode, path, frames, *arguments, **options).result()


def encode(
    path: Path,
    frames: Iterable[np.ndarray],
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    matrix: int = 1,
    colour_range: int = 1,
    primaries: int = 1,
    transfer: int = 1,
    time_base: Fraction = Fraction(1, 25),
    times: list[int] | None = None,
    rotation: int = 0,
    aspect: Fraction | None = None,
    sound: bool | str = False,
    muxer: str | None = None,
    metadata: dict[str, str] | None = None,
    chapters: list[dict] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a video, with a tone if ``sound``, which may name its codec; ``times`` count in ``time_base``."""
    frames = list(frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    # An open file, because some names are patterns or protocols to libavformat.
    with open(path, "wb") as file, av.open(file, "w", format=muxer or guessed(path)) as container:
        container.metadata.update(metadata or {})
        if chapters:
            container.set_chapters(chapters)
        video = container.add_stream(codec, rate=25, options=options or {}, time_base=time_base)
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = pixel_format
        video.colorspace, video.color_range = matrix, colour_range
        video.color_primaries, video.color_trc = primaries, transfer
        if aspect:
            video.codec_context.sample_aspect_ratio = aspect
        if rotation:
            video.set_display_rotation(rotation)
        if sound is True:
            sound = "mp2" if path.suffix in (".ts", ".mpg") else "aac"
        audio = container.add_stream(sound, rate=48000) if sound else None
        for index, frame in enumerate(frames):
            image = av.VideoFrame.from_ndarray(frame, "rgb24")
            image = image.reformat(format=pixel_format, dst_colorspace=matrix, dst_color_range=colour_range)
            image.pts, image.time_base = times[index] if times else index, time_base
            container.mux(video.encode(image))
        container.mux(video.encode())
        if audio:
            tone = np.sin(np.arange(48000 * len(frames) // 25) / 20) * 8000
            sample = av.AudioFrame.from_ndarray(tone.astype(np.int16)[None], "s16", "mono")
            sample.sample_rate, sample.pts = 48000, 0
            container.mux(audio.encode(sample))
            container.mux(audio.encode())
    return path


def guessed(path: Path) -> str:
    """libavformat's name of the container for a suffix."""
    names = {".mkv": "matroska", ".m4v": "mp4", ".ts": "mpegts", ".mpg": "mpeg"}
    return names.get(path.suffix, path.suffix[1:])


class Decoded:
    """A video as PyAV decodes it by default.

    Attributes:
        images: frames (H, W, 3), uint8.
        times: in seconds.
        traits: what describes the stream and its pixels.
        others: the packets of sound and subtitles, each with its time in seconds.
    """

    def __init__(self, path: Path) -> None:
        with open(path, "rb") as file, av.open(file) as container:
            video = container.streams.video[0]
            frames = list(container.decode(video))
            self.images = [frame.to_ndarray(format="rgb24") for frame in frames]
            self.times = [frame.pts * video.time_base for frame in frames]
            first = frames[0]
            self.traits = {
                "size": (first.height, first.width),
                "colour": (first.color_primaries, first.color_trc, first.colorspace),
                "range": first.color_range,
                "rotation": first.rotation,
                "aspect": video.sample_aspect_ratio,
            }
            self.codec, self.pixel_format = video.codec_context.name, first.format.name
            self.metadata, self.chapters = dict(container.metadata), container.chapters()
            self.side_data = {data.type.name: bytes(data) for data in first.side_data}
        with open(path, "rb") as file, av.open(file) as container:
            self.others: dict[str, list[tuple[Fraction, bytes]]] = {}
            for packet in container.demux():
                if packet.stream.type in ("audio", "subtitle") and packet.size:
                    self.others.setdefault(packet.stream.type, []).append(
                        (packet.pts * packet.time_base, bytes(packet))
                    )

    def round_times(self) -> None:
        """Round to milliseconds."""
        self.times = [round(1000 * time) * Fraction(1, 1000) for time in self.times]
        for kind, packets in self.others.items():
            self.others[kind] = [(round(1000 * time) * Fraction(1, 1000), content) for time, content in packets]

    def worst_psnr(self, other: "Decoded") -> float:
        """In dB, of the frame that differs most."""
        errors = [((a.astype(float) - b) ** 2).mean() for a, b in zip(self.images, other.images, strict=True)]
        return -10 * np.log10(max(errors) / 255**2 + 1e-12)

    def mean(self) -> float:
        return float(np.mean(self.images))
