"""Peak memory on the CPU of restoring one image, or of a training step.

    python -m benchmarks.memory --side 1024               # restore the whole image at once
    python -m benchmarks.memory --side 3072 --tile 512    # restore in tiles; stored features dominate
    python -m benchmarks.memory --side 256 --batch 2      # training step

The memory constants of inference/whole.py were measured with the first two. Restoring is measured
by the peak resident memory of the process, a training step by the peak of live tensors (utils.live_bytes).
"""

from utils.signals import end_on_signals

if __name__ == "__main__":
    end_on_signals()  # before the imports below, which take seconds

import resource
import time

import torch

from inference.tiled import TiledForward
from losses import MultiScaleLoss
from models import build_model
from training.step import TrainingStep
from utils.cli import ScriptParser, number_type
from utils.errors import run_script
from utils.live_bytes import LiveBytes


def peak_rss() -> int:
    """Peak resident set size of the process, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@torch.inference_mode()
def restoring_bytes(model: torch.nn.Module, side: int, tile: int) -> int:
    """Peak memory in bytes of restoring an image of ``side`` x ``side`` pixels; ``tile`` 0 restores it as a whole."""
    forward = TiledForward(model.eval(), tile) if tile else model.eval()
    forward(torch.rand(1, 3, 64, 64))
    image, before = torch.rand(1, 3, side, side), peak_rss()
    forward(image)
    return peak_rss() - before


def training_bytes(model: torch.nn.Module, side: int, batch: int) -> int:
    """Peak bytes of the tensors created in a training step, excluding weights and optimizer state."""
    optimizer = torch.optim.Adam(model.train().parameters(), fused=True)
    step = TrainingStep(model, MultiScaleLoss(), optimizer, clip_norm=1.0)
    batch_tensors = {key: torch.rand(batch, 3, side, side) for key in ("input", "target")}
    step(batch_tensors)
    with LiveBytes() as live:
        step(batch_tensors)
    return live.peak


def main() -> None:
    parser = ScriptParser(prog="python -m benchmarks.memory", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--side", type=number_type(int, 64, 2**16), default=1024, help="side of the square image, in pixels"
    )
    parser.add_argument(
        "--tile", type=number_type(int, 0, 2**16), default=0, help="side of the tiles in pixels; 0: the whole image"
    )
    parser.add_argument(
        "--batch", type=number_type(int, 0, 2**16), default=0, help="batch size of the training step; 0: restoring"
    )
    parser.add_argument("--num_blocks", type=number_type(int, 1, 256), default=4, help="residual blocks per CNNBlock")
    parser.add_argument("--channels", type=number_type(int, 8, 256), default=32, help="width of the network")
    args = parser.parse()
    model = build_model(num_blocks=args.num_blocks, channels=args.channels)
    start = time.perf_counter()
    used = training_bytes(model, args.side, args.batch) if args.batch else restoring_bytes(model, args.side, args.tile)
    per_value = used / args.side**2 / args.channels / max(1, args.batch)
    print(f"{used / 2**20:.0f} MiB, {per_value:.1f} bytes per pixel and channel, {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    run_script(main)
