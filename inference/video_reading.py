"""Read videos: their frames with exact timestamps, and what describes the stream."""

import contextlib
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from data.decoding.structure import FileBytes, Unreadable
from inference.video_boxes import check_tables
from inference.video_colours import (
    FULL,
    LIMITED,
    LUMA_WEIGHTS,
    UNSPECIFIED,
    even,
    frame_to_rgb,
    guessed_matrix,
    has_luma,
)
from utils.errors import InputError

# What a file may be, by libavformat's names; a playlist or a script with another suffix would open other files.
DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts"
# Suffixes of videos. The value is what the name of the result gains: WebM and MPEG program streams cannot hold H.264.
SUFFIXES = {
    **dict.fromkeys([".mp4", ".m4v", ".mov", ".mkv", ".avi", ".ts", ".mts", ".m2ts"], ""),
    **dict.fromkeys([".webm", ".mpg", ".mpeg"], ".mkv"),
}


class Frame(NamedTuple):
    """A decoded frame; ``pts`` and ``duration`` count in the stream's time base."""

    image: av.VideoFrame
    pts: int
    duration: int


@dataclass(frozen=True)
class Description:
    """What a restored video shares with its source.

    Attributes:
        size: (height, width).
        time_base: unit of timestamps in seconds.
        rate: mean frames per second.
        bits: 8 or 10 per sample.
        full_range: whether samples use all values.
        matrix: coefficients that convert to RGB, a key of LUMA_WEIGHTS.
        colour: primaries, transfer and matrix as tagged, 2 for unspecified; ITU-T H.273.
        aspect: width of a pixel by its height, None if unspecified.
        display_matrix: nine integers of libavutil's display matrix (rotation and flips), None if the source has none.
        hdr: the mastering display and light levels of HDR10, as parameters of x264; empty if the source has none.
    """

    size: tuple[int, int]
    time_base: Fraction
    rate: Fraction
    bits: int
    full_range: bool
    matrix: int
    colour: tuple[int, int, int]
    aspect: Fraction | None
    display_matrix: tuple[int, ...] | None
    hdr: str

    @property
    def subsampled(self) -> bool:
        """4:2:0, which every player knows, if the sides allow it; otherwise 4:4:4."""
        return even(*self.size)

    @property
    def pixel_format(self) -> str:
        return f"yuv{'420' if self.subsampled else '444'}p{'' if self.bits == 8 else '10le'}"


class VideoReader:
    """A video file, opened.

    Attributes:
        container: PyAV's container.
        stream: the first video stream that is not a cover image.
        size: (height, width).
        count: number of frames by the header, which may be wrong, or 0.
        notes: what was found while reading, one line each.

    Raises:
        InputError: missing, not a regular file, not in a container of DEMUXERS, without video, or without a decoder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"{path}: not a regular file; expected a video")
        if not self.path.stat().st_size:
            raise InputError(f"{path}: not a video: the file is empty; copy or download it again")
        self.notes: list[str] = []
        # An open file instead of a name, which libavformat could take for a protocol or a pattern; other files that
        # this one refers to cannot be opened.
        self.file = open(self.path, "rb")  # noqa: SIM115
        try:
            check_tables(FileBytes(self.file))
            self.file.seek(0)
            self.container = av.open(
                self.file,
                "r",
                container_options={"format_whitelist": DEMUXERS, "protocol_whitelist": "none", "enable_drefs": "0"},
                metadata_errors="replace",
                io_open=_refuse,
            )
        except Unreadable as error:
            self.file.close()
            raise InputError(f"{path}: not a video that can be read: {error}; convert it to H.264 in .mp4") from None
        except (av.FFmpegError, PermissionError, ValueError) as error:
            self.file.close()
            raise InputError(
                f"{path}: not a video, or in an unsupported container ({reason(error)}); convert it to .mp4"
            ) from None
        streams = [stream for stream in self.container.streams.video if not is_cover(stream)]
        if not streams or not streams[0].codec_context or not streams[0].codec_context.width:
            self.close()
            missing = "its video codec is not supported" if streams else "contains no video"
            raise InputError(f"{path}: {missing}")
        self.stream = streams[0]
        self.stream.thread_type = "AUTO"
        self.size = self.stream.codec_context.height, self.stream.codec_context.width
        self.count = self._header_count()

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if hasattr(self, "container"):
            self.container.close()
        self.file.close()

    @cached_property
    def description(self) -> Description:
        """Taken from the first frame, which is decoded for it; call before ``frames``.

        Raises:
            InputError: there is no frame, or its colours cannot be converted.
        """
        with VideoReader(self.path) as video:
            first = next(video.frames(), None)
        if first is None:
            raise InputError(f"{self.path}: no frame of the video could be read; convert it to H.264 in .mp4")
        return self._described(first.image)

    def rgb(self, frame: av.VideoFrame) -> np.ndarray:
        """The frame as float32 (H, W, 3) in [0, 1], in the stream's size."""
        if (frame.height, frame.width) != self.description.size:
            frame = frame.reformat(height=self.description.size[0], width=self.description.size[1])
        return frame_to_rgb(frame, self.description.matrix, self.description.full_range)

    def frames(self) -> Iterator[Frame]:
        """All frames that can be decoded, in order, with increasing timestamps; call once."""
        moved = 0
        last = expected = None  # timestamps of the last frame and of the next
        delay = None  # AVI stores only the order of decoding: how long after it the first frame is shown
        step = max(1, round(1 / (self.rate * self.stream.time_base)))
        tick = math.ceil(Fraction(1, 1000) / self.stream.time_base)  # Matroska counts milliseconds
        for image in self._images():
            known = (image.pts, image.dts, expected)
            if self.container.format.name == "avi":
                if delay is None:
                    delay = (image.dts or 0) - (self.stream.start_time or 0)
                known = (None if image.dts is None else image.dts - delay, expected)
            pts = next((time for time in known if time is not None), 0)
            if last is not None and pts <= last:
                # Two frames at one time, or a file of several, whose times start again.
                pts, moved = (expected if last - pts > 2 * step else last + tick), moved + 1
            duration = image.duration or step
            last, expected = pts, pts + duration
            yield Frame(image, pts, duration)
        if moved:
            self.notes.append(f"{moved} timestamp(s) out of order, moved")

    def _images(self) -> Iterator[av.VideoFrame]:
        packets, damaged = self.container.demux(self.stream), 0
        packet = True
        while packet is not None:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError):  # nothing behind this place can be read
                packet, damaged = None, damaged + 1
            try:
                images = self.stream.decode(packet)
            except av.EOFError:  # the packet was None, and so was the one before
                break
            except (av.FFmpegError, OSError):
                damaged += 1
                continue
            damaged += sum(image.is_corrupt for image in images)
            yield from images
        if damaged:
            self.notes.append(f"damaged in {damaged} place(s); what could be decoded is restored")

    @property
    def rate(self) -> Fraction:
        rates = (self.stream.average_rate, self.stream.guessed_rate)
        return next((rate for rate in rates if rate and Fraction(1, 100) <= rate <= 1000), Fraction(25))

    def _header_count(self) -> int:
        if self.stream.frames > 0:
            return self.stream.frames
        if self.stream.duration:
            seconds = self.stream.duration * self.stream.time_base
        else:
            seconds = Fraction(self.container.duration or 0, av.time_base)
        return max(0, round(seconds * self.rate))

    def _described(self, frame: av.VideoFrame) -> Description:
        primaries, transfer, tagged = frame.color_primaries, frame.color_trc, frame.colorspace
        luma = has_luma(frame.format)
        matrix = tagged if luma and tagged != UNSPECIFIED else guessed_matrix(frame.height, frame.width)
        if matrix not in LUMA_WEIGHTS:
            raise InputError(
                f"{self.path}: colours with matrix coefficients {matrix} (ITU-T H.273) cannot be read; "
                "convert the video to BT.709"
            )
        full = frame.color_range == FULL or frame.format.name.startswith("yuvj")
        if len(frame.format.components) < 3 and frame.color_range != LIMITED:
            full = True  # greyscale, which has no convention of its own
        bits = max(component.bits for component in frame.format.components)
        self.notes += _lost(frame, bits, self.size)
        if not luma:
            full, tagged = False, matrix
        return Description(
            size=(frame.height, frame.width),
            time_base=self.stream.time_base,
            rate=self.rate,
            bits=8 if bits <= 8 else 10,
            full_range=full,
            matrix=matrix,
            colour=(primaries, transfer, tagged),
            aspect=self.stream.sample_aspect_ratio or None,
            display_matrix=_integers(frame, "DISPLAYMATRIX", 9),
            hdr=_hdr(frame),
        )


