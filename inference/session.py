"""Restore a list of files; a file that fails does not stop the others.

While the network restores an image, one thread reads the next image and another writes the last one.
"""

import contextlib
import errno
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from data.images import DECODING_COST
from inference.failures import reason_of
from inference.folders import Job
from inference.limits import DEFAULT_CRF
from inference.manifest import Manifest
from inference.memory import fits_beside, promise
from inference.photo_files import (
    MAX_MEGAPIXELS,
    RESTORING_COST,
    Photograph,
    photograph_size,
    read_photograph,
)
from inference.photo_writing import check_writable, write_photograph
from inference.restorer import Restorer
from inference.video_reading import VideoReader
from inference.video_restoring import compare_videos, restore_video
from utils.errors import InputError, printable
from utils.signals import StopSignal

# Errors of the disk rather than of one file: every following file would fail as well.
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
# Bytes per pixel to read an image of 16 bits, and more than what it takes to write one.
FILE_COST = 2 * DECODING_COST + RESTORING_COST
TURN = 0.0005  # seconds
ANNOUNCE_SECONDS = 10  # after this time per image, print an estimate of the time remaining


class Stopped(Exception):
    """A signal requested that the job stop."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of restore.py that apply to every file."""

    compare: bool = False
    overwrite: bool = False
    self_ensemble: bool = False
    tile: int | None = None
    max_megapixels: float = MAX_MEGAPIXELS
    accept_truncated: bool = False
    crf: int = DEFAULT_CRF


