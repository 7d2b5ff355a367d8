"""Restoring pictures as people hold them: files, arrays, tensors."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from data.photo_files import read_photograph
from utils.inference import restore


def restore_any(model: nn.Module, picture: str | Path | np.ndarray | Tensor, **options) -> np.ndarray | Tensor:
    """A picture, restored, in the form it came in.

    Args:
        model: in eval mode.
        picture: one of

            - a path: an array comes back, RGB (H, W, 3), grey (H, W), with alpha (H, W, 4), uint8 or uint16 as stored,
              upright;
            - an array (H, W), (H, W, 1), (H, W, 3) or, with alpha, (H, W, 4): uint8, uint16, or floating in [0, 1];
            - a tensor (3, H, W), (1, H, W) or a batch (N, 3, H, W), (N, 1, H, W): floating, in [0, 1].

            Colours are RGB; grey pictures come back grey, alpha as it was.
        options: ``tile``, ``self_ensemble``, ``progress`` of ``utils.inference.restore``.

    Raises:
        InputError: the file cannot be read.
        TypeError, ValueError: the array or tensor is none of these.
    """
    if isinstance(picture, Tensor):
        return _restore_tensor(model, picture, **options)
    if isinstance(picture, np.ndarray):
        return restore_array(model, picture, **options)
    photograph = read_photograph(picture)
    restored = restore_array(model, photograph.colour, **options)
    if photograph.alpha is None:
        return restored
    colour = restored if restored.ndim == 3 else np.dstack([restored] * 3)
    return np.dstack([colour, photograph.alpha])


@torch.inference_mode()
def restore_array(model: nn.Module, picture: np.ndarray, **options) -> np.ndarray:
    """(H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8, uint16 or floating in [0, 1] -> the same, restored."""
    if picture.ndim not in (2, 3) or (picture.ndim == 3 and picture.shape[2] not in (1, 3, 4)) or not picture.size:
        raise ValueError(f"a picture is an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), not {picture.shape}")
    if picture.dtype not in (np.uint8, np.uint16) and not np.issubdtype(picture.dtype, np.floating):
        raise TypeError(f"a picture has uint8, uint16 or floating values in [0, 1], not {picture.dtype}")
    scale = np.iinfo(picture.dtype).max if np.issubdtype(picture.dtype, np.integer) else 1
    colour = picture.reshape(*picture.shape[:2], -1)[..., :3]
    x = torch.from_numpy(np.ascontiguousarray(colour.transpose(2, 0, 1), np.float32)).div_(scale)
    x = _restore_tensor(model, x, **options)
    if scale > 1:
        x = x.mul_(scale).round_()
    restored = x.numpy().transpose(1, 2, 0).astype(picture.dtype)
    if picture.ndim == 3 and picture.shape[2] == 4:
        restored = np.dstack([restored, picture[..., 3]])
    return restored.reshape(picture.shape)


def _restore_tensor(model: nn.Module, picture: Tensor, **options) -> Tensor:
    if picture.ndim not in (3, 4) or picture.shape[-3] not in (1, 3) or not picture.numel():
        raise ValueError(f"a picture is a tensor (3, H, W), (1, H, W) or a batch of them, not {tuple(picture.shape)}")
    if not picture.is_floating_point():
        raise TypeError(f"a picture tensor has floating values in [0, 1], not {picture.dtype}")
    batch = picture if picture.ndim == 4 else picture[None]
    grey = batch.shape[1] == 1
    restored = restore(model, (batch.expand(-1, 3, -1, -1) if grey else batch).float(), **options)
    if grey:
        restored = restored.mean(1, keepdim=True)
    return restored.reshape(picture.shape).to(picture.dtype)
