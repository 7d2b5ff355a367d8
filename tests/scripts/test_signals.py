"""Signals at any moment after the start of a command: a known status, at most one line, no traceback."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import ITS, command_of, tiny_arguments


def commands(root: Path, weights: Path) -> dict[str, list]:
    data = ["--config", ITS, "--data.root", root]
    return {
        "train.py": tiny_arguments(root, root / "run"),
        "test.py": [*data, "--data.num_workers=1", "--weights", weights, "--output", root / "scores"],
        "restore.py": ["--weights", weights, "--input", root / "test", "--output", root / "restored"],
        "-m data.check": [*data, "--decode"],
        "-m models.convert": [weights, root / "weights.safetensors"],
        "-m inference.export": ["--weights", weights, "--format=exported-program", "--output", root / "weights.pt2"],
        "-m data.synthetic.demo": ["--output", root / "demo"],
        "-m benchmarks.memory": ["--side=64"],
    }


def handles(process: subprocess.Popen, *numbers: int) -> bool:
    """Whether the process has a handler of its own for each signal."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    (mask,) = (int(line.split()[1], 16) for line in lines if line.startswith("SigCgt"))
    return all(mask >> (number - 1) & 1 for number in numbers)


def signalled(command: dict, number: int, seconds: float) -> tuple[int, list[str]]:
    """Start a command, signal its process group some time after its first line, and return its status and stderr."""
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "start_new_session": True}
    with subprocess.Popen(**command, **pipes) as process:
        while not handles(process, signal.SIGTERM, signal.SIGINT):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.001)
        time.sleep(seconds)
        if process.poll() is None:
            os.killpg(process.pid, number)
        _, errors = process.communicate(timeout=60)
    return process.returncode, errors.strip().splitlines()


@pytest.mark.parametrize("script", commands(Path(), Path()))
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_every_command_in_one_line(reside, small_weights, script, number):
    command = command_of(script, *commands(reside, small_weights)[script])
    statuses = {75} if number == signal.SIGTERM else {130}
    assert signalled(command, number, 0)[0] in statuses
    later = random.Random(f"{script} {number}").uniform(0.1, 2)
    status, lines = signalled(command, number, later)
    assert status in statuses | {0, 75}, lines
    assert len(lines) <= 1, lines
    assert "Traceback" not in "".join(lines)
