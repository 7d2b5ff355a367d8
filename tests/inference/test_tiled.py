"""Restoring in tiles: the result is the whole image's, whatever the network, and memory may run out on the way."""

import gc
import subprocess
import sys

import cv2
import pytest
import skimage.data
import torch
from conftest import ROOT, released_state_dict

from inference.tiled import StoredFeatures, TiledForward
from models import IRNeXt, build_model
from models.released import rename


def awake(model: IRNeXt, seed: int = 0) -> IRNeXt:
    """With attention that does something, and batch norm with statistics of its own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith(("modulation", "filtered_weight", "identity_weight")):
                value.copy_(0.5 * torch.randn(value.shape, generator=generator))
        for name, value in model.named_buffers():
            if name.endswith("running_mean"):
                value.copy_(0.1 * torch.randn(value.shape, generator=generator))
    return model.eval()


def photograph(height: int, width: int) -> torch.Tensor:
    image = cv2.resize(skimage.data.coffee(), (width, height), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(image).permute(2, 0, 1)[None] / 255


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return -10 * torch.log10((a - b).square().mean()).item()


@pytest.mark.parametrize(
    "options",
    [
        {"num_blocks": 3},
        {"mean_window": 120 / 256},
        {"mean_window": 120 / 256, "num_blocks": 2, "pool_sizes": (16, 4)},
        {"pool_sizes": ()},
        {"pool_sizes": (4, 2), "frequency_modulation": False},
        {"local_attention": False},
    ],
)
def test_tiles_give_what_the_whole_image_gives(options):
    torch.manual_seed(0)
    model = awake(IRNeXt(**{"num_blocks": 1, "channels": 8} | options))
    image = photograph(128, 256)
    seen = []
    with torch.inference_mode():
        whole = model(image)[-1]
        tiled = TiledForward(model, tile=64, progress=seen.append)(image)
        alone = torch.cat([model(part)[-1] for part in image.split(128, dim=-1)], dim=-1)
    assert psnr(tiled, whole) > 90  # rounding
    assert psnr(alone, whole) < 60  # what tiles without the image's means give
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1)


@pytest.mark.parametrize(
    "file, options",
    [
        ("released_state_dict.json", {"num_blocks": 4}),
        ("released_state_dict_14.json", {"num_blocks": 14, "mean_window": 120 / 256}),
    ],
)
def test_released_networks_on_a_photograph(file, options):
    model = build_model(**options).eval()
    model.load_state_dict(rename(released_state_dict(file)))
    image = photograph(64, 128)
    with torch.inference_mode():
        whole = model(image)[-1]
        # These weights, by formula, give values far outside [0, 1]: compare at the scale of the values.
        scale = whole.abs().max()
        assert psnr(TiledForward(model, tile=64)(image) / scale, whole / scale) > 90


def test_half_precision_in_waiting_costs_less_than_a_grey_level():
    torch.manual_seed(0)
    model = awake(IRNeXt(num_blocks=2, channels=16))
    image = photograph(128, 192)
    with torch.inference_mode():
        assert psnr(TiledForward(model, 64, torch.float16)(image), model(image)[-1]) > 60


# Memory runs out for real: the address space is limited to a little more than what the process has.
LIMITED = """
import resource, sys, torch
from pathlib import Path
from inference.tiled import StoredFeatures, TiledForward
from test_tiled import IRNeXt, awake, photograph, psnr
from inference.whole import restore
torch.manual_seed(0)
model = awake(IRNeXt(num_blocks=1, channels=16))
image = photograph(512, 768)
wanted = restore(model, image, tile=256)
restore(model, image[..., :64, :64])
here = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (here + int(sys.argv[1]) * 2**20, -1))
forward = TiledForward(model, 512)
with torch.inference_mode():
    restored = restore(model, image) if sys.argv[2] == "restore" else forward(image).clamp(0, 1)
print(psnr(restored, wanted), forward.tile)
"""


# With the C library's threshold fixed, freed memory goes back at once, and what fits does not depend on chance.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PATH": "", "MALLOC_MMAP_THRESHOLD_": "1000000"}


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux does")
@pytest.mark.parametrize("way", ["tiles", "restore"])
def test_tiles_are_halved_where_memory_runs_out(way):
    """Of tiles that are too large, and of a whole image that is; in a process each, which keeps what oneDNN took."""
    script = ["-c", f"import sys; sys.path[:0] = ['tests', 'tests/inference']{LIMITED}", "180", way]
    result = subprocess.run([sys.executable, *script], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    accuracy, side = map(float, result.stdout.split())
    assert accuracy > 90
    assert way == "restore" or side < 512


def test_stored_features_are_freed_without_the_garbage_collector():
    model = awake(IRNeXt(num_blocks=1, channels=8, mean_window=0.5))
    gc.collect()
    gc.disable()
    try:
        with torch.inference_mode():
            TiledForward(model, tile=64)(photograph(64, 128))
        assert not [item for item in gc.get_objects() if type(item) is StoredFeatures]
    finally:
        gc.enable()
