"""What the page does with uploads: restores one after another, with progress, until it is asked to stop."""

import contextlib
import math
import os
import re
import shutil
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import nn

from inference.failures import reason_of
from inference.folders import converted
from inference.limits import DEFAULT_CRF
from inference.photo_files import SUFFIXES, Photograph, photograph_size, read_photograph
from inference.photo_writing import check_writable, write_photograph
from inference.restorer import Restorer
from inference.session import duration
from inference.unread import advice_on
from inference.video_reading import SUFFIXES as VIDEOS
from inference.video_reading import VideoReader
from inference.video_restoring import restore_video
from utils.errors import InputError, printable
from utils.files import replacing

MAX_MEGAPIXELS = 100
KEPT_SECONDS = 3600  # results are removed from disk this long after they were made
ESTIMATE_SECONDS = 2  # of work before the first estimate of the time left
OPTION = re.compile(r"[;:,] [^;:,()]*--[a-z][^;]*$")  # advice at the end of a message
PREFIX = "job-"  # of the folders below


class Cancelled(Exception):
    """The user wants no more."""


@dataclass(frozen=True)
class Result:
    """A restored file.

    Attributes:
        name: of the upload.
        path: what restore.py would have written.
        before, after: PNG files of one size: the image, or a frame of the video.
        details: the size, how long it took, and what is not as in the upload.
    """

    name: str
    path: Path
    before: Path
    after: Path
    details: list[str]
    is_video: bool


@dataclass
class Outcome:
    """What became of the uploads: results, a line on each that failed, and whether the user stopped it."""

    results: list[Result] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    stopped: bool = False


class Progress:
    """Reports the fraction of the pixels restored, and about how long the others take.

    Args:
        megapixels: size of each upload.
        report: called with the fraction of all work that is done and a text.
        stop: once it is set, the next call raises ``Cancelled``.
    """

    def __init__(self, megapixels: list[float], report: Callable[[float, str], None], stop: threading.Event) -> None:
        self.megapixels, self.report, self.stop = megapixels, report, stop
        self.number, self.label, self.start = 0, "", time.monotonic()

    def begin(self, number: int, label: str) -> None:
        self.number, self.label = number, label
        self(0.0)

    def __call__(self, done: float = 0.0) -> None:
        """``done`` is a fraction of the current upload."""
        self.check()
        pixels = sum(self.megapixels[: self.number]) + done * self.megapixels[self.number]
        fraction = min(pixels / (sum(self.megapixels) or 1), 1.0)
        seconds = time.monotonic() - self.start
        left = (
            f", about {duration(seconds / fraction - seconds)} left" if fraction and seconds > ESTIMATE_SECONDS else ""
        )
        self.report(fraction, f"{self.label}{left}")

    def check(self) -> None:
        if self.stop.is_set():
            raise Cancelled


