"""Restore a video: decoding, the network and encoding at the same time, frame by frame."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np

from inference.video_colours import Planes, rgb_to_planes
from inference.video_reading import Description, Frame, VideoReader, reason
from inference.video_segments import Segments
from inference.video_writing import MUXERS, encode, join
from utils.errors import InputError
from utils.files import short_name

AHEAD = 2  # frames that wait for the network, and for the encoder

# Called with each frame that is restored, float32 (H, W, 3) in [0, 1], and its index; returns the restored one.
# The frames that a stopped job has restored already come as None, and the result is not used.
Restore = Callable[[np.ndarray | None, int], np.ndarray]


def restore_video(
    source: Path,
    target: Path,
    restore: Restore,
    settings: Mapping[str, Any],
    crf: int,
    poll: Callable[[], None],
    comparison: Path | None = None,
) -> list[str]:
    """Write the video ``source``, restored, to ``target``, and if asked for a ``comparison`` with the source.

    An exception in ``restore`` ends this; the frames restored by then are kept in a hidden folder beside ``target``,
    and the next call with the same ``settings`` and ``crf`` goes on after them.

    Args:
        poll: called often; an exception ends the work, as one in ``restore`` does.
        settings: what determines the restored frames, besides ``source``; of JSON's types.

    Returns:
        Notes on what is not as in the source.

    Raises:
        InputError: the source cannot be read, or does not fit its container; nothing is then written.
        OSError: the target cannot be written.
    """
    status = source.stat()
    settings = {**settings, "crf": crf, "source": [str(source.absolute()), status.st_size, status.st_mtime_ns]}
    folder = target.with_name(f".{short_name(target)}.parts")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with VideoReader(source) as video:
            segments = Segments(folder, settings, video.description, crf)
            _restore_frames(video, segments, restore)
            notes = video.notes
        part = folder / f"joined{target.suffix}"
        notes += join(segments.finish(), source, part, MUXERS[target.suffix.lower()], poll)
        if comparison is not None:
            compare_videos(source, part, comparison, crf, poll)
        part.replace(target)
        segments.remove()
    except av.FFmpegError as error:
        raise InputError(f"{target}: cannot be written ({reason(error)}); choose another --output") from None
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(target)) from None
    return notes


def ahead(items: Iterable[Any], depth: int) -> Iterator[Any]:
    """The items, up to ``depth`` of them computed in a thread before they are asked for."""
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1) as pool:
        pending = deque(pool.submit(next, iterator, end) for _ in range(depth))
        while (item := pending.popleft().result()) is not end:
            pending.append(pool.submit(next, iterator, end))
            yield item


def _restore_frames(video: VideoReader, segments: Segments, restore: Restore) -> None:
    description, known = video.description, segments.count

    def decoded() -> Iterator[tuple[Frame, np.ndarray | None]]:
        for index, frame in enumerate(video.frames()):
            yield frame, None if index < known else video.rgb(frame.image)

    def keep(restored: np.ndarray, frame: Frame) -> None:
        segments.add(_planes(restored, description), frame.pts, frame.duration)

    with ThreadPoolExecutor(1) as encoder, contextlib.closing(ahead(decoded(), AHEAD)) as frames:
        pending: deque[Future[None]] = deque()
        count = 0
        for index, (frame, rgb) in enumerate(frames):
            count += 1
            restored = restore(rgb, index)
            if rgb is None:
                continue
            if len(pending) == AHEAD:
                pending.popleft().result()
            pending.append(encoder.submit(keep, restored, frame))
        for future in pending:
            future.result()
    if segments.count != count:  # decoding a damaged video need not repeat
        segments.remove()
        raise InputError(f"{video.path}: {count} frames read, but {known} restored earlier; run the same command again")


def compare_videos(source: Path, restored: Path, target: Path, crf: int, poll: Callable[[], None]) -> None:
    """Write source and restored video side by side as displayed: for a rotated one, their samples lie otherwise.

    Raises:
        InputError: they are not of one size, or cannot be read.
        OSError: the target cannot be written.
    """
    with VideoReader(source) as left, VideoReader(restored) as right:
        description = left.description
        if right.description.size != description.size:
            raise InputError(f"{restored}: differs from the input in size; add --overwrite to replace it")
        axis, turned = _side_by_side(description.display_matrix)
        size = list(description.size)
        size[axis] *= 2
        pair = replace(description, size=tuple(size), colour=(*description.colour[:2], description.matrix))

        def frames() -> Iterator[tuple[Planes, int, int]]:
            for before, after in zip(left.frames(), right.frames(), strict=False):
                poll()
                images = [left.rgb(before.image), right.rgb(after.image)]
                both = np.concatenate(images[::-1] if turned else images, axis)
                yield _planes(both, pair), before.pts, before.duration

        encode(target, MUXERS[target.suffix.lower()], ahead(frames(), AHEAD), pair, crf)


def _side_by_side(display_matrix: tuple[int, ...] | None) -> tuple[int, bool]:
    """The axis of the stored image that is displayed horizontally, and whether it is displayed from right to left."""
    if display_matrix is None:
        return 1, False
    from_x, from_y = display_matrix[0], display_matrix[3]
    return (1, from_x < 0) if abs(from_x) >= abs(from_y) else (0, from_y < 0)


def _planes(rgb: np.ndarray, description: Description) -> Planes:
    return rgb_to_planes(rgb, description.matrix, description.full_range, description.bits, description.subsampled)
