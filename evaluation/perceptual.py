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
        raise InputError("--lpips needs a package that is not installed: pip install torchmetrics") from None
    try:
        metric = LearnedPerceptualImagePatchSimilarity("alex", normalize=True).to(device).eval()
    except OSError as error:  # of the download
        raise InputError(
            f"--lpips: AlexNet's weights cannot be fetched ({error}): put torchvision's alexnet-owt-7be5be79.pth into "
            f"{torch.hub.get_dir()}/checkpoints"
        ) from None

    @torch.inference_mode()
    def lpips(restored: Tensor, target: Tensor) -> Tensor:
        # The network itself: the metric around it checks the values on the host.
        return metric.net(restored.clamp(0, 1), target.clamp(0, 1), normalize=True).flatten()

    return lpips