class Workshop:
    """Restores uploads in new folders below ``folder``, and removes these after ``KEPT_SECONDS``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.busy: set[Path] = set()

    def restore(
        self,
        uploads: Sequence[Path],
        restorer: Restorer,
        self_ensemble: bool,
        report: Callable[[float, str], None],
        stop: threading.Event,
    ) -> Outcome:
        """Restore one upload after another until ``stop`` is set; one that fails does not stop the others."""
        outcome = Outcome()
        job = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self.folder))
        self.busy.add(job)
        try:
            progress = Progress([_megapixels(upload) for upload in uploads], report, stop)
            for number, upload in enumerate(uploads):
                place = job / str(number)
                try:
                    progress.begin(number, upload.name + f" ({number + 1} of {len(uploads)})" * (len(uploads) > 1))
                    outcome.results.append(_restored(upload, place, restorer, self_ensemble, progress))
                except Exception as error:
                    shutil.rmtree(place, ignore_errors=True)
                    if isinstance(error, Cancelled):
                        outcome.stopped = True
                        break
                    outcome.failures.append(in_own_words(error, upload.name, place, upload.parent))
        finally:
            self.busy.discard(job)
        return outcome

    def tidy(self) -> None:
        """Remove the results that were kept long enough."""
        for job in self.folder.glob(f"{PREFIX}*"):
            with contextlib.suppress(OSError):
                if job not in self.busy and time.time() - job.stat().st_mtime > KEPT_SECONDS:
                    shutil.rmtree(job, ignore_errors=True)


def write_zip(results: Sequence[Result]) -> Path:
    """All results in one file beside them; equal names are numbered.

    Raises:
        OSError: it cannot be written.
    """
    path = results[0].path.parent.parent / "restored.zip"
    names: set[str] = set()
    with replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:  # they are compressed
        for number, result in enumerate(results, 1):
            name = result.path.name if result.path.name not in names else f"{number}_{result.path.name}"
            names.add(name)
            archive.write(result.path, name)
    return path


def in_own_words(error: Exception, name: str, *folders: Path) -> str:
    """One line that names the upload, but neither a folder of this machine nor an option of the command line."""
    reason = OPTION.sub("", reason_of(error))
    for folder in folders:
        reason = reason.replace(f"{folder}{os.sep}", "")
    return printable(reason if name in reason else f"{name}: {reason}")


def _kinds() -> dict[str, str]:
    """Suffixes of what can be restored, each with what is added to the name of the result."""
    return dict.fromkeys(SUFFIXES, "") | converted() | VIDEOS


def _restored(upload: Path, place: Path, restorer: Restorer, self_ensemble: bool, progress: Progress) -> Result:
    suffix = upload.suffix.lower()
    if suffix not in _kinds():
        advice = advice_on(upload) or "not an image or a video; JPEG, PNG, TIFF, WebP, MP4 and others can be restored"
        raise InputError(f"{upload.name}: {advice}")
    source, target = place / upload.name, place / "result" / f"restored_{upload.name}{_kinds()[suffix]}"
    target.parent.mkdir(parents=True)
    try:
        os.link(upload, source)  # gradio removes the upload after an hour, perhaps before a video is done
    except FileNotFoundError:
        raise InputError(f"{upload.name}: uploads are removed after an hour; drop it again") from None
    start = time.monotonic()
    with _polled(restorer.model, progress.check):
        restore = _restore_video if suffix in VIDEOS else _restore_image
        before, after, notes = restore(source, target, restorer, self_ensemble, progress)
    source.unlink()
    height, width = before.colour.shape[:2]
    seconds = time.monotonic() - start
    details = [f"{width} × {height}", f"{seconds:.1f} s" if seconds < 10 else duration(seconds), *notes]
    views = place / "before.png", place / "after.png"
    for path, view in zip(views, (before, after), strict=True):
        write_photograph(path, view)
    return Result(upload.name, target, *views, details, suffix in VIDEOS)


Views = tuple[Photograph, Photograph, list[str]]  # before, after, and notes


def _restore_image(source: Path, target: Path, restorer: Restorer, self_ensemble: bool, progress: Progress) -> Views:
    _check_size(source.name, *photograph_size(source, math.inf))
    photograph = read_photograph(source, MAX_MEGAPIXELS)
    check_writable(target, photograph)
    restored = restorer.restore(photograph.colour, self_ensemble=self_ensemble, progress=progress)
    notes = [*photograph.notes, *write_photograph(target, photograph.with_colour(restored))]
    more = {key: value for key, value in photograph.more.items() if key == "png_colour"}
    before = Photograph(photograph.colour, photograph.alpha, icc=photograph.icc, more=more)
    return before, before.with_colour(restored), notes


def _restore_video(source: Path, target: Path, restorer: Restorer, self_ensemble: bool, progress: Progress) -> Views:
    with VideoReader(source) as video:
        _check_size(source.name, *video.size)
        count = max(video.count, 1)
        turns = next((image.image.rotation for image in video.frames()), 0) // 90
    shown = {}

    def restore(frame: np.ndarray, index: int) -> np.ndarray:
        progress(min(index / count, 1.0))
        restored = restorer.restore(
            frame,
            self_ensemble=self_ensemble,
            progress=lambda done: progress(min((index + done) / count, 1.0)),
        )
        if index in (0, count // 2):  # the header may promise more frames than there are
            pair = (np.rot90(image, turns) for image in (frame, restored))
            shown.update(pair=[Photograph(np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)) for image in pair])
        return restored

    notes = restore_video(source, target, restore, {}, DEFAULT_CRF, progress.check)
    return *shown["pair"], notes


def _check_size(name: str, height: int, width: int) -> None:
    if height * width > MAX_MEGAPIXELS * 1e6:
        raise InputError(
            f"{name}: {width} × {height} pixels are {height * width / 1e6:.0f} megapixels, but the page restores up to "
            f"{MAX_MEGAPIXELS}; make it smaller first"
        )


def _megapixels(path: Path) -> float:
    """The pixels of all frames; 0 if it cannot be read, which is reported when it is restored."""
    try:
        if path.suffix.lower() in VIDEOS:
            with VideoReader(path) as video:
                return max(video.count, 1) * video.size[0] * video.size[1] / 1e6
        height, width = photograph_size(path, MAX_MEGAPIXELS)
        return height * width / 1e6
    except Exception:
        return 0.0


@contextlib.contextmanager
def _polled(model: nn.Module, check: Callable[[], None]) -> Iterator[None]:
    """Call ``check`` before each layer: one pass of the network over an image may take a minute."""
    hooks = [module.register_forward_pre_hook(lambda *_: check()) for module in model.modules()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
