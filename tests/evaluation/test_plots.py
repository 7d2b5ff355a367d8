"""Plots of reports."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from evaluation.plots import _edges, gain_histograms

GAINS = st.lists(st.floats(-100, 100), min_size=1, max_size=40)


@given(GAINS)
def test_every_gain_is_in_a_bar_and_no_bar_has_gains_and_losses(gains):
    edges = _edges(gains)
    assert len(edges) <= 25
    assert np.histogram(gains, edges)[0].sum() == len(gains)
    losses = np.histogram(gains, edges)[0][edges[:-1] < 0].sum()
    assert losses == sum(gain < 0 for gain in gains)


@pytest.mark.parametrize(("sets", "size"), [(1, (400, 300)), (3, (1200, 300)), (5, (1200, 600))])
def test_each_set_has_a_histogram(sets, size):
    plot = gain_histograms({f"Set ${number}_$": [0.5, -0.2, 0.0][: number + 1] for number in range(sets)})
    assert Image.open(io.BytesIO(plot)).size == size
