"""restore.py reads the next image and writes the last one while the network runs; nothing else changes."""

import re
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import psutil
import pytest
import torch
from album import ALPHA, DEEP, PHOTO
from conftest import run_script
from PIL import Image

LARGE = 3000  # bytes of an image file, but not of those on which metadata are tried


def restore(root: Path, weights: Path, *options: str):
    return run_script("restore.py", "--weights", weights, "--input", root / "in", "--output", root / "out", *options)


def write_images(root: Path, count: int) -> None:
    (root / "in").mkdir()
    for index in range(count):
        Image.fromarray(np.roll(PHOTO, index, 0)).save(root / "in" / f"{index}.jpg", quality=95)


@pytest.fixture
def decoders(monkeypatch) -> list[bool]:
    """For each image that is decoded, whether that happens in the main thread."""
    found: list[bool] = []
    function = cv2.imdecode

    def decode(content, flags):
        if len(content) > LARGE:
            found.append(threading.current_thread() is threading.main_thread())
        return function(content, flags)

    monkeypatch.setattr(cv2, "imdecode", decode)
    return found


def test_images_are_read_and_written_while_the_network_runs(small_weights, tmp_path, monkeypatch):
    """Reading waits for the network of the image before, and writing for that of the image after."""
    write_images(tmp_path, 4)
    conv2d, imdecode, save = torch.nn.functional.conv2d, cv2.imdecode, Image.Image.save
    convolutions, reads, writes = [], [], []

    def network_goes_on() -> bool:
        count, deadline = len(convolutions), time.monotonic() + 20
        while len(convolutions) == count and time.monotonic() < deadline:
            time.sleep(0.001)
        return len(convolutions) > count

    def convolve(*args, **options):
        convolutions.append(None)
        return conv2d(*args, **options)

    def decode(content, flags):
        if len(content) > LARGE:
            reads.append(network_goes_on() if reads else None)
        return imdecode(content, flags)

    def encode(image, *args, **options):
        if image.size == PHOTO.shape[1::-1]:
            writes.append(network_goes_on() if len(writes) < 3 else None)
        return save(image, *args, **options)

    monkeypatch.setattr(torch.nn.functional, "conv2d", convolve)
    monkeypatch.setattr(cv2, "imdecode", decode)
    monkeypatch.setattr(Image.Image, "save", encode)
    result = restore(tmp_path, small_weights)
    assert (result.returncode, result.stderr) == (0, "")
    assert reads == [None, True, True, True]
    assert writes == [True, True, True, None]


def test_no_line_is_lost_while_messages_of_a_decoder_are_captured(small_weights, tmp_path, monkeypatch):
    write_images(tmp_path, 4)
    imdecode = cv2.imdecode

    def slow(content, flags):
        time.sleep(0.3)
        return imdecode(content, flags)

    def failing(*args, **options):
        time.sleep(0.05)
        raise RuntimeError("the network fails")

    monkeypatch.setattr(cv2, "imdecode", slow)
    monkeypatch.setattr(torch.nn.functional, "conv2d", failing)
    result = restore(tmp_path, small_weights)
    assert result.returncode == 2
    assert [re.search(r"/(\d)\.jpg: ", line)[1] for line in result.stderr.splitlines()] == list("0123")


def test_lines_have_the_order_of_the_files(small_weights, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    kinds = {
        "cmyk": "converted from CMYK",
        "cut": "truncated",
        "deep": "cannot store 16-bit images",
        "alpha": "alpha channel",
        "plain": "",
    }
    names = [f"{index:02}_{kind}.jpg" for index, kind in enumerate([*kinds] * 2 + [*reversed(kinds)])]
    Image.fromarray(PHOTO).save(tmp_path / "plain.jpg", quality=95)
    plain = (tmp_path / "plain.jpg").read_bytes()
    for name in names:
        path = tmp_path / "in" / name
        match name[3:-4]:
            case "cmyk":
                Image.fromarray(PHOTO).convert("CMYK").save(path)
            case "alpha":
                Image.fromarray(np.dstack([PHOTO, ALPHA])).save(path, "PNG")
            case "deep":
                path.write_bytes(cv2.imencode(".png", DEEP)[1])
            case kind:
                path.write_bytes(plain[: len(plain) // (2 if kind == "cut" else 1)])
    save = Image.Image.save

    def slow(*args, **options):
        time.sleep(0.05)
        return save(*args, **options)

    monkeypatch.setattr(Image.Image, "save", slow)
    result = restore(tmp_path, small_weights)
    assert result.returncode == 2
    lines = result.stderr.splitlines()
    expected = [name for name in names if "plain" not in name]
    assert [re.search(r"/(\d\d_\w+\.jpg): ", line)[1] for line in lines] == expected
    for name, line in zip(expected, lines, strict=True):
        assert kinds[name[3:-4]] in line
    assert "9 restored, 0 skipped, 6 failed" in result.stdout


def test_an_image_that_cannot_be_read_beside_another_is_read_alone(small_weights, tmp_path, monkeypatch, decoders):
    write_images(tmp_path, 3)
    decode = cv2.imdecode

    def failing(content, flags):
        image = decode(content, flags)
        if len(content) > LARGE and not decoders[-1]:
            raise MemoryError
        return image

    monkeypatch.setattr(cv2, "imdecode", failing)
    result = restore(tmp_path, small_weights)
    assert (result.returncode, result.stderr) == (0, "")
    assert decoders == [True, False, True, False, True]
    assert "3 restored, 0 skipped, 0 failed" in result.stdout


@pytest.mark.parametrize("megabytes, ahead", [(5.5, False), (1000, True)])
def test_nothing_is_read_ahead_where_memory_is_short(small_weights, tmp_path, monkeypatch, decoders, megabytes, ahead):
    write_images(tmp_path, 3)
    memory = SimpleNamespace(available=int(megabytes * 1e6))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    result = restore(tmp_path, small_weights)
    assert (result.returncode, result.stderr) == (0, "")
    assert decoders == [True] + [not ahead] * 2
