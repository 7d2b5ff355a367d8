"""Restore pictures and videos of your own, which need no targets.

    python restore.py --weights best.pt --input photos/ --output restored/
    python restore.py --weights best.pt --input 'holiday/*.jpg' clip.mp4 --output restored/ --compare

INPUT is files, folders (with all below them) and patterns; OUTPUT gets a file of the same name, format and depth for
each, in the same subfolders. What is there already is skipped, so that a stopped job goes on where it was. Pictures may
have any size. A picture that cannot be read is named on stderr, the rest goes on, and the exit status is 2.
"""

import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from jsonargparse import Namespace
from torch import nn
from tqdm import tqdm

from data.folders import Job, find_jobs
from data.photo_files import MAX_MEGAPIXELS, Photograph, photograph_size, read_photograph, write_photograph
from data.video import CODECS, VideoReader, VideoWriter, copy_audio
from utils.arrays import restore_array
from utils.checkpoint import load_model
from utils.config import ScriptParser
from utils.errors import InputError, printable, run_script
from utils.precision import Precision, arithmetic, supported
from utils.signals import STOPPED, StopSignal

ANNOUNCE_SECONDS = 10  # a picture that takes longer says how long


class Stopped(Exception):
    """The user, or the cluster, wants an end."""


def parse_args() -> Namespace:
    about, _, details = __doc__.split("\n\n")
    usage = "python restore.py --weights FILE --input FILE|DIR|PATTERN ... --output DIR [options]"
    parser = ScriptParser(usage=usage, description=f"{about} {details}")
    parser.add_argument("--weights", type=Path, required=True, help="a checkpoint of this project or the authors'")
    parser.add_argument("--input", type=str, nargs="+", required=True, help="pictures, videos, folders, patterns")
    parser.add_argument("--output", type=Path, required=True, help="folder of the restored ones")
    parser.add_argument("--overwrite", action="store_true", help="restore again what is in OUTPUT already")
    parser.add_argument("--compare", action="store_true", help="write NAME.compare.png as well: input | restored")
    parser.add_argument("--self-ensemble", action="store_true", help="average over the eight flips and quarter turns")
    parser.add_argument("--precision", type=Precision, default="float32", help="arithmetic of the network")
    parser.add_argument("--tile", type=int | None, help="side of the tiles in pixels (default: by the free memory)")
    parser.add_argument(
        "--max-megapixels", type=float, default=MAX_MEGAPIXELS, help="larger pictures are refused, as files that lie"
    )
    args = parser.parse()
    if args.tile is not None and args.tile < 32:
        raise InputError(f"--tile: at least 32 pixels, not {args.tile}")
    return args


def main() -> int:
    args = parse_args()
    jobs = find_jobs(args.input, args.output, videos=set(CODECS))
    model = load_model(args.weights).to("cuda" if torch.cuda.is_available() else "cpu")
    args.precision = supported(args.precision, next(model.parameters()).device)
    args.output.mkdir(parents=True, exist_ok=True)

    waiting = [job for job in jobs if args.overwrite or not job.output.exists()]
    session = Session(model, args, waiting)
    for job in waiting:
        try:
            session.restore(job)
        except InputError as error:
            session.report(str(error))
        except Stopped:
            session.bar.close()
            print(f"stopped; the same command goes on with {args.output}")
            return STOPPED
    session.bar.close()
    print(
        f"{len(waiting) - session.failed} restored, {len(jobs) - len(waiting)} there already, {session.failed} failed; "
        f"written to {args.output}"
    )
    return 2 if session.failed else 0


