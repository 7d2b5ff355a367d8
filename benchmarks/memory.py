"""Peak memory of restoring one picture on the CPU, per pixel and channel: the constants of utils/inference.py.

python -m benchmarks.memory --side 1024 --tile 0      # the whole picture
python -m benchmarks.memory --side 3072 --tile 512    # in tiles: of that, the stored features are most
"""

import resource
import time

import torch

from models import build_model
from models.tiled import TiledForward
from utils.config import ScriptParser
from utils.errors import run_script


def peak() -> int:
    """Bytes of main memory that the process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@torch.inference_mode()
def main() -> None:
    parser = ScriptParser(prog="python -m benchmarks.memory", description=__doc__.split("\n")[0])
    parser.add_argument("--side", type=int, default=1024, help="of the square picture")
    parser.add_argument("--tile", type=int, default=0, help="side of the tiles, 0 for the whole picture")
    parser.add_argument("--num_blocks", type=int, default=4, help="of the network")
    parser.add_argument("--channels", type=int, default=32, help="of the network")
    args = parser.parse()
    model = build_model(num_blocks=args.num_blocks, channels=args.channels).eval()
    forward = TiledForward(model, args.tile) if args.tile else model
    forward(torch.rand(1, 3, 64, 64))
    picture = torch.rand(1, 3, args.side, args.side)
    before, start = peak(), time.perf_counter()
    forward(picture)
    used = peak() - before
    print(
        f"{used / 2**20:.0f} MiB, {used / args.side**2 / args.channels:.1f} bytes per pixel and channel, "
        f"{time.perf_counter() - start:.1f} s"
    )


if __name__ == "__main__":
    run_script(main)