def is_cover(stream: av.stream.Stream) -> bool:
    """Whether a stream is an image attached to the file, which containers count as video."""
    return stream.type == "video" and bool(stream.disposition & av.stream.Disposition.attached_pic)


def reason(error: Exception) -> str:
    """libav's message without the number and the name of the file."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _lost(frame: av.VideoFrame, bits: int, size: tuple[int, int]) -> Iterator[str]:
    """What the result cannot have, or need not for the eye, one line each."""
    if bits > 10:
        yield f"reduced from {bits} to 10 bits per sample"
    grey = has_luma(frame.format) and len(frame.format.components) < 3
    if even(*size) and not grey and frame.format.chroma_height(4) * frame.format.chroma_width(4) > 4:
        yield f"colour is stored at half the resolution, as 4:2:0; the source is {frame.format.name}"
    if any(component.is_alpha for component in frame.format.components):
        yield "transparency is dropped"
    if frame.interlaced_frame:
        yield "interlaced: restored and written as full frames"
    if {kind.name for kind in (data.type for data in frame.side_data)} & {"DYNAMIC_HDR_PLUS", "DOVI_METADATA"}:
        yield "dynamic HDR metadata is dropped"


def _integers(frame: av.VideoFrame, kind: str, count: int) -> tuple[int, ...] | None:
    """Side data of a frame that is an array of native integers, None if it has none."""
    with contextlib.suppress(KeyError):
        return struct.unpack(f"={count}i", bytes(frame.side_data[kind])[: 4 * count])
    return None


def _hdr(frame: av.VideoFrame) -> str:
    parameters = ""
    if mastering := _integers(frame, "MASTERING_DISPLAY_METADATA", 22):  # libavutil's AVMasteringDisplayMetadata
        values = [Fraction(n, d or 1) for n, d in zip(mastering[:20:2], mastering[1:20:2], strict=True)]
        rx, ry, gx, gy, bx, by, wx, wy = (round(50_000 * value) for value in values[:8])
        least, most = (round(10_000 * value) for value in values[8:])
        if all(mastering[20:]):
            parameters += f":mastering-display=G({gx},{gy})B({bx},{by})R({rx},{ry})WP({wx},{wy})L({most},{least})"
    if levels := _integers(frame, "CONTENT_LIGHT_LEVEL", 2):
        parameters += f":cll={levels[0]},{levels[1]}"
    return parameters


def _refuse(url: str, *_: object) -> None:
    raise PermissionError(f"refers to another file: {url}")