class Session:
    """Restores jobs one after another, with one progress bar for all.

    Attributes:
        restored: number of files restored.
        compared: number of comparisons added to existing results.
        failed: number of files that could not be read, restored or written.
    """

    def __init__(self, restorer: Restorer, options: Options, manifest: Manifest, jobs: Sequence[Job]) -> None:
        self.restorer, self.options, self.manifest, self.jobs = restorer, options, manifest, jobs
        self.stop = StopSignal()
        self.restored = self.compared = self.failed = 0
        self.megapixels = {job.input: self._megapixels(job) for job in jobs}
        self.reader, self.writer = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self.reading: Future[Photograph] | None = None  # the next image
        self.writing: tuple[Job, Future[list[str]]] | None = None  # the last image
        self.bar = tqdm(
            total=round(sum(self.megapixels.values()), 3),
            unit="MP",
            disable=None,
            bar_format="{l_bar}{bar}| {n:.1f}/{total:.1f} MP [{elapsed}<{remaining}{postfix}]",
        )

    def run(self) -> bool:
        """Restore every job, reporting failures on stderr and counting them; returns False if a signal stopped it.

        With ``Options.compare``, a file that has a result gets the missing comparison. Lines about files appear in the
        order of the jobs.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        # Python's filters of warnings are those of all threads, and decoders and encoders silence them on their own.
        with self.bar, warnings.catch_warnings(action="ignore"), short_turns(), self.reader, self.writer:
            try:
                for number, job in enumerate(self.jobs, 1):
                    with self._reported(job):
                        self._process(job, number)
            except Stopped:
                self._finish_writing()
                return False
            self._finish_writing()
        return True

    @contextlib.contextmanager
    def _reported(self, job: Job) -> Iterator[None]:
        """Whatever goes wrong with a job is one line, and the other files are restored."""
        try:
            yield
        except Stopped:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                raise
            self._finish_writing()  # the lines of the job before come first
            self.failed += 1
            self._note(f"error: {described(error, job)}")

    def _process(self, job: Job, number: int) -> None:
        self.bar.set_description(f"file {number} of {len(self.jobs)}: {printable(job.output.name)[-30:]}")
        self.bar.set_postfix_str("")
        position = self.bar.n
        if self.options.compare and not self.options.overwrite and job.output.exists():
            self._compare_existing(job)
            self.compared += 1
        elif job.is_video:
            self._restore_video(job)
        else:
            self._restore_image(job, *self.jobs[number : number + 1])
        self.bar.update(position + self.megapixels[job.input] - self.bar.n)

    def _note(self, line: str) -> None:
        tqdm.write(printable(line), file=sys.stderr)

    def _megapixels(self, job: Job) -> float:
        try:
            if job.is_video:
                with VideoReader(job.input) as video:
                    return video.count * video.size[0] * video.size[1] / 1e6
            height, width = photograph_size(job.input, self.options.max_megapixels, self.options.accept_truncated)
            return height * width / 1e6
        except Exception:  # reported when the file is restored
            return 0.0

    def _restore_image(self, job: Job, following: Job | None = None) -> None:
        photograph = self._read(job)
        check_writable(job.output, photograph)  # before the network has run
        if following is not None and not following.is_video and self._fits_beside(following):
            self.reading = self._started(self.reader, following, self._read_file, following)
        restored = self._restored(photograph.colour, f"{job.input}: {self.megapixels[job.input]:.1f} megapixels")
        self._finish_writing()
        self.writing = job, self._started(self.writer, job, self._write, job, photograph, restored)
        if not self._fits_beside(job):
            self._finish_writing()

    def _fits_beside(self, job: Job) -> bool:
        return fits_beside(FILE_COST * 1e6 * self.megapixels[job.input])

    def _started(self, thread: ThreadPoolExecutor, job: Job, function: Callable[..., Any], *arguments: Any) -> Future:
        work = thread.submit(function, *arguments)
        promise(work, FILE_COST * 1e6 * self.megapixels[job.input])
        return work

    def _read(self, job: Job) -> Photograph:
        """The image of a job, which the thread may have read ahead; if it failed there, it is read again, alone."""
        reading, self.reading = self.reading, None
        if reading is not None:
            with contextlib.suppress(Exception):
                return reading.result()
        self._finish_writing()
        return self._read_file(job)

    def _read_file(self, job: Job) -> Photograph:
        return read_photograph(job.input, self.options.max_megapixels, self.options.accept_truncated)

    def _write(self, job: Job, photograph: Photograph, restored: np.ndarray) -> list[str]:
        """Write a result, and say what is not as in the input."""
        self.manifest.forget(job.output)
        if self.options.compare:  # first: a job that is killed in between restores the image again
            write_comparison(job, photograph, restored)
        lost = write_photograph(job.output, photograph.with_colour(restored))
        self.manifest.record(job.output)
        return [
            *(f"note: {job.input}: {note}" for note in photograph.notes),
            *(f"note: {job.output}: {note}" for note in lost),
        ]

    def _finish_writing(self) -> None:
        """Wait until the last image is written, and report it."""
        if self.writing is None:
            return
        (job, work), self.writing = self.writing, None
        with self._reported(job):
            for note in work.result():
                self._note(note)
            self.restored += 1

    def _compare_existing(self, job: Job) -> None:
        self._finish_writing()
        if job.is_video:
            compare_videos(job.input, job.output, job.comparison, self.options.crf, self._check)
            return
        photograph = self._read(job)
        restored = read_photograph(job.output, self.options.max_megapixels).colour
        if (restored.shape, restored.dtype) != (photograph.colour.shape, photograph.colour.dtype):
            raise InputError(f"{job.output}: differs from the input in size or depth; add --overwrite to replace it")
        write_comparison(job, photograph, restored)

    def _restore_video(self, job: Job) -> None:
        self._finish_writing()
        self.manifest.forget(job.output)
        start, count = time.monotonic(), 0
        with VideoReader(job.input) as video:
            megapixels = video.size[0] * video.size[1] / 1e6
        if megapixels > self.options.max_megapixels:
            raise InputError(
                f"{job.input}: more than {self.options.max_megapixels:g} megapixels; "
                "pass a larger --max-megapixels to restore it"
            )

        def restore(frame: np.ndarray | None, index: int) -> np.ndarray | None:
            nonlocal start, count
            if frame is None:  # restored by an earlier job
                self._check()
                self.bar.update(megapixels)
                start = time.monotonic()
                return None
            restored = self._restored(frame, f"{job.input}: frame {index + 1}")
            count += 1
            self.bar.set_postfix_str(f"{count / (time.monotonic() - start):.2f} frames/s")
            return restored

        comparison = job.comparison if self.options.compare else None
        settings = self.manifest.settings_of(job.output)
        notes = restore_video(job.input, job.output, restore, settings, self.options.crf, self._check, comparison)
        self.manifest.record(job.output)
        for note in notes:
            self._note(f"note: {job.input}: {note}")
        self.restored += 1

    def _check(self) -> None:
        if self.stop.received:
            raise Stopped

    def _restored(self, colour: np.ndarray, label: str) -> np.ndarray:
        start, before = time.monotonic(), self.bar.n
        megapixels = colour.shape[0] * colour.shape[1] / 1e6
        announced = False

        def progress(done: float) -> None:
            nonlocal announced
            self._check()
            if self.writing is not None and self.writing[1].done():
                self._finish_writing()
            self.bar.update(before + done * megapixels - self.bar.n)
            seconds = time.monotonic() - start
            if not announced and 0 < done < 0.5 and seconds > ANNOUNCE_SECONDS:
                announced = True
                self._note(f"note: {label}, about {duration(seconds / done - seconds)} remaining")

        progress(0.0)
        return self.restorer.restore(colour, self.options.tile, self.options.self_ensemble, progress)


@contextlib.contextmanager
def short_turns() -> Iterator[None]:
    """Let threads take turns after ``TURN`` instead of 5 ms, for which each operation of the network could wait."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def write_comparison(job: Job, photograph: Photograph, restored: np.ndarray) -> None:
    """Write input and restored image side by side, colours with the same meaning as in the input."""
    both = np.concatenate([photograph.colour, restored], axis=1)
    more = {key: value for key, value in photograph.more.items() if key == "png_colour"}
    write_photograph(job.comparison, Photograph(both, icc=photograph.icc, more=more))


def described(error: Exception, job: Job) -> str:
    """One line that names the file and says what went wrong."""
    reason = reason_of(error)
    named = any(str(path) in reason for path in (job.input, job.output, job.comparison))
    return reason if named else f"{job.input}: {reason}"


def duration(seconds: float) -> str:
    """Format seconds as "40 s", "25 min" or "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
