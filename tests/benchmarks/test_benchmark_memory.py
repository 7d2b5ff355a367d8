"""The benchmark of memory."""

import re

import pytest
from conftest import command_of, run_process, run_script

SMALL_NETWORK = ("--num_blocks=1", "--channels=8")


def bytes_per_value(result) -> float:
    assert result.returncode == 0, result.stderr
    return float(re.search(r"([\d.]+) bytes per pixel and channel", result.stdout)[1])


def test_a_training_step_needs_memory_in_proportion_to_its_batch():
    command = ("-m benchmarks.memory", *SMALL_NETWORK, "--side=64")
    one = bytes_per_value(run_process(command_of(*command, "--batch=2")))
    three = bytes_per_value(run_script(*command, "--batch=6"))
    assert one > 4 * 20  # more than twenty float32 images of features
    assert three == pytest.approx(one, rel=0.1)
