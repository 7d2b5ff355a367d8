"""The command line of test.py, apart from it: --help and mistakes are answered without importing torch."""

import sys
from pathlib import Path
from typing import get_args

from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeInt

from inference.shipped import TASKS, weights_file
from utils.cli import ScriptParser
from utils.config import DataConfig, Precision, Protocol
from utils.errors import InputError

ALL = "all"  # protocols


def parse_args(doc: str) -> Namespace:
    """The options of test.py, whose docstring is ``doc``.

    Raises:
        InputError: see ``ScriptParser.parse``.
    """
    usage = "python test.py {--config FILE | --input DIR --target DIR} {--weights FILE | --restored DIR} --output DIR"
    parser = ScriptParser(usage=usage, doc=doc)
    folders_only = any(argument.split("=")[0] in ("--input", "--target") for argument in sys.argv)
    restored = any(argument.split("=")[0] == "--restored" for argument in sys.argv)
    if not folders_only:
        parser.add_config()
    weights = "checkpoint of this project, released weights, or a task, for the weights that come with this project"
    parser.add_argument("--weights", type=Path, existing=True, known=TASKS, help=weights)
    parser.add_argument("--restored", type=Path, help="images that any method restored, in place of --weights")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    inputs = "degraded images, instead of --config; with --restored, --target alone suffices"
    parser.add_argument("--input", type=Path, required=folders_only and not restored, help=inputs)
    parser.add_argument("--target", type=Path, required=folders_only, help="targets of --input, with matching names")
    if folders_only:
        workers = {"default": DataConfig.num_workers, "help": "loader workers per process"}
        parser.add_argument("--data.num_workers", type=NonNegativeInt, **workers)
    parser.add_argument(
        "--protocol",
        choices=(*get_args(Protocol), ALL),
        default="rgb",
        help=f"evaluation protocol for --input; {ALL}: each",
    )
    parser.add_argument("--lpips", action="store_true", help="also compute LPIPS (AlexNet); requires torchmetrics")
    parser.add_argument("--dists", action="store_true", help="also compute DISTS (VGG-16); requires torchmetrics")
    parser.add_argument(
        "--save-images",
        action="store_true",
        help="save the restored images (8-bit PNG), comparison.png, a sheet of examples, and worst.png, of least gain",
    )
    parser.add_argument(
        "--expect",
        type=Path,
        existing=True,
        help="metrics.json of an earlier test: refuse other weights or images before anything is scored",
    )
    parser.add_argument("--self-ensemble", action="store_true", help="average over the eight flips and rotations")
    parser.add_argument("--precision", type=Precision, default="float32", help="arithmetic precision of the network")
    parser.add_argument("--compile", action="store_true", help="compile the network for frequent image sizes")
    args = parser.parse()
    if (args.weights is None) == (args.restored is None):
        raise InputError(
            "pass either --weights FILE, to restore and score, or --restored DIR, to score restored images"
        )
    if args.restored is not None and (args.self_ensemble or args.compile or args.precision != "float32"):
        raise InputError("--restored: no network runs; omit --self-ensemble, --precision and --compile")
    if args.weights is not None:
        args.weights = weights_file(args.weights)
    return args
