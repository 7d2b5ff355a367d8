"""Write H.264 with PyAV, and join it with the sound, subtitles and chapters of the source."""

import contextlib
import heapq
import operator
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av

from inference.video_colours import FULL, LIMITED, Planes, build_frame
from inference.video_reading import Description, VideoReader, is_cover, reason
from utils.errors import InputError
from utils.files import replacing

# libavformat's name of the container for each suffix of a result.
MUXERS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".avi": "avi",
    **dict.fromkeys([".ts", ".mts", ".m2ts"], "mpegts"),
}
# No B frames: packets are in the order of their timestamps, which AVI requires and joining relies on. Every keyframe
# repeats the headers, and headers do not depend on the content, so that segments can be joined. The second line makes
# the quantizer nearly constant: x264's default spends fewer bits where it expects nobody to look, and then no ``crf``
# promises a PSNR.
X264 = "bframes=0:stitchable=1:repeat-headers=1:qcomp=1:ipratio=1.1:mbtree=0:aq-mode=0:psy=0:chroma-qp-offset=-12"
# Tags that describe the source's streams or its writer, not its content.
STALE_TAGS = ("encoder", "duration", "_statistics", "number_of_", "bps", "major_brand", "minor_version", "compatible_")

COVER = {"filename": "cover.jpg", "mimetype": "image/jpeg"}  # what Matroska calls a cover without a name

# A packet with its time in seconds and the stream that it is written to.
Timed = tuple[Fraction, av.stream.Stream, av.Packet]


