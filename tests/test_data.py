"""Images, layouts, samples and the order they come in."""

import os

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from data.datasets import PairedImages, train_loader
from data.images import image_header, read_image, write_image
from data.layouts import Pair, find_pairs, pair_folders
from data.sampler import EpochSampler, derived_seed
from data.survey import check_pairs
from data.synthetic.degradations import haze
from data.synthetic.depth import depth_from_disparity, smooth_depth
from data.transforms import PairedCropFlip, to_tensor
from utils.errors import InputError
from utils.padding import extend

CHELSEA = skimage.data.chelsea()


def saved(path, image, **options):
    Image.fromarray(image).save(path, **options)
    return path


def test_every_kind_of_image_is_read_as_rgb(tmp_path):
    grey = cv2.cvtColor(CHELSEA, cv2.COLOR_RGB2GRAY)
    alpha = np.dstack([CHELSEA, np.full(grey.shape, 128, np.uint8)])
    palette = Image.fromarray(CHELSEA).quantize(64)
    palette.save(tmp_path / "palette.png")
    assert np.array_equal(read_image(saved(tmp_path / "rgb.png", CHELSEA)), CHELSEA)
    assert np.array_equal(read_image(saved(tmp_path / "alpha.png", alpha)), CHELSEA)
    assert np.array_equal(read_image(saved(tmp_path / "grey.png", grey)), np.dstack([grey] * 3))
    assert np.array_equal(read_image(tmp_path / "palette.png"), np.asarray(palette.convert("RGB")))
    Image.fromarray(CHELSEA).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    assert read_image(tmp_path / "cmyk.jpg").shape == CHELSEA.shape
    for suffix in ("jpg", "webp", "bmp", "tif"):
        image = read_image(saved(tmp_path / f"übung mit leerzeichen.{suffix}", CHELSEA, quality=95))
        assert np.abs(image.astype(int) - CHELSEA).mean() < 4


def test_sixteen_bits_survive_reading_writing_and_the_tensor(tmp_path):
    image = np.random.default_rng(0).integers(0, 65536, (20, 30, 3), np.uint16)
    write_image(tmp_path / "deep" / "16.png", image)
    assert np.array_equal(read_image(tmp_path / "deep" / "16.png"), image)
    tensor = to_tensor(image)
    assert tensor.dtype == torch.float32
    assert np.array_equal((tensor * 65535).round().numpy().astype(np.uint16), image.transpose(2, 0, 1))


def test_exif_orientation_counts_for_pixels_and_size(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "turned.jpg", CHELSEA, exif=exif)
    height, width = CHELSEA.shape[:2]
    assert read_image(path).shape == (width, height, 3)
    assert image_header(path)[:2] == (width, height)


