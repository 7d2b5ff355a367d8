"""Convert a weights file to another format.

    python -m models.convert IN OUT

The suffix of OUT selects the format: .pt or .pth (this project's), .safetensors, or .pkl with the authors' parameter
names. OUT gets the weights used for evaluation: the moving average if IN has one.
"""

from utils.signals import end_on_signals

if __name__ == "__main__":
    end_on_signals()  # before the imports below, which take seconds

from pathlib import Path

from models.weights import read_model, save_weights
from utils.cli import ScriptParser
from utils.errors import run_script


def convert(source: str | Path, target: str | Path) -> None:
    """Write the evaluation weights of ``source`` to ``target``, in the format given by its suffix.

    Raises:
        InputError: see ``read_model`` and ``save_weights``.
        OSError: ``target`` cannot be written.
    """
    model, options = read_model(source)
    save_weights(Path(target), model.state_dict(), options)


def main() -> None:
    parser = ScriptParser(prog="python -m models.convert", description=__doc__.splitlines()[0])
    parser.add_argument("input", type=Path, help="weights file: .pt, .pth, .pkl or .safetensors")
    parser.add_argument("output", type=Path, help="file to write; its suffix selects the format")
    args = parser.parse()
    convert(args.input, args.output)
    print(f"converted {args.input} to {args.output}")


if __name__ == "__main__":
    run_script(main)
