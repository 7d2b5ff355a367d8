"""Which files are partners, in each packing of each public data set."""

import os

import numpy as np
import pytest
from album import CHELSEA, save_image, write

from data.datasets import PairedImages
from data.images import write_image
from data.layouts import find_pairs, pair_folders
from data.survey import check_pairs
from utils.errors import InputError


def test_reside_pairs_many_inputs_with_one_target(reside):
    pairs = find_pairs(reside / "train", "reside")
    assert [pair.name for pair in pairs] == ["hazy/10_1", "hazy/10_2", "hazy/11_1", "hazy/11_2", "hazy/12_1"]
    assert [pair.target.name for pair in pairs] == ["10.png", "10.png", "11.png", "11.png", "12.png"]
    check_pairs(pairs)


def test_reside_as_published_and_other_spellings(reside):
    (reside / "train" / "gt").rename(reside / "train" / "Clear")
    (reside / "train" / "hazy").rename(reside / "train" / "HAZY")
    assert len(find_pairs(reside / "train", "reside")) == 5
    save_image(reside / "test" / "hazy" / "0001_0.8_0.2.jpg", CHELSEA)
    save_image(reside / "test" / "gt" / "0001.png", CHELSEA)
    assert len(find_pairs(reside / "test", "reside")) == 3


def test_plain_layout_and_folder_pairs(tmp_path, reside):
    for name in ("a b", "ü.1", "nested/c"):
        for side in ("input", "target"):
            write_image(tmp_path / "plain" / side / f"{name}.png", CHELSEA[:8, :8])
    pairs = find_pairs(tmp_path / "plain", "plain")
    assert [pair.name for pair in pairs] == ["input/a b", "input/nested/c", "input/ü.1"]
    assert len(pair_folders(tmp_path / "plain" / "input", tmp_path / "plain" / "target")) == 3
    assert len(pair_folders(reside / "train" / "hazy", reside / "train" / "gt")) == 5


def test_links_are_followed_and_loops_end(tmp_path, reside):
    os.symlink(reside / "train", tmp_path / "link")
    os.symlink(reside / "train", reside / "train" / "loop")
    assert len(find_pairs(tmp_path / "link", "reside")) == 5


def test_what_is_wrong_with_a_folder_is_named(reside):
    train = reside / "train"
    with pytest.raises(InputError, match=r"nowhere: no such folder"):
        find_pairs(reside / "nowhere", "reside")
    with pytest.raises(InputError, match=r"layout: expected one of .* not 'mine'"):
        find_pairs(train, "mine")
    with pytest.raises(InputError, match=r"no input images found; layout 'plain' expects input/\{id\}"):
        find_pairs(train, "plain")
    save_image(train / "gt" / "10.jpg", CHELSEA)
    with pytest.raises(InputError, match=r"found twice: .*10.jpg and .*10.png"):
        find_pairs(train, "reside")
    (train / "gt" / "10.jpg").unlink()
    (train / "gt" / "12.png").rename(train / "gt" / "13.png")
    with pytest.raises(InputError, match=r"1 input image without a target: .*12_1.png"):
        find_pairs(train, "reside")
    (train / "hazy" / "12_1.png").unlink()
    with pytest.raises(InputError, match=r"1 target image without an input: .*13.png"):
        find_pairs(train, "reside")


