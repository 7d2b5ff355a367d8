"""Restore images given as files, NumPy arrays or tensors."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from inference.finite import ADVICE, is_finite
from inference.photo_files import read_photograph
from inference.shipped import weights_file
from inference.whole import Progress, check_tile, restore
from models import load_model
from utils.errors import InputError
from utils.precision import Precision, autocast, supported

ImageSource = str | Path | np.ndarray | Tensor
# Values outside [0, 1] by noise or resampling are fine; values beyond these limits have another scale.
LOWEST, HIGHEST = -1, 2


class Restorer:
    """Restores images of any size with a trained network: ``Restorer("best.pt").restore("photo.jpg")``.

    Args:
        weights: checkpoint trained here, file released by the authors, or .safetensors file; or the name of a task,
            for the weights that come with this project (``inference.shipped``). A file of that name comes first.
        device: device to run on; defaults to CUDA if available, else the CPU.
        precision: arithmetic of the network, see ``utils.precision``.

    Attributes:
        model: the network in eval mode, on ``device``.

    Raises:
        InputError: the weights are missing or cannot be loaded, or ``device`` does not support ``precision``.
    """

    def __init__(
        self, weights: str | Path, device: str | torch.device | None = None, precision: Precision = "float32"
    ) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.precision = supported(precision, self.device)
        self.model = load_model(weights_file(weights)).to(self.device)

    def restore(
        self,
        picture: ImageSource,
        tile: int | None = None,
        self_ensemble: bool = False,
        progress: Progress | None = None,
    ) -> np.ndarray | Tensor:
        """Restore one image, or a batch of equal-sized images given as a tensor.

        Args:
            picture: one of

                - path of an image file;
                - array (H, W), (H, W, 1), (H, W, 3) or, with alpha, (H, W, 4): uint8, uint16, or floating point in
                  [0, 1];
                - tensor (3, H, W), (1, H, W), (N, 3, H, W) or (N, 1, H, W): floating point in [0, 1].
            tile: side of the tiles in pixels, at least 32; None chooses tiles only if the whole image does not fit in
                memory.
            self_ensemble: average over the eight flips and rotations by 90 degrees, at eight times the cost.
            progress: called repeatedly with the fraction of the work done, in [0, 1].

        Returns:
            For an array or tensor, one of the same shape and type. For a path, an array with EXIF orientation applied:
            (H, W, 3), (H, W) for grayscale, (H, W, 4) with alpha; uint8 or uint16 as stored. Colours are RGB, and alpha
            is passed through unchanged.

        Raises:
            InputError: the file cannot be read, memory does not suffice even for tiles, or the network's output is not
                finite.
            ValueError: wrong shape, dtype or values (NaN, or not in [0, 1]) of the image, or wrong ``tile``.
            TypeError: ``picture`` is neither a path, an array nor a tensor.
        """
        check_tile(tile)
        options = {"tile": tile, "self_ensemble": self_ensemble, "progress": progress}
        if isinstance(picture, Tensor):
            return self._restore_tensor(picture, **options)
        if isinstance(picture, np.ndarray):
            return self._restore_array(picture, **options)
        if not isinstance(picture, str | Path):
            raise TypeError(f"expected a path, a NumPy array or a tensor, got {type(picture).__name__}")
        photograph = read_photograph(picture)
        restored = self._restore_array(photograph.colour, **options)
        if photograph.alpha is None:
            return restored
        colour = restored if restored.ndim == 3 else np.dstack([restored] * 3)
        return np.dstack([colour, photograph.alpha])

    def _restore_array(self, image: np.ndarray, **options) -> np.ndarray:
        if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)) or not image.size:
            raise ValueError(f"expected an image of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), got {image.shape}")
        if image.dtype not in (np.uint8, np.uint16) and not np.issubdtype(image.dtype, np.floating):
            raise ValueError(f"expected uint8, uint16, or floating-point values in [0, 1], got {image.dtype}")
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
            raise ValueError(
                f"expected a tensor (3, H, W), (1, H, W), (N, 3, H, W) or (N, 1, H, W), got {tuple(image.shape)}"
            )
        if not image.is_floating_point():
            raise ValueError(f"expected a tensor of floating-point values in [0, 1], got {image.dtype}")
        low, high = torch.stack(torch.aminmax(image.detach())).tolist()
        if not (low > LOWEST and high <= HIGHEST):  # also if NaN
            raise ValueError(f"expected floating-point values in [0, 1], got values from {low:g} to {high:g}")
        batch = image if image.ndim == 4 else image[None]
        grey = batch.shape[1] == 1
        batch = (batch.expand(-1, 3, -1, -1) if grey else batch).float()
        with autocast(self.precision, self.device):
            restored = restore(self.model, batch, **options)
        if not is_finite(restored):
            raise InputError(f"the restored image is not finite; {ADVICE}")
        if grey:
            restored = restored.mean(1, keepdim=True)
        return restored.reshape(image.shape).to(image.dtype)
