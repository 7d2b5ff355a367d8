"""Peak memory on the CPU: of restoring one image, and of a training step.

    python -m benchmarks.memory --side 1024 --tile 0      # the whole image, which the constants of inference/whole.py
    python -m benchmarks.memory --side 3072 --tile 512    # in tiles: mostly the stored features          come from
    python -m benchmarks.memory --side 256 --batch 2      # a training step

Restoring is measured as the process's peak, a training step as the peak of all tensors (benchmarks.live).
"""

import resource
import time

import torch

from benchmarks.live import LiveBytes
from inference.tiled import TiledForward
from losses import MultiScaleLoss
from models import build_model
from training.step import TrainingStep
from utils.cli import ScriptParser
from utils.errors import run_script


def peak() -> int:
    """The most main memory that the process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@torch.inference_mode()
def restoring(model: torch.nn.Module, side: int, tile: int) -> int:
    """Bytes at the peak of restoring an image of ``side`` x ``side`` pixels, whole or in tiles."""
    forward = TiledForward(model.eval(), tile) if tile else model.eval()
    forward(torch.rand(1, 3, 64, 64))
    image, before = torch.rand(1, 3, side, side), peak()
    forward(image)
    return peak() - before


def training(model: torch.nn.Module, side: int, batch: int) -> int:
    """Bytes of all tensors at the peak of a training step, without weights and optimizer state."""
    optimizer = torch.optim.Adam(model.train().parameters(), fused=True)
    step = TrainingStep(model, MultiScaleLoss(), optimizer, clip_norm=1.0)
    images = {key: torch.rand(batch, 3, side, side) for key in ("input", "target")}
    step(images)
    with LiveBytes() as live:
        step(images)
    return live.peak


def main() -> None:
    parser = ScriptParser(prog="python -m benchmarks.memory", description=__doc__.split("\n")[0])
    parser.add_argument("--side", type=int, default=1024, help="of the square image, in pixels")
    parser.add_argument("--tile", type=int, default=0, help="side of the tiles, 0 for the whole image")
    parser.add_argument("--batch", type=int, default=0, help="measure a training step on this many images")
    parser.add_argument("--num_blocks", type=int, default=4, help="of the network")
    parser.add_argument("--channels", type=int, default=32, help="of the network")
    args = parser.parse()
    model = build_model(num_blocks=args.num_blocks, channels=args.channels)
    start = time.perf_counter()
    used = training(model, args.side, args.batch) if args.batch else restoring(model, args.side, args.tile)
    per_value = used / args.side**2 / args.channels / max(1, args.batch)
    print(f"{used / 2**20:.0f} MiB, {per_value:.1f} bytes per pixel and channel, {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    run_script(main)
