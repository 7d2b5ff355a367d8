"""Each degradation against the physics that it follows."""

import cv2
import numpy as np
import pytest
import skimage.data
from album import CHELSEA
from skimage.feature import structure_tensor

from data.synthetic.degradations import (
    defocus,
    disc,
    flake,
    haze,
    motion_blur,
    rain,
    scatter,
    shake_kernel,
    snow,
    streak,
    streak_layer,
    to_linear,
    to_srgb,
)
from data.synthetic.depth import smooth_depth
from data.synthetic.drawn import DEGRADATIONS


def test_haze_follows_the_scattering_model():
    clear = CHELSEA.astype(np.float32) / 255
    depth = smooth_depth(*CHELSEA.shape[:2], np.random.default_rng(1))
    assert depth.min() == pytest.approx(0.2)
    assert depth.max() == pytest.approx(1.0)
    hazy = haze(clear, depth, beta=1.2, airlight=0.8)
    transmission = np.exp(-1.2 * depth)[..., None]
    recovered = (hazy - 0.8) / transmission + 0.8
    np.testing.assert_allclose(recovered, clear, atol=1e-5)
    np.testing.assert_allclose(haze(clear, depth * 0, 1.2, 0.8), clear)
    assert np.abs(haze(clear, depth + 50, 1.2, 0.8) - 0.8).max() < 1e-6


COFFEE = skimage.data.coffee().astype(np.float32) / 255


STREAKS = {"angle": 20, "length": 25, "width": 2, "cover": 0.1, "brightness": 0.6}


SNOW = {"angle": 20, "motion": 1, "size": 6, "cover": 0.02, "opacity": 0.9, "veil": 0.05}


def rng(seed=0):
    return np.random.default_rng(seed)