# layout, inputs, and the target of each
PACKINGS = [
    ("reside", ["hazy/1400_1.png", "hazy/1400_10.png"], ["gt/1400.png", "gt/1400.png"]),
    ("reside", ["hazy/0005_0.8_0.04.jpg"], ["clear/0005.jpg"]),
    ("haze4k", ["haze/12_0.86_1.4.png", "haze/120_0.86_1.4.png"], ["gt/12.png", "gt/120.png"]),
    ("haze4k", ["IN/12.png"], ["GT/12.png"]),
    ("real_haze", ["01_hazy.png", "10_hazy.png"], ["01_GT.png", "10_GT.png"]),
    ("real_haze", ["hazy/01_outdoor_hazy.jpg"], ["GT/01_outdoor_GT.JPG"]),
    ("real_haze", ["Hazy/7.png"], ["gt/07.jpg"]),
    ("gopro", ["GOPR1/blur/000001.png", "GOPR2/blur/000001.png"], ["GOPR1/sharp/000001.png", "GOPR2/sharp/000001.png"]),
    ("gopro", ["blur/a.png"], ["sharp/a.png"]),
    ("gopro", ["blur/x_blur_1.png", "blur/x_blur_2.png"], ["sharp/x_gt_1.png", "sharp/x_gt_2.png"]),
    ("gopro", ["input_crops/a-1.png"], ["target_crops/a-1.png"]),
    ("realblur", ["RealBlur-J/scene001/blur/blur_1.png"], ["RealBlur-J/scene001/gt/gt_1.png"]),
    ("realblur", ["input/scene001_blur_1.png"], ["target/scene001_blur_1.png"]),
    ("dpdd", ["source/1P0A1100.png", "source/1P0A1103.png"], ["target/1P0A1101.png", "target/1P0A1104.png"]),
    ("dpdd", ["inputC/1.png"], ["target/1.png"]),
    ("plain", ["input/1.jpg", "input/deep/1.png"], ["target/1.png", "target/deep/1.jpg"]),
    ("snow", ["Snow/1.tif"], ["Gt/1.tif"]),
    ("snow", ["synthetic/1.jpg"], ["gt/1.jpg"]),
    (
        ("noisy/{clip}-{id}_n", "{clip}/clean_{id}"),
        ["noisy/a-1_n.png", "noisy/b-1_n.png"],
        ["a/clean_1.png", "b/clean_1.png"],
    ),
]


@pytest.mark.parametrize("layout, inputs, targets", PACKINGS)
def test_packings(tmp_path, layout, inputs, targets):
    write(tmp_path, *inputs, *targets)
    pairs = find_pairs(tmp_path, layout)
    found = [(str(pair.input.relative_to(tmp_path)), str(pair.target.relative_to(tmp_path))) for pair in pairs]
    assert found == sorted(zip(inputs, targets, strict=True))


def test_other_views_and_masks_are_left_alone(tmp_path):
    write(tmp_path / "dpdd", "inputC/1.png", "inputL/1.png", "inputR/1.png", "target/1.png")
    write(tmp_path / "snow", "synthetic/1.jpg", "gt/1.jpg", "mask/1.jpg")
    write(tmp_path / "gopro", "A/blur/1.png", "A/blur_gamma/1.png", "A/sharp/1.png")
    for layout in ("dpdd", "snow", "gopro"):
        assert len(find_pairs(tmp_path / layout, layout)) == 1


def test_order_pairs_only_equal_counts(tmp_path):
    write(tmp_path, "source/1.png", "source/2.png", "target/3.png")
    with pytest.raises(InputError, match=r"2 images in source/\* but 1 in target/\*"):
        find_pairs(tmp_path, "dpdd")


def test_an_image_that_fits_no_pattern_is_not_passed_over(tmp_path):
    write(tmp_path, "hazy/1_1.png", "hazy/2.png", "gt/1.png")
    with pytest.raises(InputError, match=r"1 image with a name that does not match the layout: .*hazy/2.png"):
        find_pairs(tmp_path, "reside")


def test_the_centre_of_sots_indoor_targets_counts(tmp_path):
    hazy = np.arange(46 * 62 * 3, dtype=np.uint16).reshape(46, 62, 3)
    write(tmp_path, "hazy/1400_1.png", image=hazy)
    write(tmp_path, "gt/1400.png", image=np.pad(hazy, ((1, 1), (1, 1), (0, 0))))
    pairs = find_pairs(tmp_path, "reside")
    check_pairs(pairs)
    sample = PairedImages(pairs)[0]
    assert (sample["input"] == sample["target"]).all()
    write(tmp_path, "gt/1400.png", image=np.pad(hazy, ((1, 0), (1, 0), (0, 0))))
    with pytest.raises(InputError, match="1 pair of different size"):
        check_pairs(pairs)
