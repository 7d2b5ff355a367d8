"""Networks as users add them, of every kind that the contract in docs/networks.md allows, and some that it does not."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Single(nn.Module):
    """One output; any size."""

    def __init__(self, kernel_size: int = 3) -> None:
        super().__init__()
        self.residual = nn.Conv2d(3, 3, kernel_size, padding="same")

    def forward(self, image: Tensor) -> Tensor:
        return image + self.residual(image)


class Pyramid(nn.Module):
    """A list of outputs, coarse to fine; sides are multiples of 8 and at least 16."""

    size_multiple, min_size = 8, 16

    def __init__(self) -> None:
        super().__init__()
        self.coarse, self.fine = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, image: Tensor) -> list[Tensor]:
        height, width = image.shape[-2:]
        if height % 8 or width % 8 or min(height, width) < 16:
            raise ValueError(f"{height}x{width}")
        coarse = self.coarse(F.avg_pool2d(image, 8))
        return [coarse, image + self.fine(torch.cat([image, F.interpolate(coarse, scale_factor=8)], dim=1))]


class Prompted(nn.Module):
    """A parameter with five dimensions, a tuple of outputs, and batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.prompt = nn.Parameter(torch.zeros(1, 2, 3, 4, 4))
        self.norm, self.conv = nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, image: Tensor) -> tuple[Tensor]:
        prompt = F.interpolate(self.prompt.mean(1), size=image.shape[-2:], mode="bilinear")
        return (image + self.conv(self.norm(image) + prompt),)


class Unused(Single):
    """A parameter that the forward pass does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.forgotten = nn.Conv2d(3, 3, 1)


class LooksAtValues(Single):
    """A forward pass that depends on what is in the image."""

    def forward(self, image: Tensor) -> Tensor:
        return image if image.max() > 2 else super().forward(image)


GOOD = (Single, Pyramid, Prompted, Unused, LooksAtValues)


class FineToCoarse(Pyramid):
    """The outputs in the wrong order."""

    def forward(self, image: Tensor) -> list[Tensor]:
        return super().forward(image)[::-1]


class Named(Single):
    """A dict of outputs."""

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"restored": super().forward(image)}


class Grey(Single):
    """One channel."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image)[:, :1]


class Empty(Single):
    """No output."""

    def forward(self, image: Tensor) -> list[Tensor]:
        return []


BAD = (FineToCoarse, Named, Grey, Empty)
