"""The classical methods on what each is made for, and the choice of their parameters."""

import numpy as np
import pytest
import skimage.data
from skimage.metrics import peak_signal_noise_ratio

from benchmarks.classical import METHODS, Method, dark_channel_prior, deconvolve, guided_filter, median_filter
from data.synthetic.degradations import disc, haze, motion_blur, rain, streak_layer
from data.synthetic.depth import smooth_depth

COFFEE = skimage.data.coffee().astype(np.float32)[100:300, 200:440] / 255


def test_the_dark_channel_lifts_haze():
    hazy = haze(COFFEE, smooth_depth(*COFFEE.shape[:2], np.random.default_rng(0)), beta=1, airlight=0.85)
    restored = dark_channel_prior(hazy, patch=15, strength=0.9, least=0.1)
    gain = peak_signal_noise_ratio(COFFEE, restored) - peak_signal_noise_ratio(COFFEE, hazy)
    assert gain > 4


def test_the_guided_filter_keeps_the_guides_edges_and_smooths_the_rest():
    step = np.repeat(np.where(np.arange(60) < 30, 0.2, 0.8)[None], 60, axis=0).astype(np.float32)
    noisy = step + np.random.default_rng(0).normal(0, 0.1, step.shape).astype(np.float32)
    smooth = guided_filter(step, noisy, side=15, epsilon=1e-3)
    assert np.abs(smooth - step)[:, 5:-5].max() < 0.05
    np.testing.assert_allclose(guided_filter(step, 2 * step + 1, 15, 1e-9), 2 * step + 1, atol=1e-3)


def test_richardson_lucy_sharpens_what_its_own_disc_blurred():
    blurred = motion_blur(COFFEE, disc(2))
    restored = deconvolve(blurred, radius=2, iterations=10)
    assert peak_signal_noise_ratio(COFFEE, restored) > peak_signal_noise_ratio(COFFEE, blurred) + 3


def test_the_median_takes_thin_streaks_away():
    streaks = {"angle": 0, "length": 25, "width": 1, "cover": 0.03, "brightness": 0.5}
    rainy = rain(COFFEE, streak_layer(np.random.default_rng(0), COFFEE.shape[:2], soft=False, **streaks))
    restored = median_filter(rainy, height=1, width=5)
    assert peak_signal_noise_ratio(COFFEE, restored) > peak_signal_noise_ratio(COFFEE, rainy) + 1


def test_fit_chooses_the_parameters_that_restore_best():
    method = Method(
        "a gain", lambda image, gain, offset: image * gain + offset, {"gain": (1, 2, 3), "offset": (0, 0.1)}
    )
    pairs = [(COFFEE / 3, COFFEE), (COFFEE / 3.1, COFFEE)]
    restore, parameters = method.fit(pairs)
    assert parameters == {"gain": 3, "offset": 0}
    np.testing.assert_allclose(restore(COFFEE / 3), COFFEE, atol=1e-6)


@pytest.mark.parametrize("task", METHODS)
@pytest.mark.parametrize("height, width", [(64, 64), (90, 131)])
def test_every_method_takes_float_images_of_any_content(task, height, width):
    for image in (
        COFFEE[:height, :width],
        np.zeros((height, width, 3), np.float32),
        np.ones((height, width, 3), np.float32),
    ):
        for choice in (0, -1):
            restored = METHODS[task].restore(
                image, **{key: values[choice] for key, values in METHODS[task].values.items()}
            )
            assert restored.dtype == np.float32
            assert restored.shape == image.shape
            assert np.isfinite(restored).all()
            assert restored.min() >= 0
            assert restored.max() <= 1
