"""Sizes, damage and shared scenes, found before a run."""

import cv2
import numpy as np
import pytest
import skimage.data
from album import CHELSEA, save_image
from PIL import Image

from data.images import write_image
from data.layouts import find_pairs
from data.survey import check_pairs, image_hash
from utils.errors import InputError


def test_sizes_and_broken_images_are_found_before_training(reside):
    pairs = find_pairs(reside / "train", "reside")
    save_image(reside / "train" / "gt" / "12.png", CHELSEA)
    with pytest.raises(InputError, match=r"1 pair of different size: .*12_1.png \(100x70\) and .*12.png \(451x300\)"):
        check_pairs(pairs)
    (reside / "train" / "hazy" / "10_2.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"1 broken image: .*10_2.png"):
        check_pairs(pairs)


@pytest.mark.parametrize("scale, quality", [(1, 40), (0.5, 90)])
def test_image_hashes_survive_compression_and_tell_scenes_apart(tmp_path, scale, quality):
    bits = {}
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        image = getattr(skimage.data, name)()
        write_image(tmp_path / f"{name}.png", image)
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        Image.fromarray(small).save(tmp_path / f"{name}.jpg", quality=quality)
        bits[name] = image_hash(tmp_path / f"{name}.png")
        assert np.bitwise_count(bits[name] ^ image_hash(tmp_path / f"{name}.jpg")).sum() <= 10
    others = [np.bitwise_count(bits[a] ^ bits[b]).sum() for a in bits for b in bits if a < b]
    assert min(others) > 60
    write_image(tmp_path / "flat.png", np.full((50, 50, 3), 7, np.uint8))
    assert image_hash(tmp_path / "flat.png") is None
