"""The command line of app.py, apart from it: --help and mistakes are answered without importing torch."""

from pathlib import Path

from jsonargparse import Namespace

from utils.cli import ScriptParser, number_type


def parse_args(doc: str) -> Namespace:
    """The options of app.py, whose docstring is ``doc``.

    Raises:
        InputError: see ``ScriptParser.parse``.
    """
    usage = "python app.py [--weights FILE|DIR ...] [--port N]"
    parser = ScriptParser(usage=usage, description=doc.split("\n\n")[0])
    parser.add_argument(
        "--weights",
        type=Path,
        existing=True,
        nargs="+",
        help="weights files, or folders to search for them (default: those of this project)",
    )
    parser.add_argument("--port", type=number_type(int, 1, 65535), default=7860, help="serve on http://127.0.0.1:PORT")
    return parser.parse()
