"""Both readers against values known by construction, over every kind of file."""

import numpy as np
import pytest
from zoo import ZOO

from data.images import image_header, read_image
from inference.photo_files import photograph_size, read_photograph


@pytest.mark.parametrize("name", ZOO)
def test_readers_and_headers_agree_with_what_a_file_holds(tmp_path, capfd, name):
    animal = ZOO[name]
    path = tmp_path / name
    path.write_bytes(animal.content)
    photograph = read_photograph(path)
    assert photograph.colour.dtype == animal.colour.dtype
    assert photograph.colour.shape == animal.colour.shape
    assert np.abs(photograph.colour.astype(int) - animal.colour).max() <= animal.tolerance
    assert (photograph.alpha is None) == (animal.alpha is None)
    if animal.alpha is not None:
        assert photograph.alpha.dtype == animal.colour.dtype
        assert np.abs(photograph.alpha.astype(int) - animal.alpha).max() <= animal.tolerance
    colour = photograph.colour if photograph.colour.ndim == 3 else np.dstack([photograph.colour] * 3)
    np.testing.assert_array_equal(read_image(path), colour)
    assert image_header(path)[:2] == photograph_size(path) == colour.shape[:2]
    assert capfd.readouterr().err == ""
