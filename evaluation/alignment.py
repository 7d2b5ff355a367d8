"""Bringing a restored image to its target's place and brightness, as the RealBlur benchmark does before scoring."""

import cv2
import numpy as np
import torch
from torch import Tensor

ITERATIONS, SMOOTHING = 100, 5  # of the search, and the side of its Gaussian filter in pixels


def align(image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Scale ``image`` to the intensity of ``target`` and warp it onto it by a homography.

    The two were taken through different light paths, and a blurred exposure has no exact position: RealBlur (Rim et
    al., ECCV 2020) scores what is left after z <- (sum x z / sum z z) z and the homography that maximises the
    correlation of the grey images (ECC, Evangelidis and Psarakis, IEEE TPAMI 2008). Where the search does not
    converge, as on an image without structure, the image stays in its place.

    Args:
        image, target: (3, H, W) in [0, 1].

    Returns:
        The aligned image (3, H, W), interpolated bicubically, and where it has pixels: (H, W), 0 or 1.
    """
    z, x = (np.ascontiguousarray(tensor.permute(1, 2, 0).float().cpu().numpy()) for tensor in (image, target))
    energy = float((z * z).sum(dtype=np.float64))
    if energy > 0:
        z = z * np.float32((x * z).sum(dtype=np.float64) / energy)
    greys = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (x, z)]
    until = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, ITERATIONS, 0)
    homography = np.eye(3, dtype=np.float32)
    try:
        _, homography = cv2.findTransformECC(
            *greys, homography, cv2.MOTION_HOMOGRAPHY, until, inputMask=None, gaussFiltSize=SMOOTHING
        )
    except cv2.error:
        homography = np.eye(3, dtype=np.float32)
    size = (x.shape[1], x.shape[0])
    warped = cv2.warpPerspective(
        z, homography, size, flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT
    )
    valid = cv2.warpPerspective(
        np.ones(z.shape[:2], np.float32), homography, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    )
    aligned = torch.from_numpy(np.ascontiguousarray(warped.transpose(2, 0, 1)))
    return aligned.to(target.device), torch.from_numpy(valid).to(target.device)
