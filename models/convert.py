"""Convert a weights file to another format.

    python -m models.convert released.pkl irnext.safetensors
    python -m models.convert best.pt best_half.safetensors --half

The suffix of the second file selects the format: .pt or .pth (this project's), .safetensors, or .pkl with the authors'
parameter names. It gets the weights used for evaluation: the moving average if the first has one. --half stores the
parameters as float16, in half the space; they are loaded as float32 again. --about stores a text beside them.
"""

from pathlib import Path

from utils.signals import end_on_signals

if __name__ == "__main__":
    end_on_signals()  # before the imports below, which take seconds
    from utils.cli import ScriptParser
    from utils.errors import or_exit

    parser = ScriptParser(prog="python -m models.convert", description=__doc__.splitlines()[0], doc=__doc__)
    parser.add_argument("input", type=Path, help="weights file: .pt, .pth, .pkl or .safetensors")
    parser.add_argument("output", type=Path, help="file to write; its suffix selects the format")
    parser.add_argument("--half", action="store_true", help="store the parameters as float16, in half the space")
    parser.add_argument("--about", type=str, help="text to store in the file: where the weights come from")
    args = or_exit(parser.parse)

from jsonargparse import Namespace
from torch import Tensor, nn

from models.schema import some
from models.weights import read_model, save_weights
from utils.errors import InputError, run_script


def convert(source: str | Path, target: str | Path, half: bool = False, about: str | None = None) -> None:
    """Write the evaluation weights of ``source`` to ``target``, in the format given by its suffix.

    Args:
        source, target: the files.
        half: store the parameters as float16.
        about: text to store beside the weights.

    Raises:
        InputError: see ``read_model`` and ``save_weights``; or a parameter is too large for ``half``.
        OSError: ``target`` cannot be written.
    """
    model, options = read_model(source)
    try:
        weights = halved(model) if half else model.state_dict()
    except ValueError as error:
        raise InputError(f"{source}: {error}; convert it without --half") from None
    save_weights(Path(target), weights, options, about)


def halved(model: nn.Module) -> dict[str, Tensor]:
    """The state dict with the parameters as float16.

    The statistics of batch norm stay float32: they are few, and a variance of features may have any size.

    Raises:
        ValueError: a parameter is not finite as float16, whose largest value is 65504.
    """
    halves = {name: value.detach().half() for name, value in model.named_parameters()}
    if problem := some("too large for float16", (name for name, half in halves.items() if not half.isfinite().all())):
        raise ValueError(problem)
    return model.state_dict() | halves


def main(args: Namespace) -> None:
    convert(args.input, args.output, args.half, args.about)
    print(f"converted {args.input} to {args.output}")


if __name__ == "__main__":
    run_script(main, args)
