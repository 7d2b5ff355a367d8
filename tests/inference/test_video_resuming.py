"""Videos that are stopped, killed or run out of disk: what has been restored is kept, and the result is the same."""

import contextlib
import errno
import os
import pty
import random
import signal
import subprocess
import termios
import time

import numpy as np
import pytest
from clips import Decoded, pan, write_clip
from conftest import command_of, disk_full, errors_of, run_script

from inference.video_restoring import restore_video


class Interrupted(Exception):
    pass


@pytest.fixture
def resumable(tmp_path):
    """Calls ``restore_video`` on a clip of 70 frames; returns which frames were restored, however it ended."""
    source = write_clip(tmp_path / "clip.mp4", pan(70, (32, 48)), sound=True)

    def run(name="out.mp4", stop_after=10**9, weights="a", crf=13):
        indices = []

        def restore(frame, index):
            if frame is None:
                return None
            if len(indices) == stop_after:
                raise Interrupted
            indices.append(index)
            return frame[::-1]

        try:
            restore_video(source, tmp_path / name, restore, {"sha256": weights}, crf, lambda: None)
        except Interrupted:
            assert not (tmp_path / name).exists()
        return indices

    return run


def test_a_stopped_video_goes_on_and_ends_the_same(resumable, tmp_path):
    assert resumable("whole.mp4") == list(range(70))
    parts = [resumable(stop_after=count) for count in (5, 0, 40, 7)]
    parts.append(resumable())
    assert [len(part) for part in parts] == [5, 0, 40, 7, 18]
    assert [index for part in parts for index in part] == list(range(70))
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"clip.mp4", "out.mp4", "whole.mp4"}


@pytest.mark.parametrize("changed", ["weights", "crf", "time", "content"])
def test_frames_of_other_weights_options_or_input_are_not_joined(resumable, tmp_path, changed):
    assert resumable(stop_after=40) == list(range(40))
    if changed == "time":
        os.utime(tmp_path / "clip.mp4", (1, 1))
    elif changed == "content":
        write_clip(tmp_path / "clip.mp4", pan(70, (48, 32)))
    options = {"weights": {"weights": "b"}, "crf": {"crf": 20}}.get(changed, {})
    assert resumable(**options) == list(range(70))
    assert resumable("again.mp4", **options) == list(range(70))
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "again.mp4").read_bytes()


@pytest.mark.parametrize("seed", range(6))
def test_damaged_leftovers_are_restored_again(resumable, tmp_path, seed):
    resumable("whole.mp4")
    resumable(stop_after=50)
    rng = random.Random(seed)
    (folder,) = tmp_path.glob(".out*")
    path = rng.choice(sorted(folder.iterdir()))
    content = bytearray(path.read_bytes())
    if seed % 2:
        del content[rng.randrange(len(content)) :]
    else:
        start = rng.randrange(len(content) // 2, len(content) - 8)
        content[start : start + 4096] = bytes(len(content[start : start + 4096]))
    path.write_bytes(content)
    resumable()
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_a_linked_folder_of_leftovers_is_refused(identity_weights, tmp_path):
    write_clip(tmp_path / "clip.mp4", pan(4))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept.txt").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".clip.mp4.parts").symlink_to(tmp_path / "elsewhere")
    arguments = ("--weights", identity_weights, "--input", tmp_path / "clip.mp4", "--output", tmp_path / "out")
    result = run_script("restore.py", *arguments)
    assert len(errors_of(result)) == 1
    assert result.returncode == 2
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["kept.txt"]


def test_a_full_disk_ends_in_one_line_and_the_next_job_goes_on(identity_weights, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 64, 96, 3), np.uint8)
    path = write_clip(tmp_path / "clip.mp4", noise, sound=True, options={"crf": "0"})
    arguments = ("--weights", identity_weights, "--input", path, "--output", tmp_path / "out", "--crf", 0)
    # Room for a part of one segment, of one segment, and for both segments but not for the whole.
    for most in (100_000, 300_000, 330_000):
        with disk_full(most):
            result = run_script("restore.py", *arguments)
        assert result.returncode == 2, most
        assert len(errors_of(result)) == len(result.stderr.splitlines()) == 1
        assert os.strerror(errno.EFBIG) in result.stderr
        assert not (tmp_path / "out" / "clip.mp4").exists()
    assert run_script("restore.py", *arguments).returncode == 0
    assert len(Decoded(tmp_path / "out" / "clip.mp4").images) == 40


@pytest.mark.slow
def test_a_killed_job_goes_on_and_ends_the_same(identity_weights, tmp_path):
    path = write_clip(tmp_path / "in" / "clip.mp4", pan(36, (48, 64)), sound=True)
    arguments = ("--weights", identity_weights, "--input", tmp_path / "in", "--self-ensemble", "--output")
    assert run_script("restore.py", *arguments, tmp_path / "whole").returncode == 0
    output, kept = tmp_path / "out", []
    for number in (signal.SIGKILL, signal.SIGTERM):
        with subprocess.Popen(**command_of("restore.py", *arguments, output), stdout=subprocess.PIPE) as run:
            before = kept[-1] if kept else 0
            while run.poll() is None and frames_kept(output) < before + 6:
                time.sleep(0.01)
            run.send_signal(number)
            message = run.communicate(timeout=60)[0]
        kept.append(frames_kept(output))
        assert run.returncode == {signal.SIGKILL: -9, signal.SIGTERM: 75}[number]
        assert not (output / "clip.mp4").exists()
    assert message == f"stopped; run the same command again to continue {output}\n"
    assert 0 < kept[0] < kept[1] < 36
    assert run_script("restore.py", *arguments, output).returncode == 0
    assert (output / "clip.mp4").read_bytes() == (tmp_path / "whole" / "clip.mp4").read_bytes()
    assert Decoded(output / "clip.mp4").times == Decoded(path).times


def frames_kept(output):
    """The number of frames in the hidden folder of clip.mp4, 64 x 48."""
    parts, count = output / ".clip.mp4.parts", 0
    for path in [*parts.glob("*.frames"), *parts.glob("*.nut")]:
        with contextlib.suppress(FileNotFoundError):  # just encoded
            count += 32 if path.suffix == ".nut" else path.stat().st_size // (64 * 48 * 3 // 2)
    return count


def test_the_bar_names_the_file_and_its_speed(identity_weights, tmp_path):
    for name in ("a.mp4", "b.mp4"):
        write_clip(tmp_path / "in" / name, pan(12))
    shown, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 120))
    command = command_of(
        "restore.py", "--weights", identity_weights, "--input", tmp_path / "in", "--output", tmp_path / "out"
    )
    with subprocess.Popen(**command, stdout=subprocess.DEVNULL, stderr=terminal) as run:
        os.close(terminal)
        text = b""
        with contextlib.suppress(OSError):  # the other side closes at the end
            while chunk := os.read(shown, 4096):
                text += chunk
    os.close(shown)
    assert run.wait() == 0
    assert b"file 1 of 2: a.mp4" in text
    assert b"file 2 of 2: b.mp4" in text
    assert b" frames/s" in text
