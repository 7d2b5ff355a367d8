"""Output folders: one process at a time, and nothing outside of them is touched."""

import json
import os
import signal
import socket
import subprocess

import pytest
from conftest import (
    assert_refused,
    command_of,
    disk_full,
    errors_of,
    run_parallel,
    run_script,
    tiny_arguments,
    tiny_training,
    train_tiny,
)

from utils import output as output_module
from utils.errors import InputError
from utils.output import claimed

CLAIM_AND_WAIT = """
import sys
from pathlib import Path
from utils.output import claimed
with claimed(Path(sys.argv[1]), sys.argv[2]):
    print("claimed", flush=True)
    sys.stdin.read()
"""


def arguments_of(script, reside, weights, output):
    if script == "train.py":
        return tiny_arguments(reside, output)
    source = ["--weights", weights, "--output", output, "--input", reside / "test" / "hazy"]
    return source + (["--target", reside / "test" / "gt", "--save-images"] if script == "test.py" else [])


@pytest.fixture
def waiting(tmp_path):
    """Start processes that hold the claim of a script on ``tmp_path / "out"``."""
    processes = []

    def start(script):
        command = command_of("-c", CLAIM_AND_WAIT, tmp_path / "out", script)
        processes.append(subprocess.Popen(**command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        assert processes[-1].stdout.readline() == "claimed\n"
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("script", ["train.py", "test.py", "restore.py"])
def test_a_second_process_is_refused_and_a_killed_one_makes_room(reside, small_weights, tmp_path, waiting, script):
    arguments = arguments_of(script, reside, small_weights, tmp_path / "out")
    first = waiting(script)
    refused = run_script(script, *arguments)
    assert_refused(refused, tmp_path / "out", f"{script}, process {first.pid} on {socket.gethostname()}", "is writing")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f".{script[:-3]}.lock"]
    first.send_signal(signal.SIGKILL)
    first.wait()
    result = run_script(script, *arguments)
    assert result.returncode == 0, result.stderr
    (note,) = result.stderr.splitlines()
    assert note.startswith(f"note: {tmp_path / 'out'}: taken over from {script}, process {first.pid} on ")
    assert not list((tmp_path / "out").glob("*.lock"))


def test_several_processes_are_refused_in_one_line(reside, tmp_path, waiting):
    first = waiting("train.py")
    refused = run_parallel("train.py", *tiny_arguments(reside, tmp_path / "out"))
    assert refused.returncode != 0
    (line,) = errors_of(refused)  # all others are torchrun's
    assert f"train.py, process {first.pid} on " in line


def test_a_run_that_trains_is_left_alone(reside, tmp_path):
    """By another start, whatever its options, until it is killed."""
    output = tmp_path / "run"
    with subprocess.Popen(**tiny_training(reside, output, "--train.epochs=1000"), stdout=subprocess.PIPE) as process:
        assert process.stdout.readline().startswith("epoch 1/")
        for options in ([], ["--resume=auto"]):
            assert_refused(train_tiny(reside, output, *options), f"process {process.pid} on ", "is writing to it")
        assert process.poll() is None
        process.kill()
    resumed = train_tiny(reside, output, "--resume=auto", "--train.epochs=2")
    assert resumed.returncode == 0, resumed.stderr
    assert len(resumed.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "holder, refused",
    [
        ({"process": 2**22 + 1, "host": socket.gethostname()}, False),  # larger than any process number
        ({"process": os.getppid(), "host": socket.gethostname()}, True),
        ({"process": 2**22 + 1, "host": "elsewhere"}, True),
        ("damaged", True),
    ],
)
def test_on_a_file_system_without_locks_the_lock_file_decides(tmp_path, monkeypatch, holder, refused):
    monkeypatch.setattr(output_module, "fcntl", None)
    lock = tmp_path / ".train.lock"
    lock.write_text(json.dumps(holder))
    if not refused:
        with claimed(tmp_path, "train.py"):
            assert json.loads(lock.read_text())["process"] == os.getpid()
            with pytest.raises(InputError, match=f"process {os.getpid()} "), claimed(tmp_path, "train.py"):
                pass
            assert lock.exists()
        assert not lock.exists()
        return
    with pytest.raises(InputError, match=f"if it has ended, remove {lock}"), claimed(tmp_path, "train.py"):
        pass
    assert json.loads(lock.read_text()) == holder


def test_a_refused_script_leaves_no_folder(tmp_path, reside):
    for output in (tmp_path / "out", tmp_path / "a" / "b"):
        assert_refused(train_tiny(reside / "nowhere", output), "nowhere")
    assert [path.name for path in tmp_path.iterdir()] == ["reside"]


def test_a_full_disk_leaves_no_lock(tmp_path):
    lock = tmp_path / "out" / ".test.lock"
    with disk_full(0), pytest.raises(OSError, match="File too large") as error, claimed(lock.parent, "test.py"):
        pass
    assert error.value.filename == str(lock)
    assert not list(tmp_path.iterdir())


LINKS = {
    "train.py": ["checkpoints", "checkpoints/last.pt", "checkpoints/best.pt", "config.yaml", "runs.jsonl"],
    "test.py": [
        "metrics.json",
        "per_image.csv",
        "table.md",
        "table.tex",
        "table.csv",
        "comparison.png",
        "images",
        "images/hazy",
        "images/hazy/20_1.png",
    ],
    "restore.py": ["20_1.png", ".irnext.jsonl"],
}


@pytest.mark.parametrize(
    "script, name", [(script, name) for script in LINKS for name in [f".{script[:-3]}.lock", *LINKS[script]]]
)
def test_a_link_that_leads_out_is_named_and_nothing_is_written(reside, small_weights, tmp_path, script, name):
    mine, link = tmp_path / "mine", tmp_path / "out" / name
    if "." in name:
        mine.write_text("mine")
    else:
        mine.mkdir()
    link.parent.mkdir(parents=True)
    link.symlink_to(mine)
    arguments = arguments_of(script, reside, small_weights, tmp_path / "out")
    assert_refused(run_script(script, *arguments), tmp_path / "out" / name, "leads out of the output folder; remove it")
    assert link.is_symlink()
    assert mine.read_text() == "mine" if mine.is_file() else not list(mine.iterdir())
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file() and path != link]


def test_the_output_folder_itself_may_be_a_link(reside, tmp_path):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "scratch")
    for epochs in (1, 2):
        result = train_tiny(
            reside, tmp_path / "run", "--resume=auto", f"--train.epochs={epochs}", "--train.warmup_epochs=0"
        )
        assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "scratch" / "checkpoints" / "best.pt").is_file()
    assert (tmp_path / "run").is_symlink()
