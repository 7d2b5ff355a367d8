"""Runs that are killed, stopped or find their checkpoint damaged, against one that never stopped."""

import functools
import json
import os
import shutil
import signal
import subprocess
import time

import pytest
import torch
from conftest import (
    ABLATION,
    REFERENCE,
    assert_same_run,
    kill_when,
    run_script,
    tiny_training,
    train_tiny,
    weights_of,
    write_reside,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from models import build_model, load_model
from training.resume import resume_training, training_state
from utils.checkpoint_files import kept_checkpoints, save_checkpoint
from utils.errors import InputError


def test_after_falling_back_no_save_keeps_the_damaged_file(tmp_path):
    path, model = tmp_path / "last.pt", build_model(**ABLATION)
    for epoch in (1, 2):
        save_checkpoint(path, training_state({"model": model}, {"epoch": epoch}), keep=2)
    path.write_bytes(path.read_bytes()[:5000])
    assert resume_training(path, {"model": model}, {"epoch": 0}) == {"epoch": 1}
    save_checkpoint(path, training_state({"model": model}, {"epoch": 2}), keep=2)
    for file, epoch in ((path, 2), (tmp_path / "last.previous.pt", 1)):
        assert resume_training(file, {"model": model}, {"epoch": 0}) == {"epoch": epoch}


def epochs_kept(path):
    return [torch.load(file, weights_only=True)["progress"]["epoch"] for file in kept_checkpoints(path)]


def test_the_latest_checkpoints_are_kept_and_the_newest_sound_one_is_taken(tmp_path, capsys):
    path, model = tmp_path / "last.pt", build_model(**ABLATION)
    for epoch in range(1, 7):
        save_checkpoint(path, training_state({"model": model}, {"epoch": epoch}), keep=4)
    assert epochs_kept(path) == [6, 5, 4, 3]
    nan = training_state({"model": model}, {"epoch": 6})
    nan["model"]["embed.weight"] = nan["model"]["embed.weight"] * float("nan")
    torch.save(nan, path)
    (tmp_path / "last.previous.pt").write_bytes(b"cut off")
    assert resume_training(path, {"model": model}, {"epoch": 0}) == {"epoch": 4}
    assert "model.embed.weight is not finite; resuming from" in capsys.readouterr().err
    assert epochs_kept(path) == [4, 3]
    path.unlink()
    assert resume_training(path, {"model": model}, {"epoch": 0}) == {"epoch": 3}
    for epoch in range(4, 7):
        save_checkpoint(path, training_state({"model": model}, {"epoch": epoch}), keep=4)
    save_checkpoint(path, training_state({"model": model}, {"epoch": 7}), keep=2)
    assert epochs_kept(path) == [7, 6]
    save_checkpoint(path, training_state({"model": model}, {"epoch": 8}))
    assert epochs_kept(path) == [8]
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"last.pt: not a PyTorch checkpoint"):
        resume_training(path, {"model": model}, {"epoch": 0})


WRONG_STATES = {
    "optimizer is missing": lambda state: state.pop("optimizer"),
    "progress.epoch is not a number": lambda state: state["progress"].update(epoch="two"),
    "progress is not a mapping": lambda state: state.update(progress=[1, 2]),
    "progress is missing": lambda state: state.pop("progress"),
    "random is missing": lambda state: state.pop("random"),
    "optimizer.state is not a mapping": lambda state: state["optimizer"].update(state=3),
    "embed.weight has shape": lambda state: state["model"].update({"embed.weight": torch.zeros(2)}),
    "embed.bias is missing": lambda state: state["model"].pop("embed.bias"),
    "optimizer.param_groups.0.lr is not a number": lambda state: state["optimizer"]["param_groups"][0].update(
        lr=torch.tensor(float("nan"))
    ),
    "cannot resume": lambda state: state["optimizer"].update(param_groups=[{"params": [0, 1]}]),
    "model.embed.bias is not a dense tensor": lambda state: state["model"].update({"embed.bias": "text"}),
}


