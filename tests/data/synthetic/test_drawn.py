"""What configurations ask of degradations: names, parameters and chains of any kind, drawn at random."""

import re
from dataclasses import asdict, fields

import numpy as np
import pytest
import skimage.data
from conftest import ROOT, few, run_script
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from data.synthetic import sensor
from data.synthetic.degradations import to_linear
from data.synthetic.drawn import DEGRADATIONS, chain_of
from utils.degrade_options import OPTIONS, parse_degrade

COFFEE = skimage.data.coffee()[50:178, 100:228].astype(np.float32) / 255
SMALL = np.ascontiguousarray(COFFEE[::3, ::4])


def rng(*seed):
    return np.random.default_rng(seed or 0)


@st.composite
def parameters_of(draw, name):
    """Any values that the parameters of a degradation may have, for some of them."""
    values = {}
    for entry in fields(OPTIONS[name]):
        (least, most), whole = entry.metadata["bounds"], entry.metadata.get("whole")
        most = min(most, 60) if entry.name not in ("peak", "turn_radius") else most  # larger sizes take longer
        numbers = st.integers(least, int(most)) if whole else st.floats(least, most)
        kinds = [st.none(), numbers]  # none: the parameter is not given
        if not isinstance(entry.default, int | float):
            kinds.append(st.lists(numbers, min_size=2, max_size=2).map(sorted))
        values[entry.name] = draw(st.one_of(kinds))
    return {key: value for key, value in values.items() if value is not None}


def links():
    """Any degradation: a name, or a name with parameters."""
    names = st.sampled_from(list(OPTIONS))
    return names | names.flatmap(lambda name: parameters_of(name).map(lambda values: {name: values}))


