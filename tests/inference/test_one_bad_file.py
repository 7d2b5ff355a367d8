"""restore.py: whatever goes wrong with one file is one line, and the other files are restored."""

import os
import struct

import cv2
import numpy as np
import pytest
import torch
from album import PHOTO
from conftest import SMALL, assert_refused, awake, errors_of, run_script, save_model
from PIL import Image

from models import build_model

SMALL_SIDE = 40


def faults() -> list[Exception]:
    """New each time: an error that has been raised keeps the tensors of its traceback."""
    return [
        MemoryError(),
        RecursionError("maximum recursion depth exceeded"),
        struct.error("argument out of range"),
        SystemError("error return without exception set"),
        ZeroDivisionError("division by zero"),
        cv2.error("OpenCV: assertion failed"),
        UnicodeEncodeError("ascii", "\u4e2d", 0, 1, "ordinal not in range"),
        PermissionError(13, "Permission denied"),
        OSError("encoder error -2"),
        AssertionError(),
        KeyError("dpi"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 TB"),
    ]


@pytest.fixture
def three(tmp_path):
    """A folder with three images, of which the first is small."""
    (tmp_path / "in").mkdir()
    for name, image in (("a", PHOTO[:SMALL_SIDE, :SMALL_SIDE]), ("b", PHOTO.repeat(3, 1)), ("c", PHOTO.repeat(3, 1))):
        Image.fromarray(image).save(tmp_path / "in" / f"{name}.png")
    return tmp_path


def restore(root, weights, *options):
    return run_script("restore.py", "--weights", weights, "--input", root / "in", "--output", root / "out", *options)


def results(root) -> list[str]:
    return sorted(path.name for path in (root / "out").rglob("*") if path.is_file() and path.name[0] != ".")


def test_any_error_while_a_file_is_written_is_one_line(tmp_path, small_weights, monkeypatch):
    sides = {SMALL_SIDE + index: fault for index, fault in enumerate(faults())}
    (tmp_path / "in").mkdir()
    for side in range(SMALL_SIDE, SMALL_SIDE + len(sides) + 2):
        Image.fromarray(PHOTO[:side]).save(tmp_path / "in" / f"{side}.jpg")
    function = Image.fromarray

    def failing(pixels, *args, **options):
        if pixels.shape[0] in sides:
            raise sides[pixels.shape[0]]
        return function(pixels, *args, **options)

    monkeypatch.setattr(Image, "fromarray", failing)
    result = restore(tmp_path, small_weights)
    monkeypatch.undo()
    assert result.returncode == 2
    lines = result.stderr.splitlines()
    assert len(lines) == len(errors_of(result)) == len(sides), result.stderr
    for side, line in zip(sides, lines, strict=True):
        assert f"{side}.jpg: " in line
    assert f"2 restored, 0 skipped, {len(sides)} failed" in result.stdout
    again = restore(tmp_path, small_weights)
    assert (again.returncode, len(results(tmp_path))) == (0, len(sides) + 2)


@pytest.mark.parametrize("index", [0, -2, -1], ids=lambda index: type(faults()[index]).__name__)
def test_any_error_within_the_network_is_one_line(three, small_weights, monkeypatch, index):
    function = torch.nn.functional.conv2d

    def failing(x, *args, **options):
        if x.shape[1] == 3 and max(x.shape[-2:]) <= 64:  # the small image, as a whole and in tiles
            raise faults()[index]
        return function(x, *args, **options)

    monkeypatch.setattr(torch.nn.functional, "conv2d", failing)
    result = restore(three, small_weights)
    monkeypatch.undo()
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {three / 'in' / 'a.png'}: ")
    assert "2 restored, 0 skipped, 1 failed" in result.stdout
    assert results(three) == ["b.png", "c.png"]


def test_results_that_cannot_be_written_are_named(three, small_weights):
    long = "n" * 250 + ".png"  # its comparison would have a name of more than 255 bytes
    os.link(three / "in" / "a.png", three / "in" / long)
    for folder in ("file", "sound"):
        (three / "in" / folder).mkdir()
        os.link(three / "in" / "a.png", three / "in" / folder / "d.png")
    (three / "out").mkdir()
    (three / "out" / "file").write_text("mine")
    (three / "in" / "deep.jpg").write_bytes(cv2.imencode(".png", PHOTO.astype(np.uint16))[1])
    result = restore(three, small_weights, "--compare")
    assert result.returncode == 2
    errors = errors_of(result)
    assert len(errors) == len(result.stderr.splitlines()) == 3
    for name, reason in (("n" * 50, "File name too long"), ("out/file", ""), ("deep.jpg", "use .png or .tif")):
        assert any(name in line and reason in line for line in errors), (name, errors)
    assert "4 restored, 0 skipped, 3 failed" in result.stdout
    assert (three / "out" / "file").read_text() == "mine"


def overflowing(state: dict) -> None:
    for name, value in state.items():
        if value.is_floating_point() and name.endswith("weight"):
            value *= 1e30


def overflowing_biases(state: dict) -> None:
    for name, value in state.items():
        if name.endswith("bias"):
            value.fill_(3e38)


@pytest.fixture(scope="module", params=[overflowing, overflowing_biases], ids=lambda damage: damage.__name__)
def damaged(request, tmp_path_factory):
    """Weights that are finite, with which no output is."""
    torch.manual_seed(0)
    model = awake(build_model(**SMALL))
    state = model.state_dict()
    request.param(state)
    model.load_state_dict(state)
    return save_model(tmp_path_factory.mktemp("damaged") / "best.pt", model, SMALL)


@pytest.mark.parametrize("options", [(), ("--tile=64",), ("--self-ensemble",)], ids=str)
def test_a_result_that_is_not_finite_is_not_written(three, damaged, options):
    result = restore(three, damaged, *options)
    assert result.returncode == 2
    assert len(errors_of(result)) == len(result.stderr.splitlines()) == 3
    for name, line in zip("abc", errors_of(result), strict=True):
        assert f"{three / 'in' / name}.png: the restored image is not finite" in line
    assert results(three) == []
    assert "0 restored, 0 skipped, 3 failed" in result.stdout


def test_scores_that_are_not_finite_are_not_written(three, damaged):
    folders = ("--input", three / "in", "--target", three / "in", "--output", three / "scores")
    result = run_script("test.py", "--weights", damaged, *folders)
    assert result.returncode == 2
    assert "is not finite" in result.stderr
    assert not (three / "scores" / "metrics.json").exists()


def test_a_full_disk_ends_the_job_with_one_line(three, small_weights, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert_refused(restore(three, small_weights), three / "out", "No space left on device")
    monkeypatch.undo()
    assert [path.name for path in (three / "out").glob("*") if path.suffix != ".json"] == []
