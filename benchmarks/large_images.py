"""What restoring in tiles costs in accuracy: the ways to do it against the whole image, on photographs.

    python -m benchmarks.large_images --weights runs/demo/checkpoints/best.pt

The table of docs/restore.md comes from here. ``tiles`` are overlapped, restored by themselves and blended; ``reduced``
gives them the means of the image at half size; ``stages`` is what the project does (inference.tiled).
"""

import time
from pathlib import Path

import skimage.data
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inference.tiled import TiledForward
from models import load_model
from models.layers import LocalAttentionModule
from utils.cli import ScriptParser
from utils.errors import run_script
from utils.padding import extend

TILE, OVERLAP = 256, 64
PHOTOGRAPHS = ("astronaut", "coffee", "rocket")


def blended_tiles(model: nn.Module, image: Tensor) -> Tensor:
    """Overlapped tiles, each weighted by a ramp over the overlap."""
    height, width = image.shape[-2:]
    total, weights = torch.zeros_like(image), torch.zeros_like(image[:, :1])
    ramp = torch.minimum(torch.arange(1, TILE + 1), torch.arange(TILE, 0, -1)).clamp(max=OVERLAP) / OVERLAP
    weight = ramp[:, None] * ramp
    for top in sorted({min(top, height - TILE) for top in range(0, height, TILE - OVERLAP)}):
        for left in sorted({min(left, width - TILE) for left in range(0, width, TILE - OVERLAP)}):
            place = (..., slice(top, top + TILE), slice(left, left + TILE))
            total[place] += weight * model(image[place])[-1]
            weights[place] += weight
    return total / weights


def with_means_of_the_reduced_image(model: nn.Module, image: Tensor) -> Tensor:
    """Blended tiles whose attention and instance norm have the statistics of the image at half size."""
    found, hooks = {}, []

    def note(module: nn.Module, inputs: tuple[Tensor]) -> None:
        found[module] = torch.var_mean(inputs[0], (0, 2, 3), correction=0)

    def norm(module: nn.InstanceNorm2d, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        variance, mean = found[module]
        return F.batch_norm(inputs[0], mean, variance, module.weight, module.bias, eps=module.eps)

    def attend(module: LocalAttentionModule, inputs: tuple[Tensor]) -> tuple[Tensor, Tensor]:
        return inputs[0], found[module][1][None, :, None, None]

    kinds = {LocalAttentionModule: None, nn.InstanceNorm2d: None}
    modules = [module for module in model.modules() if type(module) in kinds]
    hooks = [module.register_forward_pre_hook(note) for module in modules]
    small = F.interpolate(image, scale_factor=0.5, mode="area")
    multiple = model.size_multiple
    model(extend(small, *(-(-side // multiple) * multiple for side in small.shape[-2:])))
    for hook in hooks:
        hook.remove()
    hooks = [
        module.register_forward_hook(norm)
        if isinstance(module, nn.InstanceNorm2d)
        else module.register_forward_pre_hook(attend)
        for module in modules
    ]
    restored = blended_tiles(model, image)
    for hook in hooks:
        hook.remove()
    return restored


METHODS = {
    "tiles": blended_tiles,
    "reduced": with_means_of_the_reduced_image,
    "stages": lambda model, image: TiledForward(model, TILE)(image),
    "stages, float16 kept": lambda model, image: TiledForward(model, TILE, torch.float16)(image),
}


@torch.inference_mode()
def main() -> None:
    parser = ScriptParser(usage="python -m benchmarks.large_images --weights FILE", description=__doc__.split("\n")[0])
    parser.add_argument("--weights", type=Path, required=True, help="a checkpoint of this project or the authors'")
    model = load_model(parser.parse().weights)
    print("photograph  method                  PSNR (dB)  largest difference  seconds")
    for name in PHOTOGRAPHS:
        image = torch.from_numpy(getattr(skimage.data, name)()).permute(2, 0, 1)[None] / 255
        image = extend(image, *(-(-side // 32) * 32 for side in image.shape[-2:]))
        start = time.perf_counter()
        whole = model(image)[-1].clamp(0, 1)
        print(f"{name:<12}{'whole':<44}{time.perf_counter() - start:13.1f}")
        for method, restored_by in METHODS.items():
            start = time.perf_counter()
            difference = (restored_by(model, image).clamp(0, 1) - whole).abs()
            seconds = time.perf_counter() - start
            psnr = -10 * torch.log10(difference.square().mean())
            print(f"{name:<12}{method:<24}{psnr:9.1f}  {difference.max():18.1e}{seconds:9.1f}")


if __name__ == "__main__":
    run_script(main)