@few
@given(links() | st.lists(links(), min_size=1, max_size=3), st.integers(0, 1000))
def test_any_chain_with_any_parameters_gives_an_image_that_follows_from_the_seed(degrade, seed):
    chain = chain_of(degrade)
    kept = SMALL.copy()
    (image, drawn), (again, drawn_again) = (chain.drawn(SMALL, rng(seed)) for _ in range(2))
    assert (image.dtype, image.shape) == (np.float32, SMALL.shape)
    assert np.isfinite(image).all()
    assert (image.min() >= 0, image.max() <= 1) == (True, True)
    np.testing.assert_array_equal(image, again)
    np.testing.assert_array_equal(SMALL, kept)
    assert drawn == drawn_again
    described = degrade if isinstance(degrade, list) else [degrade]
    names = [link if isinstance(link, str) else next(iter(link)) for link in described]
    assert [name for name, _ in drawn] == names
    for (name, values), link in zip(drawn, described, strict=True):
        for key, asked in (link[name] if isinstance(link, dict) else {}).items():
            if isinstance(values.get(key, True), bool) or name == "defocus" or key == "airlight":
                continue  # a share, or not drawn, or drawn in some of the images only, or limited by max_radius
            low, high = asked if isinstance(asked, list) else (asked, asked)
            assert values[key] == pytest.approx(np.clip(values[key], low, high), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", OPTIONS)
def test_every_default_given_by_hand_is_the_default_bit_for_bit(name):
    by_hand = {
        key: list(value) if isinstance(value, tuple) else value for key, value in asdict(OPTIONS[name]()).items()
    }
    for seed in range(4):
        expected = DEGRADATIONS[name](COFFEE, rng(1, seed))
        for degrade in (name, [name], {name: None}, {name: {}}, {name: by_hand}):
            np.testing.assert_array_equal(chain_of(degrade).drawn(COFFEE, rng(1, seed))[0], expected)


# Of the version before parameters were keys: mean of |degraded - clean| over eight seeds.
BEFORE = {"haze": 0.243742, "rain": 0.079113, "snow": 0.075129, "motion_blur": 0.042077, "defocus": 0.021309}


@pytest.mark.parametrize("name", BEFORE)
def test_defaults_draw_what_they_always_drew(name):
    changes = [np.abs(DEGRADATIONS[name](COFFEE, rng(0, 1, seed)) - COFFEE).mean() for seed in range(8)]
    assert np.mean(changes) == pytest.approx(BEFORE[name], rel=1e-4)


def test_a_chain_is_one_after_the_other():
    random = rng(3)
    expected = COFFEE
    for name in ("motion_blur", "noise", "jpeg"):
        expected = DEGRADATIONS[name](expected, random)
    np.testing.assert_array_equal(chain_of(["motion_blur", "noise", "jpeg"]).drawn(COFFEE, rng(3))[0], expected)


@few
@given(st.sampled_from(list(OPTIONS)), st.data())
def test_a_misspelt_parameter_names_the_nearest_and_all_that_are_known(name, data):
    known = [entry.name for entry in fields(OPTIONS[name])]
    key = data.draw(st.sampled_from(known))
    position = data.draw(st.integers(0, len(key) - 1))
    wrong = key[:position] + "x" + key[position:]
    with pytest.raises(ValueError, match=rf"{name} has no parameter '{wrong}'; did you mean \w+\?; known: ") as error:
        parse_degrade([name, {name: {wrong: 1}}])
    assert str(error.value).endswith(", ".join(known))


NOT_NUMBERS = [None, True, "1", "x", [], [1], [1, 2, 3], [None, 1], {"a": 1}, float("nan"), float("inf"), -1e30, [2, 1]]


@pytest.mark.parametrize("name", OPTIONS)
def test_a_value_that_a_parameter_does_not_take_is_refused_by_name(name):
    for entry in fields(OPTIONS[name]):
        least, most = entry.metadata["bounds"]
        wrong = [least - 1, most * 2 + 1, *NOT_NUMBERS, *([1.5] if entry.metadata.get("whole") else [])]
        for value in wrong:
            if value is None and entry.default is None:
                continue
            with pytest.raises(ValueError, match=rf"^{name}\.{entry.name}: expected .*, not ") as error:
                parse_degrade({name: {entry.name: value}})
            assert len(str(error.value).splitlines()) == 1


@few
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=60),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=60), inner),
    )
)
def test_anything_else_is_refused_in_one_line(value):
    assume(value not in OPTIONS) if isinstance(value, str) else None
    with pytest.raises(ValueError) as error:
        parse_degrade(value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("sigma", [0, 5, 25, 50])
def test_gaussian_noise_has_the_deviation_asked_for_in_grey_levels(sigma):
    grey = np.full((200, 200, 3), 0.5, np.float32)
    added = (chain_of({"noise": {"sigma": sigma}}).drawn(grey, rng(2))[0] - grey) * 255
    assert added.std() == pytest.approx(sigma, rel=0.02)
    assert added.mean() == pytest.approx(0, abs=0.02 * sigma + 1e-4)
    correlations = np.corrcoef(added.reshape(-1, 3).T) if sigma else np.eye(3)
    np.testing.assert_allclose(correlations, np.eye(3), atol=0.03)


@pytest.mark.parametrize("peak", [10, 100, 5000])
@pytest.mark.parametrize("grey", [0.1, 0.4])
def test_poisson_noise_has_the_variance_of_its_photons_and_no_other_noise(peak, grey):
    image = np.full((200, 200, 3), grey, np.float32)
    noisy = chain_of({"noise": {"peak": peak}}).drawn(image, rng(2))[0]
    assert noisy.mean() == pytest.approx(grey, rel=0.02)
    assert noisy.var() == pytest.approx(grey / peak, rel=0.05)
    np.testing.assert_allclose(noisy * peak, np.round(noisy * peak), atol=1e-3)  # whole photons


def test_gaussian_noise_on_top_of_poisson_noise_adds_its_variance():
    image = np.full((200, 200, 3), 0.4, np.float32)
    noisy = chain_of({"noise": {"peak": 100, "sigma": 10}}).drawn(image, rng(2))[0]
    assert noisy.var() == pytest.approx(0.4 / 100 + (10 / 255) ** 2, rel=0.05)


@pytest.mark.parametrize("quality", [1, 10, 50, 95, 100])
@pytest.mark.parametrize("height, width", [(128, 128), (77, 50), (1, 1)])
def test_jpeg_is_that_of_pillow(tmp_path, quality, height, width):
    pixels = skimage.data.coffee()[100 : 100 + height, 100 : 100 + width]
    ours = chain_of({"jpeg": {"quality": quality}}).drawn(pixels / np.float32(255), rng())[0]
    Image.fromarray(pixels).save(tmp_path / "p.jpg", quality=quality, subsampling="4:2:0")
    theirs = np.asarray(Image.open(tmp_path / "p.jpg"))
    assert np.abs(np.round(ours * 255) - theirs).mean() < 0.5


def test_jpeg_of_an_image_that_the_format_is_too_small_for(monkeypatch):
    wide = np.tile(COFFEE[:32], (1, 600, 1))
    assert wide.shape[1] > 65_535
    compressed = sensor.jpeg(wide, 90)
    assert compressed.shape == wide.shape
    assert np.abs(compressed - wide).mean() < 0.02
    # Each block is compressed by itself; only the colours between two parts are interpolated differently.
    whole = sensor.jpeg(COFFEE, 50)
    monkeypatch.setattr(sensor, "MAX_JPEG_SIDE", 64)
    assert (np.abs(sensor.jpeg(COFFEE, 50) - whole).max(axis=2) > 1e-6).mean() < 0.05


@pytest.mark.parametrize("stops", [0, 1, 3.5])
def test_low_light_has_the_share_of_light_and_of_photons_asked_for(stops):
    light = to_linear(np.full((200, 200, 3), 0.7, np.float32))
    dark = chain_of({"low_light": {"stops": stops, "peak": 2000}}).drawn(np.full((200, 200, 3), 0.7, "f4"), rng(1))[0]
    expected = light.mean() * 2**-stops
    assert to_linear(dark).mean() == pytest.approx(expected, rel=0.01)
    assert to_linear(dark).var() == pytest.approx(expected / 2000, rel=0.1)


def shown(value):
    """A default as the documentation writes it."""
    return "null" if value is None else f"[{value[0]:g}, {value[1]:g}]" if isinstance(value, tuple) else f"{value:g}"


def test_the_documentation_lists_every_parameter_with_default_and_bounds():
    text = (ROOT / "docs" / "degradations.md").read_text()
    rows = [[cell.strip("` ") for cell in line.split("|")[1:4]] for line in text.splitlines() if line.startswith("| `")]
    expected = [
        [f"{name}.{entry.name}", shown(entry.default), "{:g} to {:g}".format(*entry.metadata["bounds"])]
        for name, kind in OPTIONS.items()
        for entry in fields(kind)
    ]
    assert rows == expected


def test_the_help_lists_every_degradation():
    result = run_script("train.py", "--help")
    described = " ".join(result.stdout.split()).split("each is degraded")[1].split("null: it contains pairs")[0]
    assert OPTIONS.keys() <= set(re.findall(r"\w+", described))
