"""Restore your own images and videos; no targets are needed.

    python restore.py --task dehazing --input photo.jpg --output restored/
    python restore.py --weights best.pt --input photos/ --output restored/
    python restore.py --weights best.pt --input 'holiday/*.jpg' clip.mp4 --output restored/ --compare

--task selects one of the small networks that come with this project (weights/README.md), --weights any other. INPUT is
any number of files, folders (searched recursively) and glob patterns. Each result is written to OUTPUT under the same
name and subfolder: images in the same format and bit depth, videos as H.264. Existing results are skipped, and a video
continues where it was stopped, so a job that was stopped continues when started again; if results were made with other
weights or options, as OUTPUT/.irnext.json records, nothing is done and the exit status is 2. Images may have any size.
Files that cannot be read are reported on stderr and skipped; the exit status is then 2.
"""

from utils.signals import STOPPED, end_on_signals

if __name__ == "__main__":
    end_on_signals()  # before the imports below, which take seconds

import sys
from pathlib import Path

from jsonargparse import Namespace

from data.decoding.quiet import own_stderr
from inference.folders import Found, Job, check_comparisons, find_jobs
from inference.manifest import NAME, Manifest, settings_of
from inference.photo_files import MAX_MEGAPIXELS
from inference.restorer import Restorer
from inference.session import Options, Session
from inference.shipped import TASKS, shipped_weights, weights_file
from inference.unread import lines_about
from inference.video_reading import SUFFIXES
from inference.video_writing import DEFAULT_CRF, LARGEST_CRF
from inference.whole import SMALLEST_TILE
from utils.cli import ScriptParser, number_type
from utils.errors import InputError, listed, printable, run_script
from utils.output import claimed
from utils.precision import Precision

MAX_TILE = 2**16  # pixels


def main() -> int:
    args = parse_args()
    found = find_jobs(args.input, args.output, videos=SUFFIXES)
    if args.compare:
        check_comparisons(found.jobs, args.output)
    with claimed(args.output, "restore.py", [args.output / NAME]), own_stderr():
        return restore(args, found)


def restore(args: Namespace, found: Found) -> int:
    """Restore what was found and return the exit status."""
    jobs = found.jobs
    restorer = Restorer(args.weights, precision=args.precision)
    manifest = Manifest(args.output, settings_of(args.weights, restorer.precision, args.self_ensemble), args.crf)
    if args.compare:
        manifest.check_comparisons(jobs)
    pending = jobs if args.overwrite else unfinished_jobs(jobs, manifest, args.compare)
    options = Options(
        compare=args.compare,
        overwrite=args.overwrite,
        self_ensemble=args.self_ensemble,
        tile=args.tile,
        max_megapixels=args.max_megapixels,
        accept_truncated=args.accept_truncated,
        crf=args.crf,
    )
    for line in lines_about(found.unread):
        print(f"note: {printable(line)}", file=sys.stderr)
    session = Session(restorer, options, manifest, pending)
    if not session.run():
        print(printable(f"stopped; run the same command again to continue {args.output}"))
        return STOPPED

    skipped = len(jobs) - session.restored - session.failed
    counts = f"{session.restored} restored, {skipped} skipped, {session.failed} failed"
    added = f", {session.compared} missing comparison(s) added" if session.compared else ""
    print(printable(f"{counts}{added}{passed_over(found)}; written to {args.output}"))
    return 2 if session.failed else 0


def passed_over(found: Found) -> str:
    """How many files there are besides those to restore; empty if there are none."""
    counts = {"image(s) or video(s)": len(found.unread), "other file(s)": len(found.others)}
    texts = [f"{count} {what.replace('(s)', '' if count == 1 else 's')}" for what, count in counts.items() if count]
    return f"; not read: {', '.join(texts)}" if texts else ""


def unfinished_jobs(jobs: list[Job], manifest: Manifest, compare: bool) -> list[Job]:
    """The jobs without a result or, if there is to be one, without a comparison.

    Raises:
        InputError: a result exists that was made with other weights or options.
    """
    unlisted = manifest.check(job.output for job in jobs if job.output.exists())
    if unlisted:
        skipped = listed([str(path) for path in unlisted], "existing file(s)", show=3)
        note = f"skipping {skipped}; made with unknown weights and options (--overwrite replaces them)"
        print(f"note: {printable(note)}", file=sys.stderr)
    return [job for job in jobs if not job.output.exists() or (compare and not job.comparison.exists())]


def parse_args() -> Namespace:
    about, _, details = __doc__.split("\n\n")
    usage = "python restore.py {--task NAME | --weights FILE} --input FILE|DIR|PATTERN ... --output DIR [options]"
    parser = ScriptParser(usage=usage, description=f"{about} {details}")
    parser.add_argument("--task", type=str, help=f"restore with the weights of this project for {', '.join(TASKS)}")
    parser.add_argument(
        "--weights",
        type=Path,
        existing=True,
        known=TASKS,
        help="other weights: trained here or released by the authors",
    )
    parser.add_argument("--input", type=str, nargs="+", required=True, help="images, videos, folders, glob patterns")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument("--overwrite", action="store_true", help="replace existing results in OUTPUT")
    parser.add_argument("--compare", action="store_true", help="also write NAME.compare.png: input | restored")
    parser.add_argument(
        "--accept-truncated", action="store_true", help="restore images that end too early, as far as they go"
    )
    parser.add_argument("--self-ensemble", action="store_true", help="average over the eight flips and rotations")
    parser.add_argument("--precision", type=Precision, default="float32", help="arithmetic of the network")
    parser.add_argument(
        "--tile", type=number_type(int, SMALLEST_TILE, MAX_TILE), help="tile side in pixels (default: by free memory)"
    )
    parser.add_argument(
        "--max-megapixels",
        type=number_type(float, 0, 1e6),
        default=MAX_MEGAPIXELS,
        help="decompression-bomb guard: refuse larger images",
    )
    parser.add_argument(
        "--crf",
        type=number_type(int, 0, LARGEST_CRF),
        default=DEFAULT_CRF,
        help=f"videos: from 0 (lossless) to {LARGEST_CRF} (smallest file)",
    )
    args = parser.parse()
    if (args.task is None) == (args.weights is None):
        given = "neither" if args.task is None else "both"
        raise InputError(f"expected --task ({', '.join(TASKS)}) or --weights FILE, got {given}")
    args.weights = weights_file(args.weights) if args.task is None else shipped_weights(args.task)
    return args


if __name__ == "__main__":
    run_script(main)
