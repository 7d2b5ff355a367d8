"""Samples: what is read and drawn for each, and what takes the place of a broken image."""

import torch
from album import CHELSEA, damage
from conftest import assert_same_batches, batches, drawn_by_torchvision

from data.datasets import PairedImages, evaluation_loader
from data.images import write_image
from data.layouts import Pair, find_clean, find_pairs
from data.transforms import PairedCropFlip


def test_of_a_larger_target_the_crop_is_taken_from_its_centre(tmp_path):
    write_image(tmp_path / "input.png", CHELSEA[10:290, 20:430])
    write_image(tmp_path / "target.png", CHELSEA)
    pair = Pair("input", tmp_path / "input.png", tmp_path / "target.png", centred=True)
    augment = PairedCropFlip((64, 64))
    whole = CHELSEA[10:290, 20:430]  # margins of 20 rows and 41 columns: the centre begins at row 10, column 20
    for index in range(10):
        sample = PairedImages([pair] * 10, augment)[1, index]
        input, target = drawn_by_torchvision(whole, whole, (64, 64), (0, 1, index))
        assert torch.equal(sample["input"], input)
        assert torch.equal(sample["target"], target)


def test_images_that_came_to_differ_in_size_are_named(tmp_path):
    write_image(tmp_path / "input.png", CHELSEA[:200, :200])
    write_image(tmp_path / "target.png", CHELSEA)
    pairs = [Pair("input", tmp_path / "input.png", tmp_path / "target.png")]
    sample = PairedImages(pairs, PairedCropFlip((64, 64)))[1, 0]
    assert "input" not in sample
    (problem,) = sample["broken"].values()
    assert problem.startswith(f"{pairs[0].input}: it is 200x200 pixels")
    assert "target.png is 451x300" in problem


def test_samples_do_not_depend_on_the_number_of_workers(reside):
    pairs = find_pairs(reside / "train", "reside")
    first = batches(pairs)
    assert sorted(name for batch in first[:3] for name in batch[0]) == sorted(pair.name for pair in pairs)
    for workers in (1, 3):
        torch.manual_seed(workers)
        assert_same_batches(batches(pairs, workers=workers), first)
    assert not torch.equal(first[0][1], first[3][1])


def test_loading_leaves_the_global_random_state_alone(reside):
    pairs = find_pairs(reside / "train", "reside")
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    PairedImages(pairs, PairedCropFlip((64, 64)))[1, 2]
    assert torch.equal(torch.rand(1), expected)


def test_what_takes_its_place_follows_from_the_sample_alone(reside):
    damage(reside / "train" / "gt" / "10.png")  # two pairs of five
    pairs = find_pairs(reside / "train", "reside")
    samples = [PairedImages(pairs, PairedCropFlip((64, 64)), seed=1)[epoch, 0] for epoch in (1, 1, 2, 3, 4, 5, 6)]
    names = [sample["name"] for sample in samples]
    assert names[0] == names[1]
    assert {*names} <= {"hazy/11_1", "hazy/11_2", "hazy/12_1"}
    assert len({*names}) > 1
    assert all(list(sample["broken"]) == [str(reside / "train" / "gt" / "10.png")] for sample in samples)


def test_a_test_image_is_always_degraded_in_the_same_way_and_each_differently(reside):
    pairs = find_clean(reside / "train" / "gt")
    whole = list(evaluation_loader(pairs, 0, "haze"))
    (share,) = evaluation_loader(pairs[1:2], 1, "haze")
    assert torch.equal(share["input"], whole[1]["input"])
    same = [Pair(name, pairs[0].input, pairs[0].input) for name in "ab"]
    one, other = (batch["input"] for batch in evaluation_loader(same, 0, "haze"))
    assert not torch.equal(one, other)
