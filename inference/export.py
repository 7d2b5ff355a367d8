"""Export a trained network for programs without this project's code.

    python -m inference.export --weights best.pt --format onnx --output irnext.onnx

The exported network takes images (N, 3, H, W) in [0, 1], RGB, float32, and gives the restored ones, (N, 3, H, W),
unclamped. N, H and W are free; H and W are multiples of 32, at least 64: extend an image by reflection at the right
and the bottom and crop the result. The file is checked against the network before the command ends.
"""

import logging
import warnings
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from models import load_model
from models.irnext import IRNeXt
from utils.cli import ScriptParser
from utils.errors import InputError, run_script

SUFFIXES = {"onnx": ".onnx", "exported-program": ".pt2"}
OPSET = 20
TOLERANCE = 1e-4  # of the largest value
CHECKED_SIZES = ((1, 64, 64), (2, 96, 160), (1, 128, 64))  # batch and sides in units that the network takes


class FullSize(nn.Module):
    """A network's output at full size alone."""

    def __init__(self, model: IRNeXt) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, H, W)."""
        return self.model(image)[-1]


def exported_program(model: IRNeXt) -> torch.export.ExportedProgram:
    """The network as a graph, batch and sides free."""
    multiple, least = model.size_multiple, model.min_size // model.size_multiple
    height, width = (multiple * torch.export.Dim(name, min=least, max=1024) for name in ("h", "w"))
    shapes = {"image": {0: torch.export.Dim("n", min=1, max=64), 2: height, 3: width}}
    example = torch.rand(2, 3, 3 * multiple, 4 * multiple)
    return torch.export.export(FullSize(model), (example,), dynamic_shapes=shapes)


def export(model: IRNeXt, format: str, output: Path) -> float:
    """Write ``output`` and run it; returns the largest difference to the network, relative to its largest value.

    Raises:
        InputError: a package that the format needs is not installed.
    """
    model = model.cpu().eval().requires_grad_(False)
    program = exported_program(model)
    output.parent.mkdir(parents=True, exist_ok=True)
    if format == "onnx":
        try:
            import onnxruntime
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise InputError(f"--format onnx needs {error.name}: pip install -r requirements-extra.txt") from None
        torch.onnx.export(
            program, f=output, output_names=["restored"], opset_version=OPSET, external_data=False, verbose=False
        )
        session = onnxruntime.InferenceSession(output, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name

        def run(image: Tensor) -> Tensor:
            return torch.from_numpy(session.run(None, {name: image.numpy()})[0])
    else:
        torch.export.save(program, output)
        run = torch.export.load(output).module()
    worst = 0.0
    generator = torch.Generator().manual_seed(0)
    for n, height, width in CHECKED_SIZES:
        unit = model.size_multiple
        image = torch.rand(n, 3, -(-height // unit) * unit, -(-width // unit) * unit, generator=generator)
        with torch.inference_mode():
            expected = model(image)[-1]
            worst = max(worst, ((run(image) - expected).abs().max() / expected.abs().max()).item())
    return worst


def main() -> int:
    about, _, details = __doc__.split("\n\n")
    parser = ScriptParser(prog="python -m inference.export", description=f"{about} {details}")
    parser.add_argument("--weights", type=Path, required=True, help="a checkpoint of this project or the authors'")
    parser.add_argument("--format", type=Literal["onnx", "exported-program"], required=True, help="what to write")
    parser.add_argument("--output", type=Path, help="the file (default: WEIGHTS with the format's suffix)")
    args = parser.parse()
    output = args.output or args.weights.with_suffix(SUFFIXES[args.format])
    if output.suffix != SUFFIXES[args.format]:
        raise InputError(f"--output: {args.format} is written as {SUFFIXES[args.format]}, not {output.name}")
    logging.getLogger("torch.export").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, on its own deprecated parts
        worst = export(load_model(args.weights), args.format, output)
    if not worst <= TOLERANCE:
        output.unlink()
        print(f"failed: the exported network differs by {worst:.1e} of the largest value; {output} removed")
        return 1
    print(f"{output}: agrees with the network within {worst:.1e} of the largest value")
    return 0


if __name__ == "__main__":
    run_script(main)
