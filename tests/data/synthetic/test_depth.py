"""Depth maps in the units of what they are made from."""

import numpy as np
import skimage.data

from data.synthetic.depth import depth_from_disparity, scene_depth


def test_depth_of_the_motorcycle_is_metric_and_filled():
    *_, disparity = skimage.data.stereo_motorcycle()
    depth = depth_from_disparity(disparity, focal=994.978, offset=31.086, baseline=193.001)
    known = np.isfinite(disparity)
    assert not known.all()
    assert np.isfinite(depth).all()
    np.testing.assert_allclose(depth[known], 193.001 * 994.978 / (disparity[known] + 31.086), rtol=1e-5)
    assert 1500 < depth.min() < depth.max() < 7000  # millimetres: a motorcycle in a garage


def test_a_crop_has_a_part_of_the_depths_of_a_scene():
    photograph = skimage.data.coffee().astype(np.float32) / 255

    def spans(image):
        depths = [scene_depth(image, np.random.default_rng(seed)) for seed in range(40)]
        assert all(depth.dtype == np.float32 and depth.shape == image.shape[:2] for depth in depths)
        assert min(depth.min() for depth in depths) >= 0.05
        assert max(depth.max() for depth in depths) <= 1
        return np.median([np.subtract(*np.percentile(depth, [98, 2])) for depth in depths])

    assert 0.1 < spans(photograph[:128, :128]) < 0.5 < spans(photograph)


def test_depth_jumps_at_the_edges_of_objects():
    halves = np.full((96, 96, 3), 0.2, np.float32)
    halves[:, 48:] = (0.9, 0.5, 0.3)
    steps = [np.abs(np.diff(scene_depth(halves, np.random.default_rng(seed)))).max(axis=0) for seed in range(20)]
    jumps = [step.max() > 0.05 for step in steps]
    assert sum(jumps) > 5
    assert all(abs(step.argmax() - 47) <= 4 for step, jump in zip(steps, jumps, strict=True) if jump)
