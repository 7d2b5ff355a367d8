"""The loader's worker processes: how many a machine starts, and the shared memory that they need."""

import os
import subprocess

import pytest
from conftest import ITS, TINY, assert_refused, command_of, run_process


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system does not bind processes to cores")
@pytest.mark.parametrize(
    "script, processes, workers, warned",
    [
        ("train.py", 3, 8, True),
        ("test.py", 3, 8, True),
        ("test.py", 2, 8, False),
        pytest.param("train.py", 2, 8, False, marks=pytest.mark.slow),
        pytest.param("train.py", 3, 0, False, marks=pytest.mark.slow),
        pytest.param("test.py", 3, 0, False, marks=pytest.mark.slow),
    ],
)
def test_more_than_two_workers_per_core_are_warned_of_once(
    script, processes, workers, warned, reside, small_weights, tmp_path
):
    """On one core, where each process starts one worker at most."""
    command = f"-m torch.distributed.run --standalone --nproc_per_node {processes} {script}"
    own = [*TINY, "--train.batch_size=3", "--train.epochs=2"] if script == "train.py" else ["--weights", small_weights]
    arguments = ["--config", ITS, "--data.root", reside, *own, f"--data.num_workers={workers}"]
    core = min(os.sched_getaffinity(0))
    on_one_core = {"preexec_fn": lambda: os.sched_setaffinity(0, {core})}
    result = run_process(command_of(command, *arguments, "--output", tmp_path / "out") | on_one_core)
    assert result.returncode == 0, result.stderr
    warning = "warning: data.num_workers is per process: 3 processes start 3 loader workers on 1 core"
    assert result.stderr.count("data.num_workers") == 2 * warned, result.stderr
    assert result.stderr.count(f"{warning}; pass --data.num_workers 1") == warned


@pytest.fixture
def in_shared_memory_of():
    """Makes a command run with a /dev/shm of its own of some size, such as 64k; needs the right to mount."""

    def limit(size: str, command: dict) -> dict:
        mounted = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o size={size} none /dev/shm && exec "$@"', "sh"]
        return command | {"args": [*mounted, *command["args"]]}

    try:
        probe = subprocess.run(**limit("1m", {"args": ["true"]}), capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("unshare is not installed")
    if probe.returncode:
        pytest.skip(f"mounting is not permitted: {probe.stderr.strip()}")
    return limit


def scripts_with_workers(root, weights, output, *arguments) -> dict[str, dict]:
    """A command of each script that loads images; two workers unless ``arguments`` has another number."""
    data = ["--config", ITS, "--data.root", root, *TINY, "--data.num_workers=2", "--output", output, *arguments]
    folders = ["--input", root / "test" / "hazy", "--target", root / "test" / "gt", "--data.num_workers=2"]
    return {
        "train": command_of("train.py", *data),
        "train with a cache": command_of("train.py", *data, "--data.cache", root.parent / "cache"),
        "test": command_of("test.py", *data, "--weights", weights),
        "test of folders": command_of("test.py", "--weights", weights, *folders, "--output", output, *arguments),
        "check": command_of("-m data.check", "--config", ITS, "--data.root", root, "--decode"),
    }


# The sizes leave no room for the queues' locks, for some of them, for an image, for all batches at once.
CASES = [("train", "4k"), ("train", "32k"), ("train", "128k"), ("train", "1m"), ("train with a cache", "4k")]
CASES += [("test", "4k"), ("test", "128k"), ("test of folders", "32k"), ("check", "4k")]  # check's pass no images


@pytest.mark.parametrize("script, size", CASES)
def test_a_full_shared_memory_is_reported(script, size, in_shared_memory_of, reside, small_weights, tmp_path):
    arguments = ["--data.crop_size=256", "--train.batch_size=5"] if script.startswith("train") else []
    command = scripts_with_workers(reside, small_weights, tmp_path / "out", *arguments)[script]
    refused = run_process(in_shared_memory_of(size, command))
    assert_refused(refused, "data.num_workers", "/dev/shm has", "docker run --shm-size=8g")


@pytest.mark.parametrize("script", ["train", "test", "test of folders"])
def test_without_workers_no_shared_memory_is_needed(script, in_shared_memory_of, reside, small_weights, tmp_path):
    command = scripts_with_workers(reside, small_weights, tmp_path / "out", "--data.num_workers=0")[script]
    result = run_process(in_shared_memory_of("4k", command))
    assert result.returncode == 0, result.stderr
