"""The cache of decoded images: the same samples, whatever happens to its files."""

import io
import os
import shutil

import numpy as np
import pytest
from album import CHELSEA
from conftest import assert_same_batches, batches, disk_full

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


def as_file(array):
    """The content of an .npy file."""
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def damaged(whole, other, rng):
    """What a cache file of CHELSEA may be found to contain: ``other`` is that of another image."""
    yield from (b"", whole[:40], whole[: len(whole) // 2], whole[:-1], whole + b"\0", bytes(len(whole)), other)
    yield whole[:128] + bytes(len(whole) - 128)  # a good header, as after a power cut
    yield whole[:4096] + bytes(len(whole) - 4096)
    shapes = [(5, 5), (300, 451), (1, 1, 1), (300, 451, 4), (0, 451, 3), (300 * 451 * 3,)]
    yield from (as_file(np.zeros(shape, np.uint8)) for shape in shapes)
    yield from (as_file(CHELSEA.astype(dtype)) for dtype in (np.int16, np.float32, bool, "U1", complex))
    yield as_file(CHELSEA).replace(b"(300, 451, 3)", b"(451, 300, 3)")
    for place in rng.integers(len(whole), size=20):
        yield whole[:place] + bytes([whole[place] ^ 1 << rng.integers(8)]) + whole[place + 1 :]


def test_damaged_files_of_the_cache_are_made_anew_with_one_line(tmp_path, capfd):
    for name, image in (("image", CHELSEA), ("other", CHELSEA[::-1])):
        write_image(tmp_path / f"{name}.png", image)
        DecodedCache(tmp_path / name).read(tmp_path / f"{name}.png")
    (file,), (other,) = ((tmp_path / name).iterdir() for name in ("image", "other"))
    whole = file.read_bytes()
    contents = list(damaged(whole, other.read_bytes(), np.random.default_rng(0)))
    assert len(contents) > 35
    for content in contents:
        cache = DecodedCache(tmp_path / "image")
        for _ in range(2):
            file.write_bytes(content)
            os.utime(file, ns=(0, 0))  # not that of the file before, on any clock
            assert np.array_equal(cache.read(tmp_path / "image.png"), CHELSEA)
            assert file.read_bytes() == whole
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith(f"data.cache: {file}: damaged; ")
        assert np.array_equal(cache.read(tmp_path / "image.png"), CHELSEA)
        assert isinstance(cache.read(tmp_path / "image.png"), np.memmap)
    assert [path.name for path in cache.folder.iterdir()] == [file.name]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("workers", [0, 2])
def test_samples_are_the_same_with_a_cache_after_a_power_cut(reside, tmp_path, capfd, workers):
    pairs = find_pairs(reside / "train", "reside")
    expected = batches(pairs)
    assert_same_batches(batches(pairs, cache=tmp_path / "cache"), expected)
    files = sorted((tmp_path / "cache").iterdir())
    before = [file.read_bytes() for file in files]
    for file, content in zip(files, before, strict=True):
        file.write_bytes(content[:128] + bytes(len(content) - 128))
    assert_same_batches(batches(pairs, cache=tmp_path / "cache", workers=workers), expected)
    assert len(capfd.readouterr().err.splitlines()) == 1
    assert [file.read_bytes() for file in files] == before


def test_a_cache_that_is_deleted_is_made_anew(tmp_path, capfd):
    write_image(tmp_path / "image.png", CHELSEA)
    cache = DecodedCache(tmp_path / "cache")
    for _ in range(2):
        assert np.array_equal(cache.read(tmp_path / "image.png"), CHELSEA)
        shutil.rmtree(tmp_path / "cache")
    assert capfd.readouterr().err == ""


def test_when_a_file_cannot_be_written_one_warning_says_so_and_loading_goes_on(tmp_path, capfd):
    """A write fails in the middle of an image."""
    for number in range(8):
        write_image(tmp_path / "clean" / f"{number}.png", CHELSEA)
    pairs = find_clean(tmp_path / "clean")
    expected = batches(pairs)
    with disk_full(CHELSEA.nbytes // 2):
        found = batches(pairs, cache=tmp_path / "cache", workers=3)
    assert_same_batches(found, expected)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"data.cache: {tmp_path / 'cache'}: ")
    assert list((tmp_path / "cache").iterdir()) == []
