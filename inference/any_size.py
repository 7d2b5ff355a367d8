"""A network that takes images of any size."""

from torch import Tensor, nn

from models.build import full_size
from utils.padding import accepted_size, extend


class AnySize(nn.Module):
    """Pads images by reflection to a size the network accepts, and crops and clamps the result.

    Unlike ``inference.whole.restore`` it is differentiable and never splits an image into tiles.

    Args:
        network: as built by ``models.build_model``.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1], any H and W -> restored (N, 3, H, W) in [0, 1].

        Raises:
            ValueError: wrong shape.
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.numel():
            raise ValueError(f"expected images of shape (N, 3, H, W), got {tuple(images.shape)}")
        height, width = images.shape[-2:]
        padded = extend(images, *accepted_size(self.network, height, width))
        return full_size(self.network(padded))[..., :height, :width].clamp(0, 1)
