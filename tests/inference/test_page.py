"""What the page does with uploads, without a browser."""

import os
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from album import CHELSEA, PHOTO, png_of, save_image
from clips import Decoded, pan, write_clip
from conftest import disk_full, run_script

from data.images import read_image
from inference import Restorer
from inference.finite import ADVICE
from inference.page import work
from inference.page.tasks import TASKS, example_of, write_example
from inference.page.work import KEPT_SECONDS, Outcome, Workshop, in_own_words, write_zip
from inference.photo_files import read_photograph
from inference.shipped import TASKS as SHIPPED
from utils.errors import InputError


@pytest.fixture(scope="module")
def restorer(small_weights) -> Restorer:
    return Restorer(small_weights, "cpu")


def restored(folder: Path, restorer: Restorer, *uploads: Path, stop_after: float = 2) -> tuple[Outcome, list]:
    """The outcome and all reports; the user cancels when more than the fraction ``stop_after`` is done."""
    reports, stop = [], threading.Event()

    def report(done: float, text: str) -> None:
        reports.append((done, text))
        if done > stop_after:
            stop.set()

    return Workshop(folder).restore(uploads, restorer, False, report, stop), reports


def test_results_equal_those_of_restore_and_errors_are_in_the_page_s_own_words(album, restorer, tmp_path):
    source, output, _ = album
    uploads = [path for path in sorted(source.iterdir()) if path.is_file() and path.name != "wide.png"]  # which is slow
    outcome, _ = restored(tmp_path, restorer, *uploads)
    assert not outcome.stopped
    assert len(outcome.results) + len(outcome.failures) == len(uploads)
    assert len(outcome.results) > 15
    for result in outcome.results:
        assert result.path.name.startswith(f"restored_{result.name}")
        same = output / result.path.name.removeprefix("restored_")
        assert result.path.read_bytes() == same.read_bytes(), result.name
        before, after, upload = (read_photograph(path) for path in (result.before, result.after, source / result.name))
        assert before.colour.dtype == upload.colour.dtype
        assert before.icc == after.icc == upload.icc
        np.testing.assert_array_equal(before.colour.squeeze(), upload.colour.squeeze())
        assert f"{upload.colour.shape[1]} × {upload.colour.shape[0]}" in result.details
    for name in ("plain.png", "deep.png"):  # as lossless as the views
        (result,) = (result for result in outcome.results if result.name == name)
        np.testing.assert_array_equal(read_image(result.after), read_image(result.path))
    failed = [line.split(":")[0] for line in outcome.failures]
    assert failed == [path.name for path in uploads if path.name in failed]
    assert {"bomb.png", "cut.jpg", "empty.png", "text.mp4", "text.png"} <= set(failed)
    assert [line for line in outcome.failures if "--" in line or ".py" in line or "/" in line] == []
    assert list(tmp_path.rglob("*.parts")) == []


@pytest.mark.parametrize(
    "name, content, mentions",
    [
        ("notes.txt", b"text", "not an image or a video; JPEG, PNG"),
        ("noname", b"text", "not an image or a video"),
        ("raw.CR2", b"raw", "develop it to .tif or .png"),
        ("large.png", png_of(11_000, 10_000), "110 megapixels, but the page restores up to 100"),
        ("<b>.mp4", b"", "not a video"),
    ],
)
def test_what_cannot_be_restored_says_what_to_do(restorer, tmp_path, name, content, mentions):
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / name).write_bytes(content)
    outcome, _ = restored(tmp_path, restorer, tmp_path / "up" / name)
    (line,) = outcome.failures
    assert line.startswith(f"{name}: ")
    assert mentions in line
    assert str(tmp_path) not in line
    assert "--" not in line


@pytest.mark.parametrize(
    "text, words",
    [
        ("/up/a.mp4: cannot be written (no space); choose another --output", "a.mp4: cannot be written (no space)"),
        (
            f"the restored image is not finite; {ADVICE}",
            "a.png: the restored image is not finite; the weights are damaged, or the precision is too low",
        ),
        ("/up/a.png: not a readable image (bad -- header)", "a.png: not a readable image (bad -- header)"),
    ],
)
def test_options_of_the_command_line_are_no_advice_for_the_page(text, words):
    assert in_own_words(InputError(text), words.split(":")[0], Path("/up")) == words


def test_an_upload_that_was_removed_is_to_be_dropped_again(restorer, tmp_path):
    outcome, _ = restored(tmp_path, restorer, tmp_path / "gone.png")
    assert outcome.failures == ["gone.png: uploads are removed after an hour; drop it again"]


def test_a_full_disk_is_one_line_and_leaves_nothing(restorer, tmp_path):
    save_image(tmp_path / "photo.png", PHOTO)
    with disk_full(100):
        outcome, _ = restored(tmp_path, restorer, tmp_path / "photo.png")
    assert outcome.results == []
    (line,) = outcome.failures
    assert line.startswith("photo.png: ") or line.startswith("result/restored_photo.png: ")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "photo.png"]