@pytest.mark.parametrize("words", WRONG_STATES)
def test_a_foreign_or_incomplete_run_is_refused(tmp_path, words):
    model = build_model(**ABLATION)
    stateful = {"model": model, "optimizer": torch.optim.Adam(model.parameters())}
    state = training_state(stateful, {"epoch": 1})
    WRONG_STATES[words](state)
    torch.save(state, tmp_path / "last.pt")
    with pytest.raises(InputError, match=f"last.pt: .*{words}"):
        resume_training(tmp_path / "last.pt", stateful, {"epoch": 0})
    assert (tmp_path / "last.pt").exists()


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
        for number in signals:
            os.killpg(process.pid, number)
        out, err = process.communicate(timeout=200)
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
    curves, expected = (EventAccumulator(str(output)).Reload() for output in (tmp_path, whole))
    assert [event.step for event in curves.Scalars("loss/total")] == list(range(1, 2 * STEPS + 1))
    means = [[event.value for event in run.Scalars("epoch/loss_total")] for run in (curves, expected)]
    assert means[0] == means[1]


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
    assert "or damaged (expected a whole .pt, .pth or .pkl file); resuming from" in resumed.stderr
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
        out, err = process.communicate(timeout=200)
    assert "epoch 1/2" not in out
    assert (process.returncode, err) == (75 if number == signal.SIGTERM else -number, "")
    progress = weights_of(tmp_path)["progress"]
    assert [progress[key] for key in ("epoch", "batch", "samples", "step", "broken")] == [1, 3, 5, 3, {}]
    resumed = train_tiny(root, tmp_path, "--train.epochs=2", "--resume=auto")
    assert resumed.returncode == 0, resumed.stderr
    assert [line.split(":")[0] for line in resumed.stdout.splitlines()[1:3]] == ["epoch 1/2", "epoch 2/2"]
    assert_same_run(weights_of(tmp_path), weights_of(whole))
    assert weights_of(tmp_path)["progress"] == weights_of(whole)["progress"]


def test_a_run_killed_while_it_writes_a_checkpoint_goes_on(reside, tmp_path):
    assert train_tiny(reside, tmp_path / "whole").returncode == 0
    output = tmp_path / "part"
    parts = functools.partial((output / "checkpoints").glob, ".last.pt.*.part")
    for _ in range(5):
        with subprocess.Popen(**tiny_training(reside, output, "--resume=auto"), stdout=subprocess.PIPE) as process:
            while not (any(parts()) and (output / "checkpoints" / "last.pt").exists()):
                assert process.poll() is None, "it ended before it was seen writing"
            process.kill()
        if any(parts()):
            break
    assert any(parts())
    resumed = train_tiny(reside, output, "--resume=auto")
    assert resumed.returncode == 0, resumed.stderr
    assert not any(parts())
    assert_same_run(weights_of(output), weights_of(tmp_path / "whole"))


OLD_RUN = REFERENCE / "old_run"


@pytest.fixture
def old_run(tmp_path):
    """A copy of a run that an earlier version wrote, stopped after two of its three epochs, and its last.pt."""
    output = tmp_path / "old_run"
    shutil.copytree(OLD_RUN, output)
    return output, output / "checkpoints" / "last.pt"


def test_a_run_of_an_earlier_version_resumes_to_the_same_end(old_run, reside):
    output, _ = old_run
    options = [
        "--train.ema_decay=0.9",
        "--train.validate_every=3",
        "--train.keep_checkpoints=6",
        "--model.pool_sizes=[2]",
    ]
    result = train_tiny(reside, output, *options, "--resume=auto")
    assert result.returncode == 0, result.stderr
    assert f"resuming {output} at epoch 3, step 0" in result.stdout
    expected = json.loads((OLD_RUN / "expected.json").read_text())
    last = weights_of(output)
    assert last["progress"]["best_psnr"] == pytest.approx(expected["best_psnr"], rel=1e-3)
    averages = {name: value.abs().float().mean().item() for name, value in last["ema"].items()}
    assert averages == pytest.approx(expected["ema_mean_abs"], rel=1e-3, abs=1e-6)


def test_the_checkpoint_of_an_earlier_version_is_loaded_and_scored(old_run, reside, tmp_path):
    _, last = old_run
    weights, average = load_model(last).state_dict(), weights_of(OLD_RUN)["ema"]
    assert all(torch.equal(value, average[f"module.{name}"]) for name, value in weights.items())
    folders = ["--input", reside / "test" / "hazy", "--target", reside / "test" / "gt", "--output", tmp_path / "out"]
    result = run_script("test.py", "--weights", last, *folders)
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["sets"]["hazy"]["images"] == 2
