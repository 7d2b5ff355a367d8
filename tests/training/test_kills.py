"""Runs that are killed at random file operations and resumed, until they end as one that never stopped."""

import json
import random
import subprocess
from pathlib import Path

import pytest
import torch
from conftest import command_of, tiny_arguments, weights_of, write_reside
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

TIMED = {f"{period}/{name}" for period in ("train", "epoch") for name in ("images_per_second", "waiting_for_data")}
CONFIG = "config/text_summary"  # written by each start, at its first step
OPERATIONS = 60  # on files of the output, of a whole run

# For each folder, starts train.py again and again until it ends with status 0. The k-th start kills itself before the
# places[k]-th operation on a file of the folder. Each start is a fork of this process, which has imported everything.
STARTER = """
import itertools, json, os, runpy, signal, sys
import training.run, training.validation
EVENTS = {"open", "os.rename", "os.remove", "os.link"}
def start(output, place, arguments):
    count = itertools.count(1)
    def hook(event, values):
        if event in EVENTS and any(output in str(value) for value in values[:2]) and next(count) == place:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    sys.argv = ["train.py", *arguments, "--output", output]
    try:
        runpy.run_path("train.py", run_name="__main__")
    finally:
        print("operations", next(count) - 1, flush=True)
for output, places in json.loads(sys.argv[1]).items():
    for place in itertools.chain(places, itertools.repeat(0)):
        pid = os.fork()
        if pid == 0:
            start(output, place, sys.argv[2:])
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(output, "ended with", status, flush=True)
        if status == 0:
            break
        if status != -signal.SIGKILL:
            sys.exit(status)
"""


def points_of(output: Path) -> dict[tuple[str, int], list[bytes]]:
    """The values of every tag and step in the event files, as they stand there."""
    points: dict[tuple[str, int], list[bytes]] = {}
    for file in output.glob("events.out.tfevents.*"):
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                content = b"" if value.tag in TIMED else value.tensor.SerializeToString()
                points.setdefault((value.tag, event.step), []).append(content)
    return points


def assert_equal(one: object, other: object, where: str) -> None:
    """The same structure, values and bits."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_equal(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_equal(*pair, f"{where}.{index}")
    else:
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other, where


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of a run that never stopped, and those of two that were killed several times."""
    root = write_reside(tmp_path_factory.mktemp("kills") / "reside")
    rng = random.Random(0)
    # Anywhere, and from the end of the first epoch's steps on: around its checkpoints and within its validation
    places = {str(root / f"run{first}"): rng.choices(range(first, OPERATIONS), k=3) for first in (1, 36)}
    options = ["--train.epochs=2", "--train.ema_decay=0.9", "--resume=auto"]
    arguments = tiny_arguments(root, root, *options)
    command = command_of("-c", STARTER, json.dumps({str(root / "whole"): []} | places), *arguments)
    result = subprocess.run(**command, capture_output=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    assert all(line.startswith("note: ") and "which was killed" in line for line in result.stderr.splitlines())
    assert int(result.stdout.split("operations ")[1].split()[0]) > OPERATIONS
    kills = [result.stdout.count(f"{name} ended with -9") for name in places]
    assert min(kills) > 1
    return root / "whole", [Path(name) for name in places]


@pytest.mark.slow
def test_killed_runs_have_every_point_of_the_curves_once(runs):
    whole, killed = runs
    expected = points_of(whole)
    del expected[CONFIG, 1]
    assert {step for tag, step in expected if tag == "validation/SOTS-Indoor/psnr"} == {3, 6}
    for output in killed:
        found = points_of(output)
        assert {key: len(values) for key, values in found.items() if len(values) > 1} == {}
        assert {key: values for key, values in found.items() if key[0] != CONFIG} == expected


@pytest.mark.slow
def test_killed_runs_store_what_one_stores_that_never_stopped(runs):
    whole, killed = runs
    for output in killed:
        for name in ("last.pt", "last.previous.pt", "best.pt"):
            assert_equal(weights_of(output, name), weights_of(whole, name), name)


@pytest.mark.slow
def test_killed_runs_leave_no_temporary_file(runs):
    _, killed = runs
    for output in killed:
        assert [path.name for path in output.rglob(".*")] == []
