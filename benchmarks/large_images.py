"""Accuracy of tiled restoration, compared with restoring the whole image, on photographs.

    python -m benchmarks.large_images --weights runs/demo/checkpoints/best.pt

Produces the table in docs/restore.md. ``tiles`` restores overlapping tiles independently and blends them; ``reduced``
does the same with global statistics taken from the image at half size; ``stages`` is inference.tiled, which processes
the network stage by stage.
"""

from utils.signals import end_on_signals

if __name__ == "__main__":
    end_on_signals()  # before the imports below, which take seconds

import time
from pathlib import Path

import skimage.data
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inference.overlapping import blended_tiles
from inference.tiled import TiledForward
from models import IRNeXt, load_model
from models.layers import LocalAttentionModule
from utils.cli import ScriptParser
from utils.errors import InputError, run_script
from utils.padding import accepted_size, extend

TILE = 256
PHOTOGRAPHS = ("astronaut", "coffee", "rocket")


def blended_tiles_with_reduced_statistics(model: nn.Module, image: Tensor) -> Tensor:
    """``blended_tiles`` whose attention and instance norm use the statistics of the whole image at half size."""
    statistics = {}

    def record(module: nn.Module, inputs: tuple[Tensor]) -> None:
        statistics[module] = torch.var_mean(inputs[0], (0, 2, 3), correction=0)

    def norm(module: nn.InstanceNorm2d, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        variance, mean = statistics[module]
        return F.batch_norm(inputs[0], mean, variance, module.weight, module.bias, eps=module.eps)

    def attend(module: LocalAttentionModule, inputs: tuple[Tensor]) -> tuple[Tensor, Tensor]:
        return inputs[0], statistics[module][1][None, :, None, None]

    modules = [module for module in model.modules() if type(module) in (LocalAttentionModule, nn.InstanceNorm2d)]
    hooks = [module.register_forward_pre_hook(record) for module in modules]
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
    restored = blended_tiles(model, image, TILE)
    for hook in hooks:
        hook.remove()
    return restored


METHODS = {
    "tiles": lambda model, image: blended_tiles(model, image, TILE),
    "reduced": blended_tiles_with_reduced_statistics,
    "stages": lambda model, image: TiledForward(model, TILE)(image),
    "stages, float16 features": lambda model, image: TiledForward(model, TILE, torch.float16)(image),
}


@torch.inference_mode()
def main() -> None:
    parser = ScriptParser(usage="python -m benchmarks.large_images --weights FILE", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--weights", type=Path, existing=True, required=True, help="checkpoint of this project, or released weights"
    )
    model = load_model(parser.parse().weights)
    if type(model) is not IRNeXt:
        raise InputError(
            f"--weights: the methods are for IRNeXt; expected weights of it, not of {type(model).__name__}"
        )
    print("photograph  method                  PSNR (dB)  maximum difference  seconds")
    for name in PHOTOGRAPHS:
        image = torch.from_numpy(getattr(skimage.data, name)()).permute(2, 0, 1)[None] / 255
        image = extend(image, *accepted_size(model, *image.shape[-2:]))
        start = time.perf_counter()
        whole = model(image)[-1].clamp(0, 1)
        print(f"{name:<12}{'whole':<44}{time.perf_counter() - start:13.1f}")
        for method, restore in METHODS.items():
            start = time.perf_counter()
            difference = (restore(model, image).clamp(0, 1) - whole).abs()
            seconds = time.perf_counter() - start
            psnr = -10 * torch.log10(difference.square().mean())
            print(f"{name:<12}{method:<24}{psnr:9.1f}  {difference.max():18.1e}{seconds:9.1f}")


if __name__ == "__main__":
    run_script(main)
