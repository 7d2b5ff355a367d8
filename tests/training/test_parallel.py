"""Two processes on the CPU, started by torchrun, against one; and one of them dies or is told to stop."""

import json
import os
import signal
import socket
import subprocess
import time

import pytest
import torch
from conftest import (
    ITS,
    TINY,
    TORCHRUN,
    assert_same_run,
    command_of,
    run_parallel,
    run_script,
    weights_of,
    write_reside,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

# 5 pairs: batches of 3, two in one process and one in the other, and of 2
OPTIONS = [*TINY, "--train.batch_size=3", "--train.ema_decay=0.9", "--train.lr=1e-3"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A data set, and the folders of a run in one process and in two."""
    root = write_reside(tmp_path_factory.mktemp("distributed") / "reside", test_hazes=3)
    train = ["--config", ITS, "--data.root", root, *OPTIONS]
    for run, output in ((run_script, root / "one"), (run_parallel, root / "two")):
        result = run("train.py", *train, "--output", output)
        assert result.returncode == 0, result.stderr
    assert result.stdout.count("epoch 1/3") == result.stdout.count("done: ") == 1
    return root, root / "one", root / "two"


def test_two_processes_have_the_losses_and_scores_of_one(runs):
    _, *outputs = runs
    one, two = (EventAccumulator(str(output)).Reload() for output in outputs)
    for kind in ("scalars", "images"):
        assert sorted(one.Tags()[kind]) == sorted(two.Tags()[kind])
    for tag in (
        "loss/content",
        "loss/fft",
        "train/grad_norm",
        "validation/SOTS-Indoor/psnr",
        "validation/SOTS-Indoor/ssim",
    ):
        values = [[event.value for event in run.Scalars(tag)] for run in (one, two)]
        assert values[1] == pytest.approx(values[0], rel=2e-4)
    weights, theirs = (weights_of(output)["model"] for output in outputs)
    for name, value in weights.items():
        torch.testing.assert_close(theirs[name], value, rtol=1e-2, atol=1e-3)


@pytest.mark.slow
def test_one_process_goes_on_with_a_run_of_two(runs, tmp_path):
    root, *_ = runs
    train = ["--config", ITS, "--data.root", root, "--output", tmp_path, *OPTIONS]
    assert run_parallel("train.py", *train, "--train.epochs=2").returncode == 0
    result = run_script("train.py", *train, "--resume=auto")
    assert result.returncode == 0, result.stderr
    assert "at epoch 3, step 0" in result.stdout


@pytest.mark.slow
def test_a_killed_worker_is_restarted_and_the_run_goes_on(runs, tmp_path):
    root, _, whole = runs
    torchrun = TORCHRUN.replace("--standalone", "--standalone --max-restarts 1")
    train = ["--config", ITS, "--data.root", root, "--output", tmp_path, *OPTIONS, "--resume=auto"]
    with subprocess.Popen(**command_of(f"{torchrun} train.py", *train), stdout=subprocess.PIPE) as process:
        for line in process.stdout:
            if "epoch 1/3" in line:
                break
        children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
        os.kill(int(children.stdout.split()[-1]), signal.SIGKILL)
        rest, _ = process.communicate(timeout=200)
    assert process.returncode == 0, rest
    assert "resuming" in rest
    assert_same_run(weights_of(tmp_path), weights_of(whole))


def test_a_signal_to_one_process_stops_both_at_the_same_step(runs, tmp_path):
    root, *_ = runs
    many = ["--train.epochs=500", "--train.validate_every=500"]
    command = command_of(
        f"{TORCHRUN} train.py", "--config", ITS, "--data.root", root, "--output", tmp_path, *OPTIONS, *many
    )
    with subprocess.Popen(**command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while not (tmp_path / "checkpoints" / "last.pt").exists():
            time.sleep(0.1)
        children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
        os.kill(int(children.stdout.split()[-1]), signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert "stopped; pass --resume auto" in out, err
    assert weights_of(tmp_path)["progress"]["epoch"] < 500


def test_test_py_shares_the_images(runs, tmp_path):
    root, one, _ = runs
    scored = []
    for run in (run_script, run_parallel):
        weights = ["--weights", one / "checkpoints" / "best.pt", "--output", tmp_path]
        result = run("test.py", "--config", ITS, "--data.root", root, *weights, "--data.num_workers=0", "--save-images")
        assert result.returncode == 0, result.stderr
        metrics = json.loads((tmp_path / "metrics.json").read_text())["sets"]["SOTS-Indoor"]
        scored.append({key: metrics[key] for key in ("images", "input", "restored")})
        names = [line.split(",")[2] for line in (tmp_path / "per_image.csv").read_text().splitlines()]
        assert names == ["name", "hazy/20_1", "hazy/20_2", "hazy/20_3"]
        assert len(list((tmp_path / "images").rglob("*.png"))) == 3
    assert scored[0]["images"] == 3
    assert scored[1]["restored"] == pytest.approx(scored[0]["restored"])


def test_too_small_a_batch_is_refused(runs, tmp_path):
    root, *_ = runs
    train = ["--config", ITS, "--data.root", root, "--output", tmp_path, *OPTIONS, "--train.batch_size=1"]
    result = run_parallel("train.py", *train)
    assert "train.batch_size: 1 is less than one image for each of the 2 processes" in result.stderr


@pytest.mark.slow
def test_two_machines_have_the_losses_of_one_process(runs, tmp_path):
    """Two agents, one process each, that find each other through a port, as on two machines."""
    root, one, _ = runs
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    agent = "-m torch.distributed.run --nnodes 2 --nproc_per_node 1 --rdzv-backend c10d --rdzv-id run"
    train = ["--config", ITS, "--data.root", root, "--output", tmp_path, *OPTIONS]
    command = command_of(f"{agent} --rdzv-endpoint localhost:{port} train.py", *train)
    agents = [subprocess.Popen(**command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    outputs = [process.communicate(timeout=200) for process in agents]
    assert [process.returncode for process in agents] == [0, 0], outputs
    assert sum(out.count("done: ") for out, _ in outputs) == 1
    alone, both = (EventAccumulator(str(output)).Reload() for output in (one, tmp_path))
    for tag in ("loss/content", "loss/fft", "validation/SOTS-Indoor/psnr"):
        values = [[event.value for event in run.Scalars(tag)] for run in (alone, both)]
        assert values[1] == pytest.approx(values[0], rel=2e-4)
