"""Motion of camera and objects during the exposure."""

import cv2
import numpy as np


def trajectory(rng: np.random.Generator, extent: float, steps: int) -> np.ndarray:
    """Random path of an image point during the exposure, (2, steps): y and x in pixels from its centre of mass.

    The velocity is a constant drift plus smoothed Gaussian noise, which models the inertia and tremor of a hand,
    similar to the random trajectories of Boracchi and Foi (IEEE TIP 2012).

    Args:
        rng: draws the path.
        extent: twice the largest distance of the path from its centre of mass, in pixels.
        steps: number of points.
    """
    tremble = cv2.GaussianBlur(rng.normal(size=(2, steps)), (0, 0), steps / 12, sigmaY=1e-6)
    velocity = tremble / (tremble.std() + 1e-12) + rng.normal(size=(2, 1))
    path = np.cumsum(velocity, axis=1)
    path -= path.mean(axis=1, keepdims=True)
    return path * (extent / 2 / max(np.hypot(*path).max(), 1e-12))


def random_motion(
    rng: np.random.Generator, extent: float, frames: int, centre: tuple[float, float], turn: float = 0
) -> np.ndarray:
    """Affine maps from the pixels (x, y, 1) of each frame to those of the image, (frames, 2, 3).

    A ``trajectory`` of ``extent`` pixels, sampled at equal intervals from start to end, with a steady roll and zoom
    about ``centre`` (x, y); each moves a point by at most ``turn`` times its distance from there.
    """
    moments = np.linspace(0, 63, frames).round().astype(int)
    path = trajectory(rng, extent, 64)[:, moments]
    progress = np.linspace(-0.5, 0.5, frames)
    angle, zoom = rng.uniform(-turn, turn, (2, 1)) * progress
    cos, sin = (1 + zoom) * np.cos(angle), (1 + zoom) * np.sin(angle)
    turns = np.stack([np.stack([cos, -sin], 1), np.stack([sin, cos], 1)], 1)  # (frames, 2, 2)
    shifts = path[::-1].T + np.asarray(centre) - turns @ np.asarray(centre)
    return np.concatenate([turns, shifts[..., None]], axis=2)


def moving_camera(image: np.ndarray, motions: np.ndarray) -> np.ndarray:
    """Mean of the frames, as in GoPro (Nah et al., CVPR 2017): (H, W, C) -> (H, W, C), with reflected borders."""
    return sum(_frames(image, motions)) / np.float32(len(motions))


def moving_object(image: np.ndarray, motions: np.ndarray, mask: np.ndarray, own_motions: np.ndarray) -> np.ndarray:
    """``moving_camera``, with an object in front that moves by itself. What is behind the object looks like it.

    Args:
        image: (H, W, 3).
        motions: of the camera, (frames, 2, 3).
        mask: opacity of the object, (H, W, 1) in [0, 1].
        own_motions: of the object in the image, as ``motions``.
    """
    behind = _frames(image, motions)
    ahead = _frames(np.dstack([image * mask, mask]), own_motions)
    frames = (back * (1 - front[..., 3:]) + front[..., :3] for back, front in zip(behind, ahead, strict=True))
    return sum(frames) / np.float32(len(motions))


def _frames(image: np.ndarray, motions: np.ndarray):
    """The image as seen in each frame, with reflected borders."""
    height, width = image.shape[:2]
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]]).T
    reach = motions @ corners  # (frames, 2, 4)
    beyond = max(-reach.min(), (reach.max(axis=(0, 2)) - (width, height)).max(), 0)
    margin = int(np.ceil(beyond)) + 1
    # With a margin made once, a frame takes half as long as with borders reflected in each.
    padded = cv2.copyMakeBorder(image, margin, margin, margin, margin, cv2.BORDER_REFLECT)
    for motion in motions:
        shifted = motion + np.array([[0, 0, margin], [0, 0, margin]])
        yield cv2.warpAffine(padded, shifted, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
