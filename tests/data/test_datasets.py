"""Images, layouts, samples and the order they come in."""

from pathlib import Path

import numpy as np
import skimage.data
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from data.datasets import PairedImages, train_loader
from data.images import write_image
from data.layouts import Pair, find_pairs
from data.sampler import EpochSampler, derived_seed
from data.transforms import PairedCropFlip
from utils.padding import extend

CHELSEA = skimage.data.chelsea()


def drawn_by_torchvision(input, target, size, seed):
    """Whole images converted, then cropped and flipped by torchvision: what PairedCropFlip must equal."""
    pair = []
    for image in (input, target):
        whole = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1) / np.iinfo(image.dtype).max
        height, width = (max(have, want) for have, want in zip(whole.shape[-2:], size, strict=True))
        pair.append(tv_tensors.Image(extend(whole, height, width)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(*seed))
        return v2.Compose([v2.RandomCrop(size), v2.RandomHorizontalFlip(0.5)])(*pair)


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


def loading(pairs, num_workers):
    sampler = EpochSampler(len(pairs), batch_size=2, seed=5)
    return train_loader(pairs, (64, 64), sampler, seed=5, num_workers=num_workers), sampler


def batches(loader, sampler, epoch, batch=0):
    sampler.set_position(epoch, batch * sampler.batch_size)
    return [(batch["name"], batch["input"], batch["target"]) for batch in loader]


def test_samples_do_not_depend_on_the_number_of_workers(reside):
    pairs = find_pairs(reside / "train", "reside")
    runs = []
    for workers in (0, 1, 3):
        loader, sampler = loading(pairs, workers)
        torch.manual_seed(workers)
        runs.append([batch for epoch in (1, 2) for batch in batches(loader, sampler, epoch)])
    first = runs[0]
    assert sorted(name for batch in first[:3] for name in batch[0]) == sorted(pair.name for pair in pairs)
    for other in runs[1:]:
        for (names, inputs, targets), (names_2, inputs_2, targets_2) in zip(first, other, strict=True):
            assert names == names_2
            assert torch.equal(inputs, inputs_2)
            assert torch.equal(targets, targets_2)
    assert not torch.equal(first[0][1], first[3][1])


def test_loading_leaves_the_global_random_state_alone(reside):
    pairs = find_pairs(reside / "train", "reside")
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    PairedImages(pairs, PairedCropFlip((64, 64)))[1, 2]
    assert torch.equal(torch.rand(1), expected)


def damage(path: Path) -> Path:
    """Spoil what is between the header and the end, so that only decoding tells."""
    content = bytearray(path.read_bytes())
    content[60:2000] = bytes(1940)
    path.write_bytes(content)
    return path


def test_what_takes_its_place_follows_from_the_sample_alone(reside):
    damage(reside / "train" / "gt" / "10.png")  # two pairs of five
    pairs = find_pairs(reside / "train", "reside")
    samples = [PairedImages(pairs, PairedCropFlip((64, 64)), seed=1)[epoch, 0] for epoch in (1, 1, 2, 3, 4, 5, 6)]
    names = [sample["name"] for sample in samples]
    assert names[0] == names[1]
    assert {*names} <= {"hazy/11_1", "hazy/11_2", "hazy/12_1"}
    assert len({*names}) > 1
    assert all(list(sample["broken"]) == [str(reside / "train" / "gt" / "10.png")] for sample in samples)