@pytest.mark.parametrize("rotation", [0, 90])
def test_a_video_equals_that_of_restore_and_one_of_its_frames_is_shown_upright(
    small_weights, restorer, tmp_path, rotation
):
    clip = write_clip(tmp_path / "clip.mp4", pan(5), rotation=rotation, sound=True)
    outcome, reports = restored(tmp_path, restorer, clip)
    assert outcome.failures == []
    (result,) = outcome.results
    script = run_script("restore.py", "--weights", small_weights, "--input", clip, "--output", tmp_path / "out")
    assert script.returncode == 0, script.stderr
    assert result.path.read_bytes() == (tmp_path / "out" / "clip.mp4").read_bytes()
    shown, decoded = read_image(result.before).astype(int), Decoded(clip)
    upright = np.rot90(decoded.images[2], decoded.traits["rotation"] // 90)
    assert shown.shape == read_image(result.after).shape == upright.shape
    assert np.abs(shown - upright).mean() < 3  # the decoders convert colours differently
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)


def test_progress_names_files_and_the_time_left(restorer, tmp_path, monkeypatch):
    monkeypatch.setattr(work, "ESTIMATE_SECONDS", 0.1)
    uploads = [save_image(tmp_path / f"{name}.png", PHOTO) for name in "ab"]
    stop, reports = threading.Event(), []

    def report(done: float, text: str) -> None:
        reports.append((done, text))
        time.sleep(0.05)

    Workshop(tmp_path).restore(uploads, restorer, True, report, stop)
    assert reports[0] == (0, "a.png (1 of 2)")
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)
    assert "b.png (2 of 2), about " in reports[-1][1]
    assert reports[-1][1].endswith(" left")


def test_cancelling_keeps_what_is_done(restorer, tmp_path):
    uploads = [save_image(tmp_path / f"{name}.png", PHOTO) for name in "abc"]
    outcome, reports = restored(tmp_path, restorer, *uploads, stop_after=0.3)
    assert outcome.stopped
    assert [result.name for result in outcome.results] == ["a.png"]
    assert outcome.results[0].path.exists()
    assert max(done for done, _ in reports) < 0.7


def test_cancelling_does_not_wait_for_the_end_of_a_pass(restorer, tmp_path):
    """An image of less than a megapixel is one pass, which reports nothing before its end."""
    upload = save_image(tmp_path / "photo.png", CHELSEA)
    stop, passed = threading.Event(), []
    layers = list(restorer.model.modules())
    hooks = [layers[1].register_forward_hook(lambda *_: stop.set())]
    hooks += [layers[-1].register_forward_hook(lambda *_: passed.append(1))]
    try:
        outcome = Workshop(tmp_path).restore([upload], restorer, False, lambda done, text: None, stop)
    finally:
        for hook in hooks:
            hook.remove()
    assert outcome.stopped
    assert passed == []
    assert not [hooked for layer in layers for hooked in layer._forward_pre_hooks]
    assert not list(tmp_path.glob("job-*/*"))


def test_an_upload_may_be_removed_while_its_video_is_restored(restorer, tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", pan(3))

    def report(done: float, text: str) -> None:
        if done > 0.3:
            clip.unlink(missing_ok=True)

    outcome = Workshop(tmp_path).restore([clip], restorer, False, report, threading.Event())
    assert outcome.failures == []
    assert not clip.exists()


def test_old_results_are_removed_but_not_those_at_work(restorer, tmp_path):
    workshop = Workshop(tmp_path)
    upload = save_image(tmp_path / "photo.png", PHOTO)
    old, recent = (
        workshop.restore([upload], restorer, False, lambda done, text: None, threading.Event()).results[0].path
        for _ in range(2)
    )
    long_ago = time.time() - KEPT_SECONDS - 1
    os.utime(old.parents[2], (long_ago, long_ago))

    def report(done: float, text: str) -> None:
        for job in workshop.busy:
            os.utime(job, (long_ago, long_ago))
        workshop.tidy()

    outcome = workshop.restore([upload], restorer, False, report, threading.Event())
    assert len(outcome.results) == 1
    assert (old.exists(), recent.exists(), upload.exists()) == (False, True, True)


def test_equal_names_are_numbered_in_the_zip(restorer, tmp_path):
    uploads = []
    for folder in "ab":
        (tmp_path / folder).mkdir()
        uploads.append(save_image(tmp_path / folder / "photo.png", PHOTO if folder == "a" else CHELSEA))
    outcome, _ = restored(tmp_path, restorer, *uploads)
    with zipfile.ZipFile(write_zip(outcome.results)) as archive:
        assert archive.namelist() == ["restored_photo.png", "2_restored_photo.png"]
        contents = [archive.read(name) for name in archive.namelist()]
    assert contents == [result.path.read_bytes() for result in outcome.results]


def test_each_shipped_task_has_a_line_and_an_example_of_its_own(tmp_path):
    assert tuple(TASKS) == SHIPPED
    seen = []
    for task, about in TASKS.items():
        assert about.line
        example = example_of(task)
        assert max(example.shape) >= 400
        np.testing.assert_array_equal(read_image(write_example(task, tmp_path)), example)
        seen.append(example.mean())
    assert len(set(seen)) == len(TASKS)
