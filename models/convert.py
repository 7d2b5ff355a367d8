"""Convert a weights file.

    python -m models.convert IN OUT

writes the weights to evaluate in the format of OUT's suffix: this project's .pt, .safetensors, or .pkl with the names
that the authors use.
"""

from pathlib import Path

from models.weights import evaluation_weights, load_model, model_options, read_weights, save_weights
from utils.cli import ScriptParser
from utils.errors import run_script


def convert(source: str | Path, target: str | Path) -> None:
    """Write the weights to evaluate that ``source`` holds in the format of ``target``'s suffix.

    Raises:
        InputError: as ``load_model`` and ``save_weights``.
        OSError: the file cannot be written.
    """
    load_model(source)  # checks names, shapes and values
    checkpoint = read_weights(source)
    save_weights(Path(target), evaluation_weights(checkpoint), model_options(checkpoint, source))


def main() -> None:
    parser = ScriptParser(prog="python -m models.convert", description=__doc__.splitlines()[0])
    parser.add_argument("input", type=Path, help="weights: .pt, .pkl or .safetensors")
    parser.add_argument("output", type=Path, help="the file to write; its suffix is the format")
    args = parser.parse()
    convert(args.input, args.output)
    print(f"{args.input} written to {args.output}")


if __name__ == "__main__":
    run_script(main)
