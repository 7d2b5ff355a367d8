"""Which files are partners, in each packing of each public data set."""

import numpy as np
import pytest

from data.datasets import PairedImages
from data.images import write_image
from data.layouts import find_pairs
from data.sets import pairs_of_set, pairs_of_sets, resolve_folder, select_listed, select_numbered, subset_positions
from data.survey import check_pairs
from utils.config import SetConfig, SubsetConfig, TestSetConfig
from utils.errors import InputError

PICTURE = np.full((4, 6, 3), 99, np.uint8)


def write(root, *names, image=PICTURE):
    for name in names:
        write_image(root / name, image)
    return root


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
    with pytest.raises(InputError, match=r"2 images in source/\* and 1 in target/\*"):
        find_pairs(tmp_path, "dpdd")


def test_a_image_that_fits_no_pattern_is_not_passed_over(tmp_path):
    write(tmp_path, "hazy/1_1.png", "hazy/2.png", "gt/1.png")
    with pytest.raises(InputError, match=r"1 image with a name that does not fit the layout: .*hazy/2.png"):
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


def test_folders_in_any_case_and_the_first_that_is_there(tmp_path):
    write(tmp_path, "Test2000/snow/1.png", "Test2000/GT/1.png")
    assert resolve_folder(tmp_path, ["train", "test2000"]) == tmp_path / "Test2000"
    assert resolve_folder(tmp_path / "Test2000", ["."]) == tmp_path / "Test2000"
    assert resolve_folder(tmp_path, ["TEST2000/SNOW"]) == tmp_path / "Test2000" / "snow"
    assert resolve_folder(tmp_path / "other", [str(tmp_path / "Test2000")]) == tmp_path / "Test2000"
    assert len(pairs_of_set(tmp_path, SetConfig(folder="test2000", layout="snow"))) == 1
    with pytest.raises(InputError, match=r"train or .*valid: no such folder"):
        pairs_of_set(tmp_path, SetConfig(folder=("train", "valid")))


def test_a_split_by_number_and_by_list(tmp_path):
    write(tmp_path, *(f"{kind}/{number:02}_outdoor_{kind}.png" for kind in ("hazy", "GT") for number in (1, 9, 40, 41)))
    pairs = find_pairs(tmp_path, "real_haze")
    assert [pair.input.name[:2] for pair in select_numbered(pairs, 9, 40)] == ["09", "40"]
    with pytest.raises(InputError, match="no images with numbers from 50 to 55"):
        select_numbered(pairs, 50, 55)
    split = tmp_path / "split.txt"
    for text in (
        "09_outdoor_hazy.png\n",
        "HAZY/09_outdoor_hazy\n\n",
        "GT/09_outdoor_GT.png  O-HAZE/hazy/09_outdoor_hazy.png",
    ):
        split.write_text(text)
        assert [pair.input.name for pair in select_listed(pairs, split)] == ["09_outdoor_hazy.png"]
    split.write_text("09_outdoor_hazy.png\nhazy/99_outdoor_hazy.png\n")
    with pytest.raises(InputError, match=r"split.txt: 1 line without an input of the set: hazy/99_outdoor"):
        select_listed(pairs, split)
    with pytest.raises(InputError, match=r"gone.txt: no such file"):
        select_listed(pairs, tmp_path / "gone.txt")


def test_names_with_spaces_in_a_list(tmp_path):
    write(tmp_path, "input/a b.png", "input/b.png", "target/a b.png", "target/b.png")
    (tmp_path / "split.txt").write_text("a b.png\n")
    assert [pair.name for pair in select_listed(find_pairs(tmp_path, "plain"), tmp_path / "split.txt")] == ["input/a b"]


def test_optional_sets_are_left_out_and_others_are_not(tmp_path, capsys):
    write(tmp_path, "test/input/1.png", "test/target/1.png")
    parts = {"here": TestSetConfig(folder="test"), "gone": TestSetConfig(folder="HIDE", optional=True)}
    assert pairs_of_sets(tmp_path, parts).keys() == {"here"}
    assert "gone is left out: no HIDE" in capsys.readouterr().out
    del parts["here"]
    with pytest.raises(InputError, match="none of the sets gone is there"):
        pairs_of_sets(tmp_path, parts)


def test_positions_of_subsets(tmp_path, capsys):
    part = TestSetConfig(subsets={"indoor": SubsetConfig(positions="indoor_labels.npy")})
    assert subset_positions(tmp_path, part, 3) == {}
    assert "no " in capsys.readouterr().out
    np.save(tmp_path / "indoor_labels.npy", np.array([3, 1]))
    assert subset_positions(tmp_path, part, 3) == {"indoor": [2, 0]}
    for wrong in (np.array([0, 1]), np.array([1, 4]), np.array([1.5]), np.array([]), np.array(["1"])):
        np.save(tmp_path / "indoor_labels.npy", wrong)
        with pytest.raises(InputError, match=r"indoor_labels.npy"):
            subset_positions(tmp_path, part, 3)
    (tmp_path / "indoor_labels.npy").write_bytes(b"no array")
    with pytest.raises(InputError, match=r"indoor_labels.npy: not a NumPy file"):
        subset_positions(tmp_path, part, 3)
