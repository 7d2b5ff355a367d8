"""The command line of train.py, apart from it: --help and mistakes are answered without importing torch."""

from pathlib import Path
from typing import Literal

from jsonargparse import Namespace

from inference.shipped import TASKS, weights_file
from utils.cli import ScriptParser


def parse_args(doc: str) -> Namespace:
    """The options of train.py, whose docstring is ``doc``.

    Raises:
        InputError: see ``ScriptParser.parse``.
    """
    usage = "python train.py --config FILE --output DIR [--section.key VALUE ...]"
    parser = ScriptParser(usage=usage, doc=doc)
    parser.add_config()
    parser.add_argument("--output", type=Path, required=True, help="folder of the run, created if missing")
    parser.add_argument(
        "--resume",
        type=Literal["auto", "never"],
        default="never",
        help="auto: continue the run in OUTPUT, or start it if there is none; never: fail if OUTPUT contains a run",
    )
    parser.add_argument(
        "--init-from",
        type=Path,
        help="start from these weights, with a fresh optimizer and schedule: a file, or the weights of this project "
        f"for {', '.join(TASKS)}",
    )
    parser.add_argument(
        "--plan",
        action="store_true",
        help="train nothing: measure a few steps and print memory, time and disk space of the whole run",
    )
    args = parser.parse()
    if args.init_from is not None:
        args.init_from = weights_file(args.init_from)
    return args