def moments(kernel):
    """Mass, centroid (y, x) from the middle, mean squared distance from the middle."""
    y, x = np.indices(kernel.shape) - len(kernel) // 2
    return kernel.sum(), (kernel * y).sum(), (kernel * x).sum(), (kernel * (x**2 + y**2)).sum() / kernel.sum()


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_same_seed_same_result_and_another_seed_another(name):
    crop = COFFEE[100:228, 200:328]
    kept = crop.copy()
    first, again, other = (DEGRADATIONS[name](crop, rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.02
    assert np.abs(first - crop).mean() > 0.002
    np.testing.assert_array_equal(crop, kept)


@pytest.mark.parametrize("name", DEGRADATIONS)
@pytest.mark.parametrize("height, width", [(1, 1), (1, 40), (3, 2), (64, 64), (131, 77)])
def test_images_of_any_size_and_content_stay_images(name, height, width):
    for clean in (COFFEE[:height, :width], np.zeros_like(COFFEE[:height, :width]), np.ones((height, width, 3), "f4")):
        for depth in (
            None,
            np.ones((height, width), np.float32),
            np.linspace(0, 1, width, dtype="f4") * np.ones((height, 1), "f4"),
        ):
            for seed in range(3):
                degraded = DEGRADATIONS[name](clean, rng(seed), depth)
                assert degraded.dtype == np.float32
                assert degraded.shape == clean.shape
                assert np.isfinite(degraded).all()
                assert degraded.min() >= 0
                assert degraded.max() <= 1


@pytest.mark.parametrize("name", sorted(DEGRADATIONS.keys() - {"noise", "low_light"}))  # whose channels are independent
def test_grey_stays_grey(name):
    grey = np.repeat(COFFEE[:96, :96, :1], 3, axis=2)
    degraded = DEGRADATIONS[name](grey, rng())
    np.testing.assert_allclose(degraded[..., 0], degraded[..., 2], atol=1e-6)


def test_linear_light_is_that_of_srgb():
    # IEC 61966-2-1: middle grey of 18 % reflectance is stored as 118 of 255; the two pieces meet.
    assert to_srgb(np.float32(0.18)) * 255 == pytest.approx(117.7, abs=0.1)
    assert to_linear(np.float32(0.5)) == pytest.approx(0.21404, abs=1e-5)
    values = np.linspace(0, 1, 1001, dtype=np.float32)
    np.testing.assert_allclose(to_srgb(to_linear(values)), values, atol=1e-5)


@pytest.mark.parametrize("extent", [0, 0.5, 1, 4.3, 9, 16, 31])
def test_shake_kernels_are_centred_paths_of_the_extent_asked_for(extent):
    for seed in range(10):
        kernel = shake_kernel(rng(seed), extent)
        mass, y, x, _ = moments(kernel)
        assert kernel.dtype == np.float32
        assert kernel.shape[0] == kernel.shape[1]
        assert kernel.shape[0] % 2 == 1
        assert kernel.min() >= 0
        assert mass == pytest.approx(1, abs=1e-5)
        assert (y, x) == pytest.approx((0, 0), abs=1e-3)
        rows, columns = np.nonzero(kernel > 1e-7)
        reach = np.hypot(rows - len(kernel) // 2, columns - len(kernel) // 2).max()
        assert extent / 2 - 1e-3 <= reach <= extent / 2 + np.sqrt(2)
    assert extent > 0 or kernel.max() == 1


def test_shake_is_subpixel_and_smooth():
    kernel = shake_kernel(rng(3), 12)
    path = kernel > 1e-4
    assert path.sum() < 0.4 * path.size  # a path, not a blot
    number, _ = cv2.connectedComponents(path.astype(np.uint8), connectivity=8)
    assert number == 2  # background and one unbroken path
    assert len(np.unique(kernel[path])) > 0.9 * path.sum()


def test_shake_moves_a_point_along_the_kernel_in_linear_light():
    kernel = shake_kernel(rng(5), 20)
    point = np.zeros((63, 63, 3), np.float32)
    point[31, 31] = 1
    half = len(kernel) // 2
    light = to_linear(motion_blur(point, kernel))[31 - half : 32 + half, 31 - half : 32 + half, 0]
    np.testing.assert_allclose(light, kernel, atol=1e-4)


@pytest.mark.parametrize(
    "blur",
    [
        lambda clean: motion_blur(clean, shake_kernel(rng(1), 15)),
        lambda clean: defocus(clean, np.full(clean.shape[:2], 0.5), focus=1, strength=5.3),
    ],
    ids=["motion", "defocus"],
)
def test_blur_keeps_the_mean_of_linear_light_not_of_stored_values(blur):
    framed = cv2.copyMakeBorder(COFFEE, 20, 20, 20, 20, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    blurred = blur(framed)
    before, after = (to_linear(image).mean((0, 1), dtype=np.float64) for image in (framed, blurred))
    np.testing.assert_allclose(after, before, rtol=2e-4)
    assert blurred.mean() > 1.002 * framed.mean()


@pytest.mark.parametrize("radius", [0, 0.4, 1, 2, 3.7, 6, 12])
def test_discs_have_the_radius_asked_for(radius):
    mass, y, x, spread = moments(disc(radius))
    assert mass == pytest.approx(1, abs=1e-5)
    assert (y, x) == pytest.approx((0, 0), abs=1e-4)
    # The mean squared distance from the centre is r^2 / 2 for a disc, and the pixels' own squares add 1/6 (Sheppard).
    assert radius < 2 or np.sqrt(2 * (spread - 1 / 6)) == pytest.approx(radius, abs=0.05)
    np.testing.assert_allclose(disc(radius), disc(radius).T)


def test_what_is_in_focus_stays_and_the_rest_follows_the_thin_lens():
    point = np.zeros((61, 61, 3), np.float32)
    point[30, 30] = 1
    for depth in (0.25, 0.5, 1.0):
        light = to_linear(defocus(point, np.full((61, 61), depth, np.float32), focus=0.5, strength=3))[..., 0]
        *_, spread = moments(light)
        assert np.sqrt(max(0, 2 * spread - 1 / 3)) == pytest.approx(3 * abs(1 / depth - 1 / 0.5), abs=0.1)
    in_focus = defocus(COFFEE, np.full(COFFEE.shape[:2], 0.7, np.float32), focus=0.7, strength=20)
    np.testing.assert_allclose(in_focus, COFFEE, atol=1e-5)


@pytest.mark.parametrize("focus", [0.3, 1.0])
def test_no_dark_seams_where_depth_jumps(focus):
    flat = np.full((80, 80, 3), 0.6, np.float32)
    depth = np.where(np.arange(80) < 40, 0.3, 1.0).astype(np.float32) * np.ones((80, 1), np.float32)
    np.testing.assert_allclose(defocus(flat, depth, focus, strength=2.2), flat, atol=1e-4)
    # A sharp object keeps its edge before a blurred background; a blurred one spreads over a sharp background.
    step = np.where(np.arange(80) < 40, 1.0, 0.0).astype(np.float32)[None, :, None] * np.ones((80, 1, 3), np.float32)
    row = defocus(step, depth, focus, strength=2.2)[40, :, 0]
    near, far = row[30:40], row[40:50]
    if focus == 0.3:
        np.testing.assert_allclose(near, 1, atol=1e-4)
    else:
        assert far[0] > 0.5
        assert far[2] > 0.2


def test_rain_adds_the_same_to_all_channels_until_they_are_full():
    streaks = streak_layer(rng(), COFFEE.shape[:2], soft=True, **STREAKS)
    added = rain(COFFEE, streaks) - COFFEE
    full = rain(COFFEE, streaks) == 1
    np.testing.assert_allclose(added[~full], np.dstack([streaks] * 3)[~full], atol=1e-6)
    assert (added <= streaks[..., None] + 1e-6).all()
    assert full.any()


def test_snow_moves_every_pixel_towards_its_own_light_by_one_share_in_all_channels():
    before, after = to_linear(COFFEE), to_linear(snow(COFFEE, rng(), brightness=0.9, **SNOW))
    clear = np.abs(before - 0.9).min(axis=2) > 0.1  # where the share can be told
    share = ((before - after) / (before - 0.9))[clear]
    assert share.min() == pytest.approx(0.05, abs=2e-3)  # the veil where nothing falls
    assert share.max() < 1
    assert 0.02 < (share > 0.2).mean() < 0.5
    assert np.ptp(share, axis=1).max() < 1e-3


def direction(image):
    """Degrees from the vertical along which the image varies least, positive towards the right going down."""
    rows, mixed, columns = (entry.mean() for entry in structure_tensor(image, sigma=2, order="rc"))
    values, vectors = np.linalg.eigh([[rows, mixed], [mixed, columns]])
    y, x = vectors[:, 0]
    return np.degrees(np.arctan(x / y)), values[1] / values[0]


@pytest.mark.parametrize("angle", [-40, -15, 0, 25, 60])
def test_streaks_run_in_the_direction_asked_for(angle):
    for soft in (True, False):
        measured, anisotropy = direction(streak_layer(rng(), (256, 256), soft=soft, **STREAKS | {"angle": angle}))
        assert measured == pytest.approx(angle, abs=3)
        assert anisotropy > 5
    black = np.zeros((256, 256, 3), np.float32)
    measured, anisotropy = direction(to_linear(snow(black, rng(), **SNOW | {"angle": angle, "motion": 3}))[..., 0])
    assert measured == pytest.approx(angle, abs=6)


def test_still_snow_has_no_direction_and_flakes_of_many_sizes():
    black = np.zeros((384, 384, 3), np.float32)
    snowy = to_linear(snow(black, rng(), **SNOW | {"motion": 0, "cover": 0.005, "veil": 0}))[..., 0]
    assert direction(snowy)[1] < 1.5
    *_, stats, _ = cv2.connectedComponentsWithStats((snowy > 0.1).astype(np.uint8))
    areas = stats[1:, cv2.CC_STAT_AREA]
    assert (areas > np.pi * 4**2).sum() > 3
    assert (areas < np.pi * 2**2).sum() > 20


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("soft", [True, False])
def test_streaks_of_rain_have_the_size_and_brightness_asked_for(soft, width):
    one = STREAKS | {"angle": 0, "length": 30, "width": width, "cover": 0.01, "brightness": 0.4}
    layer = streak_layer(rng(), (1000, 1000), soft=soft, **one)
    assert 0.35 < layer.max() <= 0.4
    number, _, stats, _ = cv2.connectedComponentsWithStats((layer > 1e-4).astype(np.uint8))
    assert number - 1 == pytest.approx(1e6 * 0.01 / (30 * width), rel=0.4)  # a few touch
    drops = [layer[y : y + h, x : x + w] for x, y, w, h, _ in stats[1:]]
    areas = [drop.sum() / drop.max() for drop in drops]
    lengths = [(drop.max(axis=1) > 0.5 * drop.max()).sum() for drop in drops]
    gaussian = 1.06 if soft else 1  # the integral of a Gaussian, in units of its width at half maximum
    assert np.median(areas) == pytest.approx(30 * width * gaussian, rel=0.1)
    assert np.median(lengths) == pytest.approx(30, abs=2)


@pytest.mark.parametrize("cover", [0.1, 0.5, 2])
def test_flat_streaks_cover_the_share_that_chance_leaves_up_to_the_corners(cover):
    layers = [streak_layer(rng(seed), (90, 120), soft=False, **STREAKS | {"cover": cover}) for seed in range(100)]
    covered = np.mean([layer > 0.3 for layer in layers], axis=0)
    expected = 1 - np.exp(-cover)
    assert covered.mean() == pytest.approx(expected, abs=0.03)
    corners = [
        covered[rows, columns].mean()
        for rows in (slice(12), slice(-12, None))
        for columns in (slice(12), slice(-12, None))
    ]
    assert corners == pytest.approx([expected] * 4, abs=0.12)


@pytest.mark.parametrize(
    "degrade, least, median, most", [("light_rain", 0.006, 0.022, 0.05), ("heavy_rain", 0.11, 0.2, 0.39)]
)
def test_the_rain_of_published_sets_lies_within_ours(degrade, least, median, most):
    """The figures are mean differences of input and target in images 1 to 20 of Rain100L and Rain100H."""
    clean = np.full((128, 128, 3), 0.4, np.float32)
    ours = np.percentile([DEGRADATIONS[degrade](clean, rng(seed)).mean() - 0.4 for seed in range(200)], [5, 50, 95])
    assert ours[0] < least
    assert ours[1] == pytest.approx(median, rel=0.4)
    assert ours[2] > most


def test_streaks_and_flakes_have_the_size_asked_for():
    vertical = streak(0, 30)[:, len(streak(0, 30)) // 2]
    assert 28 <= (vertical > 0.3).sum() <= 33
    assert (streak(0, 30).max(axis=0) > 0.3).sum() <= 3
    areas = [flake(rng(seed), 8, softness=1).sum() for seed in range(20)]
    assert np.mean(areas) == pytest.approx(np.pi * 8**2, rel=0.1)
    assert np.std(areas) > 0


def test_scatter_has_the_density_asked_for_up_to_the_borders():
    one = np.zeros((9, 9), np.float32)
    one[4, 4] = 1
    places = scatter(rng(), (400, 500), 0.01, one) > 0
    assert places.sum() == pytest.approx(2000, rel=0.1)
    wide = np.ones((21, 21), np.float32)
    covered = np.mean([scatter(rng(seed), (60, 60), 0.001, wide) > 0 for seed in range(200)], axis=0)
    expected = 1 - np.exp(-0.001 * 21**2)
    assert covered[[0, 0, -1, -1, 30], [0, -1, 0, -1, 30]] == pytest.approx(expected, abs=0.12)


def test_more_snow_changes_more():
    def distance(degraded):
        return float(np.abs(degraded - COFFEE).mean())

    few, many = (distance(snow(COFFEE, rng(), **SNOW | {"cover": c, "veil": 0})) for c in (0.005, 0.03))
    assert many > 2 * few
