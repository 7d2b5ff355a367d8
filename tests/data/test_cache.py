"""The cache of decoded images: the same samples, whatever happens to its files."""

import os
import resource

import numpy as np
import pytest
from album import CHELSEA
from conftest import assert_same_batches, batches

from data.cache import DecodedCache
from data.images import read_image, write_image
from data.layouts import find_clean, find_pairs


def destroy(path):
    """Overwrite an image so that its length and time of change stay: only what was decoded before still has it."""
    status = path.stat()
    path.write_bytes(bytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("workers", [0, 3])
def test_samples_are_the_same_with_a_cache_and_each_image_is_decoded_once(reside, tmp_path, workers):
    pairs = find_pairs(reside / "train", "reside")
    deep = reside / "train" / "gt" / "12.png"
    write_image(deep, read_image(deep) * np.uint16(257) + np.uint16(5))
    expected = batches(pairs)
    cache = tmp_path / "made" / "cache"
    assert_same_batches(batches(pairs, cache=cache, workers=workers), expected)
    paths = {path for pair in pairs for path in (pair.input, pair.target)}
    assert len(paths) == 8
    assert sorted(file.suffix for file in cache.iterdir()) == [".npy"] * 8
    for path in paths:
        destroy(path)
    assert_same_batches(batches(pairs, cache=cache, workers=workers), expected)


def test_degraded_inputs_are_the_same_with_a_cache(reside, tmp_path):
    pairs = find_clean(reside / "train" / "gt")
    expected = batches(pairs, degrade="rain")
    for _ in range(2):
        assert_same_batches(batches(pairs, cache=tmp_path / "cache", degrade="rain"), expected)


def test_a_changed_image_is_decoded_anew(tmp_path):
    path = tmp_path / "image.png"
    write_image(path, CHELSEA)
    cache = DecodedCache(tmp_path / "cache")
    assert np.array_equal(cache.read(path), CHELSEA)
    destroy(path)
    assert np.array_equal(cache.read(path), CHELSEA)
    write_image(path, CHELSEA[::-1])
    assert np.array_equal(cache.read(path), CHELSEA[::-1])
    moved = path.rename(tmp_path / "moved.png")
    write_image(path, CHELSEA[:, ::-1])
    assert np.array_equal(cache.read(moved), CHELSEA[::-1])


def test_damaged_files_of_the_cache_are_made_anew(tmp_path):
    path = tmp_path / "image.png"
    write_image(path, CHELSEA)
    cache = DecodedCache(tmp_path / "cache")
    cache.read(path)
    (file,) = cache.folder.iterdir()
    whole = file.read_bytes()
    for content in (whole[:-1], whole[: len(whole) // 2], whole[:40], b"", bytes(len(whole))):
        file.write_bytes(content)
        assert np.array_equal(cache.read(path), CHELSEA)
        assert file.read_bytes() == whole
    assert len(list(cache.folder.iterdir())) == 1


def test_when_a_file_cannot_be_written_one_warning_says_so_and_loading_goes_on(tmp_path, capfd):
    """A limit on the length of files stands for the full disk: a write fails in the middle of an image."""
    for number in range(8):
        write_image(tmp_path / "clean" / f"{number}.png", CHELSEA)
    pairs = find_clean(tmp_path / "clean")
    expected = batches(pairs)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (CHELSEA.nbytes // 2, limits[1]))
    try:
        found = batches(pairs, cache=tmp_path / "cache", workers=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert_same_batches(found, expected)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"data.cache: {tmp_path / 'cache'}: ")
    assert list((tmp_path / "cache").iterdir()) == []
