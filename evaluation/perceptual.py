"""LPIPS and DISTS, if torchmetrics is installed: distances between the features of classification networks.

Both functions return a metric of images (N, 3, H, W) in [0, 1], one score per image, (N,); lower is better. They raise
InputError if torchmetrics is not installed, or if the network's weights are neither cached nor can be downloaded.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from utils.errors import InputError

Metric = Callable[[Tensor, Tensor], Tensor]


def lpips_network(device: torch.device, option: str = "--lpips") -> torch.nn.Module:
    """The network of LPIPS, which is not trained: with ``normalize=True``, two images -> (N, 1, 1, 1).

    ``option`` asked for it, and begins the message of an InputError.
    """

    def build():
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        # The network without the metric, which validates its inputs' values and so would wait for the device.
        return LearnedPerceptualImagePatchSimilarity("alex", normalize=True).net

    network = _built(option, build, "AlexNet", "alexnet-owt-7be5be79.pth")
    return network.to(device).eval().requires_grad_(False)


def load_lpips(device: torch.device) -> Metric:
    """LPIPS with AlexNet, version 0.1 (Zhang et al., "The unreasonable effectiveness of deep features", CVPR 2018)."""
    network = lpips_network(device)
    return _clamped(lambda restored, target: network(restored, target, normalize=True))


def load_dists(device: torch.device) -> Metric:
    """DISTS with VGG-16 (Ding et al., "Image quality assessment: unifying structure and texture similarity", IEEE TPAMI
    2022), at full size; the authors' demonstration scales images to 256 pixels first, which gives other values.
    """

    def build():
        from torchmetrics.functional.image.dists import DISTSNetwork

        return DISTSNetwork()

    return _clamped(_built("--dists", build, "VGG-16", "vgg16-397923af.pth").to(device).eval())


LOADERS = {"lpips": load_lpips, "dists": load_dists}


def _built(option: str, build: Callable[[], torch.nn.Module], network: str, file: str) -> torch.nn.Module:
    try:
        return build()
    except ImportError:
        raise InputError(f"{option}: torchmetrics is not installed; run pip install torchmetrics") from None
    except OSError as error:  # download failed
        raise InputError(
            f"{option}: cannot download the weights of {network} ({error}); put torchvision's {file} into "
            f"{torch.hub.get_dir()}/checkpoints"
        ) from None


def _clamped(metric: Metric) -> Metric:
    @torch.inference_mode()
    def of_images(restored: Tensor, target: Tensor) -> Tensor:
        return metric(restored.clamp(0, 1), target.clamp(0, 1)).flatten()

    return of_images
