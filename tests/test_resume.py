"""Runs that are killed, stopped or find their checkpoint damaged, against one that never stopped."""

import os
import signal
import subprocess
import time

import pytest
import torch
from conftest import assert_same_run, kill_when, tiny_training, train_tiny, weights_of, write_reside
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

OPTIONS = ["--train.epochs", "2", "--train.batch_size", "1", "--train.ema_decay", "0.9", "--data.num_workers", "2"]
STEPS = 41  # per epoch of ``many``, at batch size 1


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A data set of 41 training pairs and the folder of an unbroken run of two epochs on it."""
    root = write_reside(tmp_path_factory.mktemp("many") / "reside", hazes=20)
    result = train_tiny(root, root / "run", *OPTIONS)
    assert result.returncode == 0, result.stderr
    return root, root / "run"


def stop_in_second_epoch(root, output, *signals):
    """Start the run, signal its whole process group in the middle of epoch 2, and return its status and output."""
    command = tiny_training(root, output, *OPTIONS)
    with subprocess.Popen(**command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout.readline().startswith("epoch 1/2")
        time.sleep(0.1)
        for number in signals:
            os.killpg(process.pid, number)
        started = time.monotonic()
        out, err = process.communicate(timeout=60)
        assert time.monotonic() - started < 20
    return process.returncode, out, err


def test_a_killed_run_ends_as_one_that_never_stopped(reside, tmp_path):
    options = ["--train.ema_decay", "0.9"]
    assert train_tiny(reside, tmp_path / "whole", *options).returncode == 0
    kill_when(tiny_training(reside, tmp_path / "part", *options), "epoch 1/3")
    assert weights_of(tmp_path / "part")["progress"]["epoch"] < 4
    resumed = train_tiny(reside, tmp_path / "part", *options, "--resume", "auto")
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.startswith("resuming ")
    assert_same_run(weights_of(tmp_path / "part"), weights_of(tmp_path / "whole"))
    ours, theirs = (weights_of(tmp_path / name)["ema"] for name in ("part", "whole"))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    steps = [event.step for event in EventAccumulator(str(tmp_path / "part")).Reload().Scalars("loss/total")]
    assert steps == list(range(1, 10))
    assert len((tmp_path / "part" / "runs.jsonl").read_text().splitlines()) == 2
    again = train_tiny(reside, tmp_path / "part", *options, "--resume", "auto")
    assert again.returncode == 0
    assert "done" in again.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_goes_on_at_the_same_step(many, tmp_path, number):
    root, whole = many
    status, out, err = stop_in_second_epoch(root, tmp_path, number)
    assert status == 75, err
    assert err == ""
    assert out.startswith("stopped; --resume auto")
    progress = weights_of(tmp_path)["progress"]
    assert progress["epoch"] == 2
    assert 0 < progress["batch"] < STEPS
    resumed = train_tiny(root, tmp_path, *OPTIONS, "--resume", "auto")
    assert resumed.returncode == 0, resumed.stderr
    assert f"at epoch 2, step {progress['batch']}" in resumed.stdout
    assert_same_run(weights_of(tmp_path), weights_of(whole))
    steps = [event.step for event in EventAccumulator(str(tmp_path)).Reload().Scalars("loss/total")]
    assert steps == list(range(1, 2 * STEPS + 1))


def test_a_second_signal_ends_the_run_at_once(many, tmp_path):
    root, whole = many
    status, *_ = stop_in_second_epoch(root, tmp_path, signal.SIGINT, signal.SIGTERM)
    assert status == 128 + signal.SIGTERM
    assert train_tiny(root, tmp_path, *OPTIONS, "--resume", "auto").returncode == 0
    assert_same_run(weights_of(tmp_path), weights_of(whole))


def test_a_damaged_checkpoint_falls_back_to_the_one_before(many, tmp_path):
    root, whole = many
    stop_in_second_epoch(root, tmp_path, signal.SIGTERM)
    last = tmp_path / "checkpoints" / "last.pt"
    last.write_bytes(last.read_bytes()[:5000])
    resumed = train_tiny(root, tmp_path, *OPTIONS, "--resume", "auto")
    assert resumed.returncode == 0, resumed.stderr
    assert "last.pt: not a PyTorch checkpoint, or a damaged one; going on from" in resumed.stderr
    assert "at epoch 2, step 0" in resumed.stdout
    assert_same_run(weights_of(tmp_path), weights_of(whole))
