"""Runs that are killed, stopped or find their checkpoint damaged, against one that never stopped."""

import os
import resource
import signal
import subprocess
import time

import numpy as np
import pytest
import torch
from conftest import (
    ROOT,
    assert_refused,
    assert_same_run,
    command_of,
    kill_when,
    run_script,
    run_to_the_end,
    tiny_training,
    train_tiny,
    weights_of,
    write_reside,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data.images import write_image
from data.sampler import EpochSampler

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
    assert out.startswith("stopped; pass --resume auto")
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


@pytest.fixture(scope="module")
def validated(tmp_path_factory):
    """A data set whose validation takes a while, and the folder of an unbroken run on it."""
    root = write_reside(tmp_path_factory.mktemp("validated") / "reside", test_hazes=60)
    result = train_tiny(root, root / "run", "--train.epochs=2")
    assert result.returncode == 0, result.stderr
    return root, root / "run"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_ends_within_the_validation_does_it_again(validated, tmp_path, number):
    root, whole = validated
    last = tmp_path / "checkpoints" / "last.pt"
    command = tiny_training(root, tmp_path, "--train.epochs=2")
    with subprocess.Popen(**command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while not last.exists():  # is written when the first epoch's steps are done
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert "epoch 1/2" not in out
    assert (process.returncode, err) == (75 if number == signal.SIGTERM else -number, "")
    assert weights_of(tmp_path)["progress"] | {"best_psnr": None} == {
        "epoch": 1,
        "batch": 3,
        "best_psnr": None,
        "broken": {},
    }
    resumed = train_tiny(root, tmp_path, "--train.epochs=2", "--resume=auto")
    assert resumed.returncode == 0, resumed.stderr
    assert [line.split(":")[0] for line in resumed.stdout.splitlines()[1:3]] == ["epoch 1/2", "epoch 2/2"]
    assert_same_run(weights_of(tmp_path), weights_of(whole))
    assert weights_of(tmp_path)["progress"] == weights_of(whole)["progress"]


def test_a_run_killed_while_it_writes_a_checkpoint_goes_on(reside, tmp_path):
    assert train_tiny(reside, tmp_path / "whole").returncode == 0
    output = tmp_path / "part"
    part = output / "checkpoints" / "last.pt.tmp"
    for _ in range(5):
        with subprocess.Popen(**tiny_training(reside, output, "--resume=auto"), stdout=subprocess.PIPE) as process:
            while not (part.exists() and (output / "checkpoints" / "last.pt").exists()):
                assert process.poll() is None, "it ended before it was seen writing"
            process.kill()
        if part.exists():
            break
    assert part.exists()
    resumed = train_tiny(reside, output, "--resume=auto")
    assert resumed.returncode == 0, resumed.stderr
    assert not part.exists()
    assert_same_run(weights_of(output), weights_of(tmp_path / "whole"))


@pytest.mark.parametrize("processes, then", [(1, 3), (3, 2), (2, 1)])
def test_every_sample_comes_once_though_the_number_of_processes_changes(processes, then):
    """The batches before and after the change are those of one process, so none comes twice and none is left out."""
    seen = []
    for count, start, end in ((processes, 0, 4), (then, 4, 8)):
        samplers = [EpochSampler(31, 4, seed=2, rank=rank, processes=count) for rank in range(count)]
        for sampler in samplers:
            sampler.set_position(epoch=3, batch=start)
        for shares in list(zip(*samplers, strict=True))[: end - start]:
            seen += [index for share in shares for _, index in share]
    assert sorted(seen) == list(range(31))


def limited(command, most):
    """The command with no file larger than ``most`` bytes, which fails as a full disk does."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    return command | {"preexec_fn": limit}


def test_a_full_disk_loses_nothing(reside, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("hazy/20_1", "hazy/20_2", "gt/20"):  # the curves' images of noise outgrow a checkpoint
        write_image(reside / "test" / f"{name}.png", rng.integers(0, 256, (500, 400, 3), np.uint8))
    assert train_tiny(reside, tmp_path / "whole", "--train.epochs=2").returncode == 0
    output = tmp_path / "part"
    kill_when(tiny_training(reside, output, "--train.epochs=2"), "epoch 1/2")
    last = output / "checkpoints" / "last.pt"
    before, size = last.read_bytes(), last.stat().st_size
    resume = tiny_training(reside, output, "--train.epochs=2", "--resume=auto")
    assert_refused(run_to_the_end(limited(resume, size // 2)), last)
    assert last.read_bytes() == before
    assert not list(last.parent.glob("*.tmp"))
    assert_refused(run_to_the_end(limited(resume, size + 200_000)), output, "File too large")
    assert_refused(run_to_the_end(limited(resume, 500)), output / "config.yaml", "File too large")
    assert train_tiny(reside, output, "--train.epochs=2", "--resume=auto").returncode == 0
    assert_same_run(weights_of(output), weights_of(tmp_path / "whole"))


def test_a_full_disk_leaves_no_half_result(reside, small_weights, tmp_path):
    config = ["--config", ROOT / "configs" / "dehazing_its.yaml", "--data.root", reside, "--data.num_workers=0"]
    for script, arguments in (
        ("test.py", [*config, "--save-images"]),
        ("restore.py", ["--input", reside / "test" / "hazy"]),
    ):
        output = tmp_path / script
        command = ("--weights", small_weights, "--output", output, *arguments)
        assert run_script(script, *command).returncode == 0
        before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
        again = command_of(script, *command, *(["--overwrite"] if script == "restore.py" else []))
        refused = run_to_the_end(limited(again, 100))
        assert refused.returncode == 2
        (line,) = refused.stderr.splitlines()
        assert line.startswith(f"error: {output}")
        assert line.endswith("File too large")
        assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before
