"""The sets of a configuration: folders, splits by number or list, optional sets, subsets."""

import numpy as np
import pytest
from album import write

from data.layouts import find_pairs
from data.lists import select_listed
from data.sets import pairs_of_set, pairs_of_sets, resolve_folder, select_numbered, subset_positions
from utils.config import SetConfig, SubsetConfig, TestSetConfig
from utils.errors import InputError


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
    with pytest.raises(InputError, match="no images numbered 50 to 55"):
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
    with pytest.raises(InputError, match=r"split.txt: 1 line with no matching input: hazy/99_outdoor"):
        select_listed(pairs, split)
    with pytest.raises(InputError, match=r"gone.txt: no such file"):
        select_listed(pairs, tmp_path / "gone.txt")


def test_an_empty_list_is_an_error(tmp_path):
    write(tmp_path, "hazy/1.png", "gt/1.png")
    pairs = find_pairs(tmp_path, "reside")
    for content in ("", "\n \n"):
        (tmp_path / "list.txt").write_text(content)
        with pytest.raises(InputError, match=r"list.txt: the list is empty"):
            select_listed(pairs, tmp_path / "list.txt")


def test_names_with_spaces_in_a_list(tmp_path):
    write(tmp_path, "input/a b.png", "input/b.png", "target/a b.png", "target/b.png")
    (tmp_path / "split.txt").write_text("a b.png\n")
    assert [pair.name for pair in select_listed(find_pairs(tmp_path, "plain"), tmp_path / "split.txt")] == ["input/a b"]


def test_optional_sets_are_left_out_and_others_are_not(tmp_path, capsys):
    write(tmp_path, "test/input/1.png", "test/target/1.png")
    parts = {"here": TestSetConfig(folder="test"), "gone": TestSetConfig(folder="HIDE", optional=True)}
    assert pairs_of_sets(tmp_path, parts).keys() == {"here"}
    assert "skipping gone: no HIDE" in capsys.readouterr().out
    del parts["here"]
    with pytest.raises(InputError, match="none of the sets gone found"):
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
    with pytest.raises(InputError, match=r"indoor_labels.npy: not a valid \.npy file"):
        subset_positions(tmp_path, part, 3)
