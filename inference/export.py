"""Export a trained network to a format that runs without this project.

    python -m inference.export --weights best.pt --format onnx --output irnext.onnx
    python -m inference.export --weights dehazing --format onnx --output dehazing.onnx

The exported network maps RGB images (N, 3, H, W), float32 in [0, 1], to restored images of the same shape, not clamped.
N, H and W are dynamic; H and W must be multiples of 32 and at least 64 (of a network of your own, of its size_multiple
and min_size). Pad other images on the right and at the bottom by reflection and crop the result. The exported network
is run and compared with the original before it is written.
"""

from pathlib import Path
from typing import Literal

from utils.signals import end_on_signals

if __name__ == "__main__":
    end_on_signals()  # before the imports below, which take seconds
    from inference.shipped import TASKS
    from utils.cli import ScriptParser
    from utils.errors import or_exit

    parser = ScriptParser(prog="python -m inference.export", doc=__doc__)
    parser.add_argument(
        "--weights",
        type=Path,
        existing=True,
        known=TASKS,
        required=True,
        help="checkpoint trained here or released by the authors, or a task, for the weights of this project",
    )
    parser.add_argument("--format", type=Literal["onnx", "exported-program"], required=True, help="format to write")
    parser.add_argument("--output", type=Path, help="file to write (default: WEIGHTS with the format's suffix)")
    args = or_exit(parser.parse)

import io
import logging
import warnings
from collections.abc import Callable

import torch
from jsonargparse import Namespace
from torch import Tensor, nn
from torch._dynamo.exc import UserError

from inference.shipped import weights_file
from models import load_model
from models.build import full_size
from utils.errors import InputError, run_script, shortened
from utils.files import write_atomically
from utils.padding import accepted_size

SUFFIXES = {"onnx": ".onnx", "exported-program": ".pt2"}
OPSET = 20
LARGEST_SIDE = 2**15  # pixels
TOLERANCE = 1e-4  # relative to the largest absolute value of the output
CHECKED_SIZES = ((1, 64, 64), (2, 96, 160), (1, 128, 64))  # N, H, W; sides are rounded up to what the network accepts


class FullSize(nn.Module):
    """The network with its full-size output only."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, H, W)."""
        return full_size(self.model(image))


def exported_program(model: nn.Module) -> torch.export.ExportedProgram:
    """The network's graph with dynamic batch size, height and width.

    Raises:
        InputError: torch.export cannot trace the network for any batch size, height and width.
    """
    multiple, least = model.size_multiple, accepted_size(model, 1, 1)[0] // model.size_multiple
    height, width = (multiple * torch.export.Dim(name, min=least, max=LARGEST_SIDE // multiple) for name in ("h", "w"))
    shapes = {"image": {0: torch.export.Dim("n", min=1, max=64), 2: height, 3: width}}
    example = torch.rand(2, 3, *accepted_size(model, 96, 128))
    try:
        return torch.export.export(FullSize(model), (example,), dynamic_shapes=shapes)
    except (UserError, RuntimeError, ValueError) as error:
        problem = shortened(str(error), 300)
        raise InputError(
            f"--format: torch.export cannot trace {type(model).__name__} for any batch size and image size: {problem}"
        ) from None


def export(model: nn.Module, format: str) -> tuple[bytes, float]:
    """Export the network and run the result.

    The file is put together in memory: torch ends the process if it cannot write one.

    Args:
        format: a key of ``SUFFIXES``.

    Returns:
        The content of the file, and its ``largest_deviation`` from the network.

    Raises:
        InputError: a package required by the format is not installed.
    """
    model = model.cpu().eval().requires_grad_(False)
    program = exported_program(model)
    if format == "onnx":
        try:
            import onnxruntime
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise InputError(f"--format onnx requires {error.name}; pip install -r requirements-extra.txt") from None
        onnx = torch.onnx.export(program, output_names=["restored"], opset_version=OPSET, verbose=False)
        content = onnx.model_proto.SerializeToString()
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name

        def run(image: Tensor) -> Tensor:
            return torch.from_numpy(session.run(None, {name: image.numpy()})[0])
    else:
        file = io.BytesIO()
        torch.export.save(program, file)
        content = file.getvalue()
        run = torch.export.load(io.BytesIO(content)).module()
    return content, largest_deviation(model, run)


@torch.inference_mode()
def largest_deviation(model: nn.Module, run: Callable[[Tensor], Tensor]) -> float:
    """The largest absolute difference between ``run`` and the network, relative to the largest value; may be NaN."""
    deviations = []
    generator = torch.Generator().manual_seed(0)
    for n, height, width in CHECKED_SIZES:
        image = torch.rand(n, 3, *accepted_size(model, height, width), generator=generator)
        expected = full_size(model(image))
        deviations.append((run(image) - expected).abs().max() / expected.abs().max())
    return torch.stack(deviations).max().item()  # unlike Python's max, it returns NaN if any value is


def main(args: Namespace) -> int:
    weights = weights_file(args.weights)
    # The weights of a task are in the project's own folder, where nothing is written.
    output = args.output or Path(weights.name if weights != args.weights else weights).with_suffix(
        SUFFIXES[args.format]
    )
    if output.suffix != SUFFIXES[args.format]:
        raise InputError(
            f"--output: {output.name}: expected a file name ending in {SUFFIXES[args.format]} for {args.format}"
        )
    logging.getLogger("torch.export").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecation warnings raised by torch itself
        content, worst = export(load_model(weights), args.format)
    if not worst <= TOLERANCE:  # also if it is NaN
        print(f"failed: the exported network deviates by {worst:.1e} (relative); {output} is not written")
        return 1
    write_atomically(output, content, sync=True)
    print(f"{output}: matches the network, largest relative deviation {worst:.1e}")
    return 0


if __name__ == "__main__":
    run_script(main, args)
