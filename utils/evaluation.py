"""Scoring a set of pictures."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from utils.inference import restore
from utils.metrics import PROTOCOLS


@dataclass(frozen=True)
class Score:
    """One picture's scores; ``seconds`` is the network's time, padding included, on a synchronised device."""

    name: str
    input_psnr: float
    input_ssim: float
    psnr: float
    ssim: float
    seconds: float


def score_pictures(
    model: nn.Module, samples: Iterable[dict], protocol: str, device: torch.device, self_ensemble: bool = False
) -> Iterator[tuple[Score, Tensor, Tensor, Tensor]]:
    """Restore and score samples of one picture each (see ``data.datasets.evaluation_loader``), as they come.

    Yields the score and input, restored and target (1, 3, H, W) in [0, 1] on the device. Restored pictures are
    scored unquantised unless the protocol says otherwise. The model must be in eval mode.
    """
    score = PROTOCOLS[protocol]
    for sample in samples:
        input = sample["input"].to(device, non_blocking=True)
        target = sample["target"].to(device, non_blocking=True)
        synchronise(device)
        start = time.perf_counter()
        restored = restore(model, input, self_ensemble=self_ensemble)
        synchronise(device)
        seconds = time.perf_counter() - start
        before, after = score(input, target), score(restored, target)
        yield (
            Score(
                name=sample["name"][0],
                input_psnr=before["psnr"].item(),
                input_ssim=before["ssim"].item(),
                psnr=after["psnr"].item(),
                ssim=after["ssim"].item(),
                seconds=seconds,
            ),
            input,
            restored,
            target,
        )


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given, so that a clock can be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
