"""LPIPS, if torchmetrics is installed."""

from collections.abc import Callable

import torch
from torch import Tensor

from utils.errors import InputError


def load_lpips(device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """LPIPS with AlexNet (Zhang et al., CVPR 2018): images (N, 3, H, W) in [0, 1] -> one score per image, (N,).

    Raises:
        InputError: torchmetrics is not installed, or AlexNet's weights are neither cached nor available for download.
    """
    try:
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
    except ImportError:
        raise InputError("--lpips: torchmetrics is not installed; run pip install torchmetrics") from None
    try:
        metric = LearnedPerceptualImagePatchSimilarity("alex", normalize=True).to(device).eval()
    except OSError as error:  # download failed
        raise InputError(
            f"--lpips: cannot download AlexNet's weights ({error}); put torchvision's alexnet-owt-7be5be79.pth into "
            f"{torch.hub.get_dir()}/checkpoints"
        ) from None

    @torch.inference_mode()
    def lpips(restored: Tensor, target: Tensor) -> Tensor:
        # Call the network directly: the metric validates its inputs' values, which would wait for the device.
        return metric.net(restored.clamp(0, 1), target.clamp(0, 1), normalize=True).flatten()

    return lpips
