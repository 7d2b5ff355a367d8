"""Restoring pictures of any size."""

import torch
from torch import Tensor, nn

from utils.padding import extend


@torch.inference_mode()
def restore(model: nn.Module, picture: Tensor) -> Tensor:
    """picture (N, 3, H, W) in [0, 1], of any size, on the model's device -> restored (N, 3, H, W) in [0, 1].

    The picture is extended by reflection to the sides the network takes and the result cropped back. The model must
    be in eval mode.
    """
    height, width = picture.shape[-2:]
    multiple, least = model.size_multiple, model.min_size
    padded = extend(picture, *(max(least, -(-side // multiple) * multiple) for side in (height, width)))
    restored = model(padded)[-1]
    return restored[..., :height, :width].float().clamp(0, 1)
