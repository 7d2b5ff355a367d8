"""Depth maps in the units of what they are made from."""

import numpy as np
import skimage.data

from data.synthetic.depth import depth_from_disparity


def test_depth_of_the_motorcycle_is_metric_and_filled():
    *_, disparity = skimage.data.stereo_motorcycle()
    depth = depth_from_disparity(disparity, focal=994.978, offset=31.086, baseline=193.001)
    known = np.isfinite(disparity)
    assert not known.all()
    assert np.isfinite(depth).all()
    np.testing.assert_allclose(depth[known], 193.001 * 994.978 / (disparity[known] + 31.086), rtol=1e-5)
    assert 1500 < depth.min() < depth.max() < 7000  # millimetres: a motorcycle in a garage
