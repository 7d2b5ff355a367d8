"""Frames of moving cameras and objects against the motions that they were asked to make."""

import numpy as np
import pytest
from album import CHELSEA

from data.synthetic.drawn import DEGRADATIONS
from data.synthetic.motion import moving_camera, moving_object, random_motion

IMAGE = CHELSEA[50:178, 100:260].astype(np.float32) / 255
STILL = np.tile(np.eye(2, 3), (5, 1, 1))


def shifted(x):
    """Frames that each look further to the right, by ``x`` pixels in the last."""
    motions = STILL.copy()
    motions[:, 0, 2] = np.linspace(0, x, len(motions))
    return motions


def test_a_still_camera_changes_nothing():
    np.testing.assert_allclose(moving_camera(IMAGE, STILL), IMAGE, atol=1e-6)


def test_the_blur_is_the_mean_of_the_frames():
    expected = np.mean([IMAGE[:, x : x + 140] for x in range(5)], axis=0)
    np.testing.assert_allclose(moving_camera(IMAGE, shifted(4))[:, :140], expected, atol=1e-6)


def test_an_object_moves_by_itself():
    mask = np.zeros((*IMAGE.shape[:2], 1), np.float32)
    mask[40:80, 50:90] = 1
    blurred = moving_object(IMAGE, STILL, mask, shifted(8))
    np.testing.assert_allclose(blurred[:, :40], IMAGE[:, :40], atol=1e-6)
    np.testing.assert_allclose(blurred[45:75, 55:75], moving_camera(IMAGE, shifted(8))[45:75, 55:75], atol=1e-6)


@pytest.mark.parametrize("extent", [2, 10, 30])
def test_motions_have_the_extent_asked_for(extent):
    for seed in range(5):
        motions = random_motion(np.random.default_rng(seed), extent, frames=20, centre=(64, 64))
        path = motions @ (64, 64, 1) - 64
        assert extent / 2 * 0.9 <= np.hypot(*path.T).max() <= extent / 2 + 1e-6
        turned = random_motion(np.random.default_rng(seed), 0, frames=20, centre=(64, 64), turn=0.1)
        np.testing.assert_allclose(turned @ (64, 64, 1), np.full((20, 2), 64), atol=1e-6)
        assert 0 < np.hypot(*(turned @ (164, 64, 1) - (164, 64)).T).max() <= 0.1 * 100


def test_frames_are_averaged_in_sRGB_as_in_GoPro_or_in_linear_light():
    # A checkerboard of black and white blurs to its mean, which tells them apart.
    board = np.repeat(np.kron(np.indices((32, 32)).sum(0) % 2, np.ones((4, 4)))[..., None], 3, axis=2).astype("f4")
    means = [DEGRADATIONS["motion_blur"](board, np.random.default_rng(seed))[40:88, 40:88].mean() for seed in range(20)]
    assert sum(abs(mean - 0.5) < 0.03 for mean in means) > 4
    assert sum(mean > 0.55 for mean in means) > 4
