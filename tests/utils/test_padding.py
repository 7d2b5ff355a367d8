"""Extending images by reflection."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from utils.padding import extend


def test_extend_reflects_then_repeats():
    row = torch.tensor([[[1.0, 2.0, 3.0]]])
    assert extend(row, 1, 5).tolist() == [[[1, 2, 3, 2, 1]]]
    assert extend(row, 1, 7).tolist() == [[[1, 2, 3, 2, 1, 1, 1]]]
    assert extend(row, 1, 3) is row


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 50), st.integers(0, 50))
def test_extend_keeps_the_image_and_invents_no_values(height, width, more_rows, more_columns):
    image = torch.arange(float(height * width)).view(1, height, width)
    extended = extend(image, height + more_rows, width + more_columns)
    assert extended.shape == (1, height + more_rows, width + more_columns)
    assert torch.equal(extended[:, :height, :width], image)
    assert torch.isin(extended, image).all()
