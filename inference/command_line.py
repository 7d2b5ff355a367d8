"""The command line of restore.py, apart from it: --help and mistakes are answered without importing torch."""

from pathlib import Path

from jsonargparse import Namespace

from data.images import MAX_MEGAPIXELS
from inference.limits import DEFAULT_CRF, LARGEST_CRF, LARGEST_TILE, SMALLEST_TILE
from inference.shipped import TASKS, shipped_weights, weights_file
from utils.cli import ScriptParser, number_type
from utils.config import Precision
from utils.errors import InputError


def parse_args(doc: str) -> Namespace:
    """The options of restore.py, whose docstring is ``doc``.

    Raises:
        InputError: see ``ScriptParser.parse``.
    """
    usage = "python restore.py {--task NAME | --weights FILE} --input FILE|DIR|PATTERN ... --output DIR [options]"
    parser = ScriptParser(usage=usage, doc=doc)
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
        "--score",
        action="store_true",
        help="print NIQE and BRISQUE of each photograph before and after, also for existing results; see scores.csv",
    )
    parser.add_argument(
        "--accept-truncated", action="store_true", help="restore images that end too early, as far as they go"
    )
    parser.add_argument("--self-ensemble", action="store_true", help="average over the eight flips and rotations")
    parser.add_argument("--precision", type=Precision, default="float32", help="arithmetic of the network")
    parser.add_argument(
        "--tile",
        type=number_type(int, SMALLEST_TILE, LARGEST_TILE),
        help="tile side in pixels (default: by free memory)",
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
