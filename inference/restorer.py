"""Restoring images in the form people have them: files, arrays, tensors."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from inference.photo_files import read_photograph
from inference.whole import Progress, restore
from models import load_model
from utils.precision import Precision, autocast, supported

Picture = str | Path | np.ndarray | Tensor


class Restorer:
    """A trained network, ready for images of any size: ``Restorer("best.pt").restore("photo.jpg")``.

    Args:
        weights: a checkpoint of this project, a file that the authors released, or a .safetensors file.
        device: where to compute; by default a CUDA GPU if there is one.
        precision: arithmetic of the network.

    Attributes:
        model: the network, in eval mode on the device.

    Raises:
        InputError: the weights cannot be loaded, or the device does not support the precision.
    """

    def __init__(
        self, weights: str | Path, device: str | torch.device | None = None, precision: Precision = "float32"
    ) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.precision = supported(precision, self.device)
        self.model = load_model(weights).to(self.device)

    def restore(
        self,
        picture: Picture,
        tile: int | None = None,
        self_ensemble: bool = False,
        progress: Progress | None = None,
    ) -> np.ndarray | Tensor:
        """The restored image, in the form it came in.

        Args:
            picture: one of

                - a path: returns an array, RGB (H, W, 3), grey (H, W) or with alpha (H, W, 4), uint8 or uint16 as
                  stored, upright;
                - an array (H, W), (H, W, 1), (H, W, 3) or, with alpha, (H, W, 4): uint8, uint16, or floating in [0, 1];
                - a tensor (3, H, W), (1, H, W) or a batch (N, 3, H, W), (N, 1, H, W): floating, in [0, 1].

                Colours are RGB; grey images stay grey, alpha is unchanged.
            tile: restore in tiles of this side, in pixels; by default only if the image does not fit into memory.
            self_ensemble: average over the eight flips and quarter turns, at eight times the cost.
            progress: called now and then with the fraction of the work done, in [0, 1].

        Raises:
            InputError: the file cannot be read, or there is too little memory even for tiles.
            TypeError, ValueError: the array or tensor is none of these.
        """
        options = {"tile": tile, "self_ensemble": self_ensemble, "progress": progress}
        if isinstance(picture, Tensor):
            return self._restore_tensor(picture, **options)
        if isinstance(picture, np.ndarray):
            return self._restore_array(picture, **options)
        photograph = read_photograph(picture)
        restored = self._restore_array(photograph.colour, **options)
        if photograph.alpha is None:
            return restored
        colour = restored if restored.ndim == 3 else np.dstack([restored] * 3)
        return np.dstack([colour, photograph.alpha])

    def _restore_array(self, image: np.ndarray, **options) -> np.ndarray:
        if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)) or not image.size:
            raise ValueError(f"an image is an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), not {image.shape}")
        if image.dtype not in (np.uint8, np.uint16) and not np.issubdtype(image.dtype, np.floating):
            raise TypeError(f"an image has uint8, uint16 or floating values in [0, 1], not {image.dtype}")
        scale = np.iinfo(image.dtype).max if np.issubdtype(image.dtype, np.integer) else 1
        colour = image.reshape(*image.shape[:2], -1)[..., :3]
        x = torch.from_numpy(np.ascontiguousarray(colour.transpose(2, 0, 1), np.float32)).div_(scale)
        x = self._restore_tensor(x, **options)
        with torch.inference_mode():
            if scale > 1:
                x = x.mul_(scale).round_()
        restored = x.numpy().transpose(1, 2, 0).astype(image.dtype)
        if image.ndim == 3 and image.shape[2] == 4:
            restored = np.dstack([restored, image[..., 3]])
        return restored.reshape(image.shape)

    def _restore_tensor(self, image: Tensor, **options) -> Tensor:
        if image.ndim not in (3, 4) or image.shape[-3] not in (1, 3) or not image.numel():
            raise ValueError(f"an image is a tensor (3, H, W), (1, H, W) or a batch of them, not {tuple(image.shape)}")
        if not image.is_floating_point():
            raise TypeError(f"an image tensor has floating values in [0, 1], not {image.dtype}")
        batch = image if image.ndim == 4 else image[None]
        grey = batch.shape[1] == 1
        batch = (batch.expand(-1, 3, -1, -1) if grey else batch).float()
        with autocast(self.precision, self.device):
            restored = restore(self.model, batch, **options)
        if grey:
            restored = restored.mean(1, keepdim=True)
        return restored.reshape(image.shape).to(image.dtype)
