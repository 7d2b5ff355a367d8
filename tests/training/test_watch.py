"""Waiting for data, skipped steps and runs that diverge."""

import numpy as np
import pytest
import torch
from conftest import SMALL, assert_refused, save_model, train_tiny, weights_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data.images import write_image
from losses import LossTerms
from models import build_model
from training.step import Update
from training.watch import Meter, TimedLoader
from utils.distributed import Group


class Clock:
    """Stands for the ``time`` of a module; runs only when it is moved."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def perf_counter(self) -> float:
        return self.seconds


def test_only_the_wait_for_a_batch_is_counted(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("training.watch.time", clock)

    def loader():
        clock.seconds += 5  # starting the workers
        for batch in range(4):
            clock.seconds += 2
            yield batch

    class Epochs:
        def __iter__(self):
            return loader()

    batches = TimedLoader(Epochs())
    for _ in range(2):
        assert list(batches) == [0, 1, 2, 3]
    assert batches.seconds == 2 * (5 + 4 * 2)
    for _ in batches:
        clock.seconds += 100  # the training step
    assert batches.seconds == 3 * (5 + 4 * 2)


def update_of(loss, finite=True):
    """The figures of an update with the same value for each loss term."""
    value = torch.tensor(loss)
    return Update(LossTerms(value, value, value), torch.tensor(1.0), torch.tensor(finite))


@pytest.mark.parametrize("saved_after", [0, 1, 3])
def test_an_epoch_that_is_resumed_has_the_means_of_a_whole_one(monkeypatch, saved_after):
    clock = Clock()
    monkeypatch.setattr("training.watch.time", clock)
    loader, group = TimedLoader([]), Group(0, 1, torch.device("cpu"))
    meter = Meter(group, 9, loader)
    for number, (loss, finite) in enumerate([(0.1, True), (float("nan"), False), (0.3, True), (0.7, True)]):
        if number == saved_after:
            so_far = meter.so_far()
            clock.seconds += 1000
            loader.seconds = 0.0
            meter = Meter(group, 9, loader, so_far)
        clock.seconds += 2
        loader.seconds += 0.5
        meter.add(update_of(loss, finite), {"name": ["a", "b"]})
    means = meter.take_epoch()
    expected = {f"epoch/loss_{term}": (0.1 + 0.3 + 0.7) / 3 for term in ("total", "content", "fft")}
    assert means == pytest.approx(expected | {"epoch/images_per_second": 1, "epoch/waiting_for_data": 0.25})
    assert meter.end_epoch() is None
    assert meter.so_far() == {}


BLACK, WHITE = (np.full((64, 64, 3), value, np.uint8) for value in (0, 255))


@pytest.fixture
def overflowing(tmp_path):
    """Weights with which black images stay finite and white ones do not: they are multiplied beyond float32."""
    torch.manual_seed(0)
    model = build_model(**SMALL)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
        model.embed.weight.fill_(3e38)
    return save_model(tmp_path / "overflowing.pt", model, SMALL)


def write_images(root, white: int) -> None:
    """A data set of 8 training images, the last ``white`` of which are white, and a black test image."""
    for index in range(8):
        image = WHITE if index >= 8 - white else BLACK
        write_image(root / "train" / "hazy" / f"{index}_1.png", image)
        write_image(root / "train" / "gt" / f"{index}.png", image)
    for folder, name in (("hazy", "9_1"), ("gt", "9")):
        write_image(root / "test" / folder / f"{name}.png", BLACK)


def test_a_step_that_is_not_finite_is_skipped_counted_and_the_run_goes_on(overflowing, tmp_path):
    write_images(tmp_path / "data", white=2)
    options = ["--init-from", overflowing, "--train.batch_size=1", "--train.log_every=8", "--train.epochs=2"]
    result = train_tiny(tmp_path / "data", tmp_path / "run", *options)
    assert result.returncode == 0, result.stderr
    warnings = [line for line in result.stderr.splitlines() if "skipped" in line]
    expected = [f"warning: skipped 2 of the 8 steps up to step {step}" for step in (8, 16)]
    assert [line.rsplit(":", 1)[0] for line in warnings] == expected
    last = weights_of(tmp_path / "run")
    assert all(value.isfinite().all() for value in last["model"].values())
    # Each of the twelve other steps counted, and no more.
    assert {int(state["step"]) for state in last["optimizer"]["state"].values()} == {12}
    curves = EventAccumulator(str(tmp_path / "run")).Reload()
    assert [event.value for event in curves.Scalars("train/skipped_steps")] == [2, 2]
    assert all(np.isfinite(event.value) for event in curves.Scalars("loss/total"))
    assert [event.step for event in curves.Scalars("loss/total")] == [1, 8, 16]


def test_too_many_in_a_row_end_the_run_and_name_the_images(overflowing, tmp_path):
    write_images(tmp_path / "data", white=8)
    options = ["--init-from", overflowing, "--train.batch_size=1", "--train.max_skipped=3", "--train.log_every=4"]
    result = train_tiny(tmp_path / "data", tmp_path / "run", *options)
    assert_refused(result, "3 steps in a row", "train.lr", "3 images", "hazy/")


def test_a_run_without_a_single_step_is_a_failure(overflowing, tmp_path):
    """Fewer steps than train.max_skipped, all of them skipped."""
    write_images(tmp_path / "data", white=8)
    result = train_tiny(tmp_path / "data", tmp_path / "run", "--init-from", overflowing, "--train.log_every=50")
    assert_refused(result, "no step of the epoch had a finite loss", "train.lr", "hazy/")
    assert "done" not in result.stdout


def test_a_run_that_diverges_ends_and_keeps_its_last_finite_weights(reside, tmp_path):
    options = ["--train.lr=1e3", "--train.clip_norm=1e9", "--train.warmup_epochs=0", "--train.max_skipped=3"]
    result = train_tiny(reside, tmp_path / "run", *options, "--train.epochs=6", "--train.validate_every=6")
    assert result.returncode == 2
    assert "steps in a row" in result.stderr
    last = weights_of(tmp_path / "run")
    assert all(value.isfinite().all() for value in last["model"].values())


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_run_whose_network_restores_nothing_finite_is_not_done(reside, tmp_path, epochs):
    options = ["--train.lr=100", f"--train.epochs={epochs}", "--train.warmup_epochs=0", "--train.ema_decay=0.9"]
    result = train_tiny(reside, tmp_path / "run", *options)
    assert result.returncode == 2
    assert "done" not in result.stdout
    *skipped, last = result.stderr.splitlines()
    assert all(line.startswith("warning: skipped ") for line in skipped)
    assert last.startswith("error: SOTS-Indoor: after step 3, the network restores none of the 2 validation images")
    assert last.endswith("with a lower train.lr")
    assert not (tmp_path / "run" / "checkpoints" / "best.pt").exists()
