"""Crops and batches by epoch: drawn as configured, killed and resumed across a change, compiled for each size."""

import pytest
import torch
import yaml
from conftest import (
    ITS,
    TINY,
    assert_refused,
    assert_same_run,
    command_of,
    few,
    kill_when,
    run_script,
    weights_of,
    write_reside,
)
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from data.datasets import train_loader, training_sets
from data.sampler import EpochSampler
from data.sets import training_pairs
from utils.cli import ScriptParser, config_of
from utils.compiling import compiled

# 5 pairs; epochs of 3, 2 and 5 steps
STAGES = [{"epoch": 2, "crop_size": 96, "batch_size": 3}, {"epoch": 3, "crop_size": [64, 128], "batch_size": 1}]
OPTIONS = [*TINY, "--train.ema_decay=0.9", "--data.vertical_flip=true", "--data.quarter_turns=true"]


def arguments(root, output, stages=STAGES):
    """The arguments of train.py for these stages."""
    file = root / "progressive.yaml"
    file.write_text(yaml.safe_dump({"base": str(ITS), "data": {"root": str(root)}, "train": {"progressive": stages}}))
    return ["--config", file, "--output", output, *OPTIONS]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A data set, and the folder of a run on it that never stopped."""
    root = write_reside(tmp_path_factory.mktemp("progressive") / "reside")
    result = run_script("train.py", *arguments(root, root / "run"))
    assert (result.returncode, result.stderr) == (0, "")
    return root, root / "run"


def test_each_epoch_has_the_crops_and_batches_of_its_stage(whole):
    root, run = whole
    assert weights_of(run)["progress"]["step"] == 3 + 2 + 5
    parser = ScriptParser()
    parser.add_config()
    config = config_of(parser.instantiate(parser.parse_args(["--config", str(run / "config.yaml")])))
    sampler = EpochSampler(
        5, 2, config.seed, later_sizes=[(stage.epoch, stage.batch_size) for stage in config.stages()]
    )
    loader = train_loader(training_sets(config, training_pairs(root, config.data.train)), sampler, 1)
    shapes = []
    for epoch in (1, 2, 3):
        sampler.set_position(epoch, samples=0)
        assert len(sampler) == sampler.batches(epoch)
        shapes.append([tuple(batch["input"].shape) for batch in loader])
    assert shapes == [
        [(2, 3, 64, 64), (2, 3, 64, 64), (1, 3, 64, 64)],
        [(3, 3, 96, 96), (2, 3, 96, 96)],
        [(1, 3, 64, 128)] * 5,
    ]


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_run_killed_before_a_change_or_after_it_ends_as_one_that_never_stopped(whole, tmp_path, epoch):
    root, run = whole
    kill_when(command_of("train.py", *arguments(root, tmp_path)), f"epoch {epoch}/3")
    result = run_script("train.py", *arguments(root, tmp_path), "--resume=auto")
    assert result.returncode == 0, result.stderr
    assert_same_run(weights_of(tmp_path), weights_of(run))
    assert weights_of(tmp_path)["progress"] == weights_of(run)["progress"]
    steps = [event.step for event in EventAccumulator(str(tmp_path)).Reload().Scalars("loss/total")]
    assert steps == list(range(1, 11))


def test_stages_may_be_added_to_a_run_and_are_reported(whole, tmp_path):
    root, _ = whole
    assert run_script("train.py", *arguments(root, tmp_path, []), "--train.epochs=2").returncode == 0
    later = [{"epoch": 3, "crop_size": 96, "batch_size": 4}]
    result = run_script("train.py", *arguments(root, tmp_path, later), "--resume=auto")
    assert result.returncode == 0, result.stderr
    assert "from step 7 on: train.progressive: [] -> [{'epoch': 3, 'crop_size': 96, 'batch_size': 4}]" in result.stdout
    assert weights_of(tmp_path)["progress"]["step"] == 3 + 3 + 2


FIRST = STAGES[0]
REFUSED = [
    ([FIRST | {"epoch": 1}], "train.progressive[0].epoch: expected a number from 2"),
    ([FIRST, FIRST], "train.progressive: expected stages in the order of their epochs, not 2, 2"),
    ([FIRST | {"crop_size": 100}], "train.progressive[0].crop_size: 100x100 does not suit this network"),
    ([FIRST | {"batch_size": 0}], "train.progressive[0].batch_size: expected a number from 1"),
    ([FIRST | {"crop": 96}], "'crop'"),
    ([{"epoch": 2, "crop_size": 96}], "batch_size"),
    (3, "train.progressive"),
]


@pytest.mark.parametrize("stages, words", REFUSED)
def test_what_is_wrong_with_a_stage_is_told(whole, tmp_path, stages, words):
    root, _ = whole
    assert_refused(run_script("train.py", *arguments(root, tmp_path / "no", stages)), words)
    assert not (tmp_path / "no" / "checkpoints").exists()


def test_micro_batches_need_as_many_images_in_every_stage(whole, tmp_path):
    root, _ = whole
    result = run_script("train.py", *arguments(root, tmp_path / "no"), "--train.accumulate=2")
    assert_refused(result, "train.accumulate: 2 micro-batches", "is 1")


@few
@given(
    st.integers(1, 40),
    st.lists(st.tuples(st.integers(2, 6), st.integers(1, 9)), max_size=3, unique_by=lambda stage: stage[0]).map(sorted),
    st.integers(1, 7),
    st.data(),
)
def test_an_epoch_of_any_stage_is_entered_at_any_step(length, later, epoch, data):
    sampler = EpochSampler(length, 4, seed=1, later_sizes=later)
    sampler.set_position(epoch, samples=0)
    size = next((size for first, size in reversed(later) if first <= epoch), 4)
    whole = list(sampler)
    assert [len(batch) for batch in whole] == [size] * (length // size) + [length % size] * (length % size > 0)
    step = data.draw(st.integers(0, len(whole)))
    again = EpochSampler(length, 4, seed=1, later_sizes=later)
    again.set_position(epoch, samples=step * size)
    assert list(again) == whole[step:]
    assert len(again) == again.batches(epoch, step * size) == len(whole) - step


@pytest.mark.slow
def test_a_network_is_compiled_for_more_sizes_than_the_compiler_does_by_itself():
    forward = compiled(nn.Conv2d(3, 3, 3))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    for side in range(32, 32 * 13, 32):  # Restormer's six crops, each with a whole and a last batch
        forward(torch.rand(1, 3, side, side))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 12
    assert "recompile_limit" not in str(dict(torch._dynamo.utils.counters["unimplemented"]))
