"""Restore your own images and videos; no targets are needed.

    python restore.py --weights best.pt --input photos/ --output restored/
    python restore.py --weights best.pt --input 'holiday/*.jpg' clip.mp4 --output restored/ --compare

INPUT is files, folders (including subfolders) and patterns; OUTPUT gets a file of the same name, format and bit depth
for each, in the same subfolders. Existing results are skipped, so a stopped job continues where it was. Images may have
any size. A file that cannot be read is named on stderr, the rest is restored, and the exit status is 2.
"""

from pathlib import Path

from jsonargparse import Namespace

from inference.folders import find_jobs
from inference.photo_files import MAX_MEGAPIXELS
from inference.restorer import Restorer
from inference.session import Options, Session
from inference.video import CODECS
from utils.cli import ScriptParser
from utils.errors import InputError, run_script
from utils.precision import Precision
from utils.signals import STOPPED

MIN_TILE = 32


def main() -> int:
    args = parse_args()
    jobs = find_jobs(args.input, args.output, videos=set(CODECS))
    restorer = Restorer(args.weights, precision=args.precision)
    args.output.mkdir(parents=True, exist_ok=True)

    options = Options(
        compare=args.compare, self_ensemble=args.self_ensemble, tile=args.tile, max_megapixels=args.max_megapixels
    )
    waiting = [job for job in jobs if args.overwrite or not job.output.exists()]
    session = Session(restorer, options, waiting)
    if not session.run(waiting):
        print(f"stopped; run the same command again to continue {args.output}")
        return STOPPED

    counts = f"{len(waiting) - session.failed} restored, {len(jobs) - len(waiting)} skipped, {session.failed} failed"
    print(f"{counts}; written to {args.output}")
    return 2 if session.failed else 0


def parse_args() -> Namespace:
    about, _, details = __doc__.split("\n\n")
    usage = "python restore.py --weights FILE --input FILE|DIR|PATTERN ... --output DIR [options]"
    parser = ScriptParser(usage=usage, description=f"{about} {details}")
    parser.add_argument("--weights", type=Path, required=True, help="a checkpoint of this project or the authors'")
    parser.add_argument("--input", type=str, nargs="+", required=True, help="images, videos, folders, patterns")
    parser.add_argument("--output", type=Path, required=True, help="folder of the results")
    parser.add_argument("--overwrite", action="store_true", help="restore again what already exists in OUTPUT")
    parser.add_argument("--compare", action="store_true", help="also write NAME.compare.png: input | restored")
    parser.add_argument("--self-ensemble", action="store_true", help="average over the eight flips and quarter turns")
    parser.add_argument("--precision", type=Precision, default="float32", help="arithmetic of the network")
    parser.add_argument("--tile", type=int | None, help="side of the tiles in pixels (default: by free memory)")
    parser.add_argument(
        "--max-megapixels", type=float, default=MAX_MEGAPIXELS, help="decompression-bomb guard: refuse larger images"
    )
    args = parser.parse()
    if args.tile is not None and args.tile < MIN_TILE:
        raise InputError(f"--tile: at least {MIN_TILE} pixels, not {args.tile}")
    return args


if __name__ == "__main__":
    run_script(main)