class Sink:
    """A file for libav to write to.

    libav ignores some errors and reports others twice: the first one is kept, and nothing more is written.

    Attributes:
        error: what the file system reported, or None.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.name = file, file.name
        self.seek, self.tell = file.seek, file.tell
        self.error: OSError | None = None

    def write(self, content: bytes) -> int:
        if self.error is None:
            try:
                return self.file.write(content)
            except OSError as error:
                self.error = error
        return len(content)


@contextlib.contextmanager
def writing(
    path: Path, muxer: str, time_base: Fraction, tags: Iterable[str] = ()
) -> Iterator[av.container.OutputContainer]:
    """A container that becomes the file ``path`` when the block ends without an error.

    Args:
        tags: names of the tags to be written.

    Raises:
        OSError: the file cannot be written.
    """
    options = {}
    if muxer in ("mp4", "mov"):  # exact times: tracks count in the source's unit, and so does the delay before them
        options = {key: str(time_base.denominator) for key in ("video_track_timescale", "movie_timescale")}
        if any(tag.startswith("com.") for tag in tags):  # tags of phones, which have to be asked for
            options["movflags"] = "use_metadata_tags"
    elif muxer == "mpegts":
        options = {"mpegts_copyts": "1"}
    with replacing(path, sync=True) as file:
        sink = Sink(file)
        try:
            with av.open(sink, "w", format=muxer, container_options=options) as container:
                yield container
        finally:
            if sink.error is not None:
                raise sink.error


def add_h264(container: av.container.OutputContainer, description: Description, crf: int) -> av.VideoStream:
    """An H.264 stream as ``description`` says."""
    stream = container.add_stream(
        "libx264",
        rate=description.rate,
        options={"crf": str(crf), "x264-params": X264 + description.hdr},
        time_base=description.time_base,
    )
    stream.height, stream.width = description.size
    stream.pix_fmt = description.pixel_format
    stream.color_primaries, stream.color_trc, stream.colorspace = description.colour
    stream.color_range = FULL if description.full_range else LIMITED
    if description.aspect:
        stream.codec_context.sample_aspect_ratio = description.aspect
    if description.display_matrix:
        stream.set_display_matrix(description.display_matrix)
    return stream


def encode(
    path: Path, muxer: str, frames: Iterable[tuple[Planes, int, int]], description: Description, crf: int
) -> None:
    """Write a video of frames, each with its timestamp and duration."""
    durations = {}
    with writing(path, muxer, description.time_base) as container:
        stream = add_h264(container, description, crf)

        def write(frame: av.VideoFrame | None) -> None:
            for packet in stream.encode(frame):
                packet.dts = packet.pts
                packet.duration = durations.pop(packet.pts)
                container.mux(packet)

        for planes, pts, duration in frames:
            frame = build_frame(planes, description.pixel_format)
            frame.pts, frame.time_base, durations[pts] = pts, description.time_base, duration
            frame.color_range, frame.colorspace = stream.color_range, stream.colorspace
            write(frame)
        write(None)


def join(segments: list[Path], source: Path, path: Path, muxer: str, poll: Callable[[], None]) -> list[str]:
    """Write the video of ``segments`` with everything else in ``source``.

    What cannot be written together, as some timecodes cannot, is left out: all but sound and subtitles, then those too.

    Returns:
        Notes on what is not copied.

    Raises:
        InputError: what was written is not what should have been.
        OSError: the file cannot be written.
    """
    notes = []
    for kinds in ({"audio", "subtitle", "video", "data", "attachment"}, {"audio", "subtitle"}, set()):
        try:
            with VideoReader(source) as video:
                return [*_join(segments, video, path, muxer, poll, kinds), *notes]
        except (av.FFmpegError, InputError) as error:  # not an error of the disk
            fault = error
            notes = [f"more than what is written cannot be copied together ({reason(error)})"]
    raise fault


def _join(
    segments: list[Path], source: VideoReader, path: Path, muxer: str, poll: Callable[[], None], kinds: set[str]
) -> list[str]:
    """``join`` with streams of some ``kinds``; without any, tags and chapters are left out as well."""
    description, tags = source.description, _lasting(source.container.metadata) if kinds else {}
    times = []
    with contextlib.ExitStack() as stack:
        container = stack.enter_context(writing(path, muxer, description.time_base, tags))
        first = stack.enter_context(av.open(str_of(segments[0]), format="nut"))
        video = container.add_stream_from_template(first.streams.video[0], opaque=True)
        video.time_base = description.time_base
        video.codec_context.framerate = description.rate
        if description.display_matrix:
            video.set_display_matrix(description.display_matrix)
        container.metadata.update(tags)
        streams, notes = {}, []
        if kinds:
            video.metadata.update(_lasting(source.stream.metadata))
            container.set_chapters(source.container.chapters())
            streams, notes = _copied_streams(container, source, muxer, kinds)
        lost: Counter[av.stream.Stream] = Counter()
        for seconds, stream, packet in heapq.merge(
            _video_packets(segments, video), _other_packets(source, streams), key=operator.itemgetter(0)
        ):
            origin, packet.stream = packet.stream, stream
            if stream is video:
                times.append(seconds)
                container.mux(packet)
                continue
            try:
                container.mux(packet)
            except av.FFmpegError:  # its time or content is damaged
                lost[origin] += 1
        for stream, count in lost.items():
            notes.append(f"{count} damaged packet(s) of {stream.type} stream {stream.index} left out")
    verify(path, times, poll)
    return notes


def verify(path: Path, times: list[Fraction], poll: Callable[[], None]) -> None:
    """Decode a written file.

    Raises:
        InputError: it has other frames than those at ``times``, in seconds.
    """
    with VideoReader(path) as video:
        unit = video.stream.time_base
        found = []
        for frame in video.frames():
            poll()
            found.append(frame.pts * unit)
        same = len(found) == len(times) and all(abs(a - b) < unit for a, b in zip(found, times, strict=True))
        if not same or video.notes:
            raise InputError(
                f"{path}: of {len(times)} frames written, {len(found)} can be read, or at other times; run again"
            )


def str_of(path: Path) -> str:
    """The path as libavformat takes it for a file, whatever characters it has."""
    return f"file:{path}"


def _video_packets(segments: list[Path], video: av.VideoStream) -> Iterator[Timed]:
    for segment in segments:
        with av.open(str_of(segment), format="nut") as container:
            for packet in container.demux(video=0):
                if packet.pts is not None:
                    yield packet.pts * packet.time_base, video, packet


def _other_packets(source: VideoReader, streams: dict[av.stream.Stream, av.stream.Stream]) -> Iterator[Timed]:
    packets = source.container.demux(list(streams)) if streams else iter(())
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, OSError):  # nothing behind this place can be read, as the frames' notes say
            return
        if packet is None:
            return
        if not packet.size:  # marks the end of a stream
            continue
        if packet.size == 2 and packet.stream.name == "mov_text":  # a pause, which the muxer writes itself
            continue
        if packet.dts is None:  # a cover image has no time
            packet.pts = packet.dts = packet.pts or 0
        yield packet.dts * packet.time_base, streams[packet.stream], packet


def _copied_streams(
    container: av.container.OutputContainer, source: VideoReader, muxer: str, kinds: set[str]
) -> tuple[dict[av.stream.Stream, av.stream.Stream], list[str]]:
    """Add the source's other streams to ``container``: those of the source, with those added, and notes on the rest."""
    streams, dropped = {}, []
    for stream in source.container.streams:
        if stream is source.stream:
            continue
        if stream.type == "data" and (source.container.chapters() or "timecode" in stream.metadata):
            continue  # MOV and MP4 store chapters and timecodes so; they are written from their description
        if is_cover(stream) and muxer == "matroska":
            name, kind = (stream.metadata.get(key, default) for key, default in COVER.items())
            container.add_attachment(name, kind, _first_packet(source.path, stream.index))
            continue
        fault = "only one video stream is restored" if stream.type == "video" and not is_cover(stream) else None
        fault = fault or ("left out" if stream.type not in kinds else _unsupported(stream, muxer))
        if fault:
            dropped.append(f"{stream.type} stream {stream.index} ({fault})")
        else:
            streams[stream] = _add_copy(container, stream, muxer)
    return streams, [f"not copied: {', '.join(dropped)}"] if dropped else []


def _add_copy(container: av.container.OutputContainer, stream: av.stream.Stream, muxer: str) -> av.stream.Stream:
    if (
        muxer == "avi" and stream.type == "audio" and stream.name == "ac3"
    ):  # copied as it is described, its packets would have no times
        copy = container.add_stream("ac3", rate=stream.rate, layout=stream.layout.name, bit_rate=stream.bit_rate)
    else:
        copy = container.add_stream_from_template(stream, opaque=True)
    copy.metadata.update(_lasting(stream.metadata))
    copy.disposition = stream.disposition
    return copy


def _first_packet(path: Path, index: int) -> bytes:
    with VideoReader(path) as video:
        return bytes(next(video.container.demux(video.container.streams[index])))


def _unsupported(stream: av.stream.Stream, muxer: str) -> str | None:
    """Why the container cannot hold a stream: tried by writing a header to nowhere."""
    try:
        with open(os.devnull, "wb") as nowhere, av.open(nowhere, "w", format=muxer) as trial:
            _add_copy(trial, stream, muxer)
            trial.start_encoding()
    except (av.FFmpegError, ValueError, LookupError, NotImplementedError) as error:
        return reason(error)
    return None


def _lasting(metadata: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in metadata.items() if not key.lower().startswith(STALE_TAGS)}
