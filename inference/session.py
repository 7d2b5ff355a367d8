"""Restore a list of files; a file that fails does not stop the others."""

import errno
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from inference.folders import Job
from inference.manifest import Manifest
from inference.memory import is_out_of_memory
from inference.photo_files import MAX_MEGAPIXELS, Photograph, photograph_size, read_photograph
from inference.photo_writing import check_writable, write_photograph
from inference.restorer import Restorer
from inference.video_reading import VideoReader
from inference.video_restoring import compare_videos, restore_video
from inference.video_writing import DEFAULT_CRF
from utils.errors import InputError, printable
from utils.signals import StopSignal

# Errors of the disk rather than of one file: every following file would fail as well.
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
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

    def __init__(self, restorer: Restorer, options: Options, manifest: Manifest, jobs: Iterable[Job]) -> None:
        self.restorer, self.options, self.manifest = restorer, options, manifest
        self.stop = StopSignal()
        self.restored = self.compared = self.failed = 0
        self.megapixels = {job.input: self._megapixels(job) for job in jobs}
        self.bar = tqdm(
            total=round(sum(self.megapixels.values()), 3),
            unit="MP",
            disable=None,
            bar_format="{l_bar}{bar}| {n:.1f}/{total:.1f} MP [{elapsed}<{remaining}{postfix}]",
        )

    def run(self, jobs: Iterable[Job]) -> bool:
        """Restore every job, reporting failures on stderr and counting them; returns False if a signal stopped it.

        With ``Options.compare``, a file that has a result gets the missing comparison.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        with self.bar:
            for number, job in enumerate(jobs, 1):
                try:
                    self._process(job, number)
                except Stopped:
                    return False
                except Exception as error:  # whatever it is, the other files are restored
                    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                        raise
                    self.failed += 1
                    self._note(f"error: {described(error, job)}")
        return True

    def _process(self, job: Job, number: int) -> None:
        self.bar.set_description(f"file {number} of {len(self.megapixels)}: {printable(job.output.name)[-30:]}")
        self.bar.set_postfix_str("")
        position = self.bar.n
        if self.options.compare and not self.options.overwrite and job.output.exists():
            self._compare_existing(job)
            self.compared += 1
        else:
            self.manifest.forget(job.output)
            (self._restore_video if job.is_video else self._restore_image)(job)
            self.manifest.record(job.output)
            self.restored += 1
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

    def _restore_image(self, job: Job) -> None:
        photograph = read_photograph(job.input, self.options.max_megapixels, self.options.accept_truncated)
        for note in photograph.notes:
            self._note(f"note: {job.input}: {note}")
        check_writable(job.output, photograph)  # before the network has run
        restored = self._restored(photograph.colour, f"{job.input}: {self.megapixels[job.input]:.1f} megapixels")
        if self.options.compare:  # first: a job that is killed in between restores the image again
            write_comparison(job, photograph, restored)
        for note in write_photograph(job.output, photograph.with_colour(restored)):
            self._note(f"note: {job.output}: {note}")

    def _compare_existing(self, job: Job) -> None:
        if job.is_video:
            compare_videos(job.input, job.output, job.comparison, self.options.crf, self._check)
            return
        photograph = read_photograph(job.input, self.options.max_megapixels, self.options.accept_truncated)
        restored = read_photograph(job.output, self.options.max_megapixels).colour
        if (restored.shape, restored.dtype) != (photograph.colour.shape, photograph.colour.dtype):
            raise InputError(f"{job.output}: differs from the input in size or depth; add --overwrite to replace it")
        write_comparison(job, photograph, restored)

    def _restore_video(self, job: Job) -> None:
        start, count = time.monotonic(), 0
        with VideoReader(job.input) as video:
            megapixels = video.size[0] * video.size[1] / 1e6
        if megapixels > self.options.max_megapixels:
            raise InputError(f"{job.input}: more than {self.options.max_megapixels:g} megapixels (--max-megapixels)")

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
        for note in notes:
            self._note(f"note: {job.input}: {note}")

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
            self.bar.update(before + done * megapixels - self.bar.n)
            seconds = time.monotonic() - start
            if not announced and 0 < done < 0.5 and seconds > ANNOUNCE_SECONDS:
                announced = True
                self._note(f"note: {label}, about {duration(seconds / done - seconds)} remaining")

        progress(0.0)
        return self.restorer.restore(colour, self.options.tile, self.options.self_ensemble, progress)


def write_comparison(job: Job, photograph: Photograph, restored: np.ndarray) -> None:
    """Write input and restored image side by side, colours with the same meaning as in the input."""
    both = np.concatenate([photograph.colour, restored], axis=1)
    more = {key: value for key, value in photograph.more.items() if key == "png_colour"}
    write_photograph(job.comparison, Photograph(both, icc=photograph.icc, more=more))


def described(error: Exception, job: Job) -> str:
    """One line that names the file and says what went wrong."""
    if isinstance(error, InputError):
        reason = str(error)
    elif is_out_of_memory(error):
        reason = "not enough memory to restore this file"
    elif isinstance(error, OSError) and error.strerror:
        reason = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    named = any(str(path) in reason for path in (job.input, job.output, job.comparison))
    return reason if named else f"{job.input}: {reason}"


def duration(seconds: float) -> str:
    """Format seconds as "40 s", "25 min" or "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
