"""Alignment of a restored image to its target in intensity and geometry, for the RealBlur benchmark."""

import cv2
import numpy as np
import torch
from torch import Tensor

ITERATIONS = 100  # of the ECC search
SMOOTHING = 5  # side of its Gaussian filter in pixels


def align(image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Scale ``image`` to the intensity of ``target`` and warp it onto ``target`` with a homography.

    RealBlur (Rim et al., ECCV 2020) captures both images with separate cameras, and the position of a blurred exposure
    is ambiguous. Its evaluation scales the image z to (sum x z / sum z z) z, where x is the target, and applies the
    homography that maximises the correlation of the grey images (ECC; Evangelidis and Psarakis, IEEE TPAMI 2008). If
    the search does not converge, as on an image without structure, the image is not warped.

    Args:
        image, target: (3, H, W) in [0, 1], on any device; the work is done on the host.

    Returns:
        The aligned image (3, H, W), interpolated bicubically, and its mask of valid pixels (H, W), 0 or 1, both on the
        device of ``target``.
    """
    z, x = (np.ascontiguousarray(tensor.permute(1, 2, 0).float().cpu().numpy()) for tensor in (image, target))
    energy = float((z * z).sum(dtype=np.float64))
    if energy > 0:
        z = z * np.float32((x * z).sum(dtype=np.float64) / energy)
    x_grey, z_grey = (cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) for pixels in (x, z))
    identity = np.eye(3, dtype=np.float32)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, ITERATIONS, 0)
    try:
        _, homography = cv2.findTransformECC(
            x_grey,
            z_grey,
            identity.copy(),  # the search overwrites its start
            cv2.MOTION_HOMOGRAPHY,
            criteria,
            inputMask=None,
            gaussFiltSize=SMOOTHING,
        )
    except cv2.error:
        homography = identity
    size = (x.shape[1], x.shape[0])
    warped = cv2.warpPerspective(
        z, homography, size, flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT
    )
    valid = cv2.warpPerspective(
        np.ones(z.shape[:2], np.float32), homography, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    )
    aligned = torch.from_numpy(np.ascontiguousarray(warped.transpose(2, 0, 1)))
    return aligned.to(target.device), torch.from_numpy(valid).to(target.device)