class Session:
    """The job at hand: what it restores with, how far it is, and what went wrong."""

    def __init__(self, model: nn.Module, args: Namespace, jobs: Iterable[Job]) -> None:
        self.model, self.args = model, args
        self.stop = StopSignal()
        self.failed = 0
        self.sizes = {job.input: self._megapixels(job) for job in jobs}
        self.bar = tqdm(
            total=round(sum(self.sizes.values()), 3),
            unit="MP",
            disable=None,
            bar_format="{l_bar}{bar}| {n:.1f}/{total:.1f} MP [{elapsed}<{remaining}]",
        )

    def report(self, problem: str) -> None:
        """One line about what cannot be restored."""
        self.failed += 1
        self.note(f"error: {problem}")

    def note(self, line: str) -> None:
        """One line on stderr that does not disturb the bar."""
        tqdm.write(printable(line), file=sys.stderr)

    def restore(self, job: Job) -> None:
        """Restore one picture or video."""
        self.bar.set_description(job.output.name[-30:])
        position = self.bar.n
        (self._restore_video if job.is_video else self._restore_picture)(job)
        self.bar.update(position + self.sizes[job.input] - self.bar.n)

    def _megapixels(self, job: Job) -> float:
        try:
            if job.is_video:
                video = VideoReader(job.input)
                return video.count * video.size[0] * video.size[1] / 1e6
            height, width = photograph_size(job.input, self.args.max_megapixels)
            return height * width / 1e6
        except InputError:  # is reported when its turn comes
            return 0.0

    def _restore_picture(self, job: Job) -> None:
        photograph = read_photograph(job.input, self.args.max_megapixels)
        for note in photograph.notes:
            self.note(f"note: {job.input}: {note}")
        restored = self._restored(photograph.colour, f"{job.input}: {self.sizes[job.input]:.1f} megapixels")
        write_photograph(job.output, photograph.with_colour(restored))
        if self.args.compare:
            write_photograph(
                job.output.with_name(f"{job.output.name}.compare.png"),
                Photograph(np.concatenate([photograph.colour, restored], axis=1), icc=photograph.icc),
            )

    def _restore_video(self, job: Job) -> None:
        video = VideoReader(job.input)
        silent = job.output.with_name(f".{job.output.stem}.part{job.output.suffix}")
        joined = silent.with_name(f".{job.output.stem}.audio{job.output.suffix}")
        writers = {silent: VideoWriter(silent, video.rate, video.size)}
        compared = job.output.with_name(f"{job.output.name}.compare{job.output.suffix}")
        if self.args.compare:
            part = silent.with_name(f".{compared.stem}.part{compared.suffix}")
            writers[part] = VideoWriter(part, video.rate, (video.size[0], 2 * video.size[1]))
        count = 0
        try:
            for frame in video:
                restored = self._restored(frame, f"{job.input}: frame {count + 1}")
                for path, writer in writers.items():
                    writer.write(restored if path == silent else np.concatenate([frame, restored], axis=1))
                count += 1
            for writer in writers.values():
                writer.close()
            if count == 0:
                raise InputError(f"{job.input}: a video without a readable frame")
            if video.count and count != video.count:
                self.note(f"note: {job.input}: {count} frames could be read, the file says {video.count}")
            if note := copy_audio(job.input, silent, joined):
                self.note(f"note: {job.input}: {note}")
            (joined if joined.exists() else silent).replace(job.output)
            if self.args.compare:
                part.replace(compared)
        finally:
            for path in (*writers, joined):
                path.unlink(missing_ok=True)

    def _restored(self, colour: np.ndarray, about: str) -> np.ndarray:
        start, before = time.monotonic(), self.bar.n
        size = colour.shape[0] * colour.shape[1] / 1e6
        announced = False

        def progress(done: float) -> None:
            nonlocal announced
            if self.stop.received:
                raise Stopped
            self.bar.update(before + done * size - self.bar.n)
            seconds = time.monotonic() - start
            if not announced and 0 < done < 0.5 and seconds > ANNOUNCE_SECONDS:
                announced = True
                self.note(f"note: {about}, about {duration(seconds / done - seconds)} to go")

        progress(0.0)
        options = {"tile": self.args.tile, "self_ensemble": self.args.self_ensemble}
        with arithmetic(self.args.precision, next(self.model.parameters()).device):
            return restore_array(self.model, colour, **options, progress=progress)


def duration(seconds: float) -> str:
    """Such as "40 s", "25 min" or "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


if __name__ == "__main__":
    run_script(main)