def broken_files(folder):
    png = saved(folder / "whole.png", CHELSEA).read_bytes()
    jpg = saved(folder / "whole.jpg", CHELSEA).read_bytes()
    contents = {
        "cut.png": png[: len(png) // 2],
        "cut.jpg": jpg[: len(jpg) // 2],
        "text.png": b"no image",
        "empty.png": b"",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in (*contents, "missing.png")]


def test_broken_images_are_named(tmp_path):
    for path in broken_files(tmp_path):
        for look in (read_image, image_header):
            with pytest.raises(InputError, match=path.name):
                look(path)


def test_reside_pairs_many_inputs_with_one_target(reside):
    pairs = find_pairs(reside / "train", "reside")
    assert [pair.name for pair in pairs] == ["hazy/10_1", "hazy/10_2", "hazy/11_1", "hazy/11_2", "hazy/12_1"]
    assert [pair.target.name for pair in pairs] == ["10.png", "10.png", "11.png", "11.png", "12.png"]
    check_pairs(pairs)


def test_reside_as_published_and_other_spellings(reside):
    (reside / "train" / "gt").rename(reside / "train" / "Clear")
    (reside / "train" / "hazy").rename(reside / "train" / "HAZY")
    assert len(find_pairs(reside / "train", "reside")) == 5
    saved(reside / "test" / "hazy" / "0001_0.8_0.2.jpg", CHELSEA)
    saved(reside / "test" / "gt" / "0001.png", CHELSEA)
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
    with pytest.raises(InputError, match=r"unknown layout 'mine'"):
        find_pairs(train, "mine")
    with pytest.raises(InputError, match=r"no input images; layout 'plain' looks for input/\{id\}"):
        find_pairs(train, "plain")
    saved(train / "gt" / "10.jpg", CHELSEA)
    with pytest.raises(InputError, match=r"there twice: .*10.jpg and .*10.png"):
        find_pairs(train, "reside")
    (train / "gt" / "10.jpg").unlink()
    (train / "gt" / "12.png").rename(train / "gt" / "13.png")
    with pytest.raises(InputError, match=r"1 input image without a target: .*12_1.png"):
        find_pairs(train, "reside")
    (train / "hazy" / "12_1.png").unlink()
    with pytest.raises(InputError, match=r"1 target image without an input: .*13.png"):
        find_pairs(train, "reside")


def test_sizes_and_broken_images_are_found_before_training(reside):
    pairs = find_pairs(reside / "train", "reside")
    saved(reside / "train" / "gt" / "12.png", CHELSEA)
    with pytest.raises(InputError, match=r"1 pair of different size: .*12_1.png \(100x70\) and .*12.png \(451x300\)"):
        check_pairs(pairs)
    (reside / "train" / "hazy" / "10_2.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"1 broken image: .*10_2.png"):
        check_pairs(pairs)


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


@pytest.mark.parametrize(
    "height, width", [(300, 451), (64, 96), (64, 300), (200, 96), (40, 64), (63, 300), (2, 5), (1, 1)]
)
def test_crops_are_bit_for_bit_those_of_torchvision_on_whole_images(height, width):
    image = CHELSEA[:height, :width]
    for kind in (image, image * np.uint16(257) + np.uint16(3)):
        for index in range(12):
            seed = (7, 1, index)
            ours = PairedCropFlip((64, 96))(kind, kind[::-1], seed)
            for crop, expected in zip(ours, drawn_by_torchvision(kind, kind[::-1], (64, 96), seed), strict=True):
                assert crop.dtype == torch.float32
                assert crop.is_contiguous()
                assert torch.equal(crop, expected)


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
    assert problem.startswith(f"{pairs[0].input}: it has 200x200 pixels")
    assert "target.png 451x300" in problem


def test_crops_and_flips_vary_and_are_the_same_for_both_images():
    augment = PairedCropFlip((64, 96))
    crops = [augment(CHELSEA, CHELSEA, seed=(0, 1, index)) for index in range(30)]
    assert all(torch.equal(input, target) for input, target in crops)
    assert len({float(input.sum()) for input, _ in crops}) == 30
    corner = CHELSEA[:64, :96]
    flips = [augment(corner, corner, (0, 1, index))[0] for index in range(30)]
    unflipped = sum(torch.equal(flip, to_tensor(corner)) for flip in flips)
    assert 5 < unflipped < 25
    assert all(torch.equal(flip, to_tensor(corner)) or torch.equal(flip.flip(-1), to_tensor(corner)) for flip in flips)


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


def loading(pairs, num_workers):
    sampler = EpochSampler(len(pairs), batch_size=2, seed=5)
    return train_loader(pairs, (64, 64), sampler, seed=5, num_workers=num_workers), sampler


def batches(loader, sampler, epoch, batch=0):
    sampler.set_position(epoch, batch)
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


def test_an_epoch_can_be_entered_in_the_middle(reside):
    pairs = find_pairs(reside / "train", "reside")
    loader, sampler = loading(pairs, 0)
    whole = batches(loader, sampler, epoch=2)
    rest = batches(loader, sampler, epoch=2, batch=1)
    assert [names for names, *_ in rest] == [names for names, *_ in whole[1:]]
    assert all(torch.equal(a[1], b[1]) for a, b in zip(rest, whole[1:], strict=True))


def test_loading_leaves_the_global_random_state_alone(reside):
    pairs = find_pairs(reside / "train", "reside")
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    PairedImages(pairs, PairedCropFlip((64, 64)))[1, 2]
    assert torch.equal(torch.rand(1), expected)


def test_orders_differ_between_epochs_and_seeds():
    orders = set()
    for seed in (0, 1):
        sampler = EpochSampler(50, batch_size=8, seed=seed)
        for epoch in (1, 2):
            sampler.set_position(epoch, batch=0)
            order = tuple(index for batch in sampler for _, index in batch)
            assert sorted(order) == list(range(50))
            orders.add(order)
    assert len(orders) == 4


@given(st.integers(1, 40), st.integers(1, 8), st.integers(1, 5), st.integers(0, 3))
def test_processes_share_each_batch(length, batch_size, processes, skipped):
    """Together they have the batches of one process, and the weighted mean of their means is the whole's."""
    alone = EpochSampler(length, batch_size, seed=3)
    ranks = [EpochSampler(length, batch_size, 3, rank, processes) for rank in range(processes)]
    for sampler in (alone, *ranks):
        sampler.set_position(epoch=4, batch=min(skipped, alone.batches))
    for number, (whole, *shares) in enumerate(zip(alone, *ranks, strict=True), alone.batch):
        weights = [sampler.weight(number) for sampler in ranks]
        mean = sum(w * np.mean([index for _, index in share]) for w, share in zip(weights, shares, strict=True))
        assert mean / processes == pytest.approx(np.mean([index for _, index in whole]))
        if len(whole) >= processes:
            assert sorted(sample for share in shares for sample in share) == sorted(whole)
        else:
            assert all(share == whole for share in shares)


def test_haze_follows_the_scattering_model():
    clear = CHELSEA.astype(np.float32) / 255
    depth = smooth_depth(*CHELSEA.shape[:2], np.random.default_rng(1))
    assert depth.min() == pytest.approx(0.2)
    assert depth.max() == pytest.approx(1.0)
    hazy = haze(clear, depth, beta=1.2, airlight=0.8)
    transmission = np.exp(-1.2 * depth)[..., None]
    recovered = (hazy - 0.8) / transmission + 0.8
    np.testing.assert_allclose(recovered, clear, atol=1e-5)
    np.testing.assert_allclose(haze(clear, depth * 0, 1.2, 0.8), clear)
    assert np.abs(haze(clear, depth + 50, 1.2, 0.8) - 0.8).max() < 1e-6


def test_depth_of_the_motorcycle_is_metric_and_filled():
    *_, disparity = skimage.data.stereo_motorcycle()
    depth = depth_from_disparity(disparity, focal=994.978, offset=31.086, baseline=193.001)
    known = np.isfinite(disparity)
    assert not known.all()
    assert np.isfinite(depth).all()
    np.testing.assert_allclose(depth[known], 193.001 * 994.978 / (disparity[known] + 31.086), rtol=1e-5)
    assert 1500 < depth.min() < depth.max() < 7000  # millimetres: a motorcycle in a garage
