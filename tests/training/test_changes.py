"""Resuming with another configuration or data set: taken over, taken over with a line, or refused."""

import re
import shutil
from dataclasses import fields, is_dataclass
from typing import get_type_hints

import numpy as np
import pytest
import torch
import yaml
from album import damage
from conftest import assert_refused, train_tiny, trained_in, weights_of, write_reside
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data.images import write_image
from data.layouts import find_pairs
from data.sampler import EpochSampler
from training.changes import FREE, FROM_HERE, IDENTITY, check_changes, validation_changed
from utils import config as kinds
from utils.cli import read_yaml
from utils.config import Config
from utils.errors import InputError


def keys_of(kind, prefix=""):
    """Every key of the configuration, sets of test images as one."""
    for field in fields(kind):
        hint = get_type_hints(kind)[field.name]
        if is_dataclass(hint):
            yield from keys_of(hint, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


def test_every_key_is_in_exactly_one_class():
    for key in keys_of(Config):
        classes = [
            any(key == name or (name.endswith(".") and key.startswith(name)) for name in group)
            for group in (FREE, FROM_HERE, IDENTITY)
        ]
        assert sum(classes) == 1, key


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A data set of 5 pairs and the folder of a finished run of 4 epochs on it, 3 steps each."""
    return trained_in(tmp_path_factory.mktemp("half"), "--train.epochs=4", "--train.ema_decay=0.9")[:2]


@pytest.fixture
def run(half, tmp_path):
    """A copy of that run to resume."""
    root, output = half
    shutil.copytree(output, tmp_path / "run")
    return root, tmp_path / "run"


def resumed(run, *options, **values):
    root, output = run
    options = ["--train.epochs=4", "--train.ema_decay=0.9", *options]
    return train_tiny(root, output, *options, "--resume=auto", **values)


def points(output, tag):
    return [(event.step, event.value) for event in EventAccumulator(str(output)).Reload().Scalars(tag)]


@pytest.mark.parametrize(
    "option, before",
    [
        ("--model.channels=16", "8"),
        ("--model.num_blocks=2", "1"),
        ("--model.mean_window=0.5", "null"),
        ("--model.pool_sizes=[4,2]", "[8, 4, 2]"),
        ("--data.crop_size=96", "64"),
        ("--seed=1", "0"),
        ("--task=deraining", "dehazing"),
        ("--data.train.degrade=rain", "null"),
        ("--data.train.layout=plain", "reside"),
        ("--train.ema_decay=null", "0.9"),
    ],
)
def test_what_makes_it_another_run_is_refused(run, option, before):
    if "degrade" in option or "layout" in option:  # must be told apart by the configuration, not by missing files
        shutil.copytree(run[0], run[1].parent / "data")
        shutil.copytree(run[0] / "train" / "gt", run[1].parent / "data" / "train" / "input")
        shutil.copytree(run[0] / "train" / "gt", run[1].parent / "data" / "train" / "target")
        run = run[1].parent / "data", run[1]
    files = {path: path.read_bytes() for path in run[1].rglob("*") if path.is_file()}
    key, value = option.removeprefix("--").split("=")
    assert_refused(resumed(run, option), f"{key} was {before} and is now {value.replace(',', ', ')}", "--init-from")
    assert {path: path.read_bytes() for path in run[1].rglob("*") if path.is_file()} == files


# What data.train was and is now, and what a refusal says; None: the run goes on.
SET = {"folder": "train", "layout": "reside"}
ONCE, TWICE = SET | {"weight": 1}, SET | {"weight": 2}
OTHER_SETS = [
    (SET, [SET], None),
    ([ONCE, TWICE], [ONCE, TWICE | {"repeats": 1}], None),
    (SET, [SET, SET], "data.train was one set and is now 2 sets"),
    ([SET, SET], SET, "data.train was 2 sets and is now one set"),
    ([SET, SET], [SET, SET, SET], "data.train was 2 sets and is now 3 sets"),
    ([ONCE, TWICE], [ONCE, ONCE], "data.train[1].weight was 2 and is now 1"),
    ([ONCE, TWICE], [TWICE, ONCE], "data.train[0].weight was 1 and is now 2"),
    ([SET, SET], [SET, SET | {"degrade": "rain"}], "data.train[1].degrade was null and is now rain"),
]


@pytest.mark.parametrize("before, now, refusal", OTHER_SETS)
def test_other_training_sets_make_another_run(tmp_path, before, now, refusal):
    (tmp_path / "config.yaml").write_text(small_config(before).to_yaml())
    stored, config = read_yaml(tmp_path / "config.yaml"), small_config(now)
    if refusal is None:
        assert check_changes(stored, config, tmp_path) == []
    else:
        with pytest.raises(InputError, match=re.escape(refusal)):
            check_changes(stored, config, tmp_path)


def test_what_is_free_changes_nothing_and_says_nothing(run):
    free = ["--data.num_workers=1", "--train.log_every=2", "--train.keep_checkpoints=3", "--data.max_broken=3"]
    before = weights_of(run[1])
    result = resumed(run, *free, "--train.precision=bf16", "--train.max_skipped=7", "--train.validate_every=2")
    assert result.returncode == 0, result.stderr
    assert [line.split(":")[0].split(" ")[0] for line in result.stdout.splitlines()] == ["resuming", "done"]
    assert weights_of(run[1])["progress"] == before["progress"]
    assert not list(run[1].glob("config.until*"))


def test_more_epochs_follow_the_schedule_of_a_straight_run(run, half, tmp_path):
    root, _ = half
    result = resumed(run, "--train.epochs=8")
    assert result.returncode == 0, result.stderr
    assert "from step 13 on: train.epochs: 4 -> 8" in result.stdout
    straight = train_tiny(root, tmp_path / "straight", "--train.epochs=8", "--train.ema_decay=0.9")
    assert straight.returncode == 0, straight.stderr
    ours, theirs = (points(output, "train/lr") for output in (run[1], tmp_path / "straight"))
    assert [step for step, _ in ours] == list(range(1, 25))
    assert ours[12:] == theirs[12:]
    assert yaml.safe_load((run[1] / "config.until_step_12.yaml").read_text())["train"]["epochs"] == 4
    assert yaml.safe_load((run[1] / "config.yaml").read_text())["train"]["epochs"] == 8


def test_another_rate_takes_effect_as_if_it_had_always_been_so(run):
    result = resumed(run, "--train.epochs=8", "--train.lr=1e-5")
    assert result.returncode == 0, result.stderr
    assert "from step 13 on: train.lr: 0.0001 -> 1e-05" in result.stdout
    rates = [rate for step, rate in points(run[1], "train/lr") if step > 12]
    assert all(1e-6 <= rate < 1e-5 for rate in rates)
    assert rates == sorted(rates, reverse=True)


def test_another_batch_size_drops_no_point_of_the_curves(run):
    result = resumed(run, "--train.epochs=5", "--train.batch_size=5")
    assert "train.batch_size: 2 -> 5" in result.stdout
    result = resumed(run, "--train.epochs=6", "--train.batch_size=1")
    assert result.returncode == 0, result.stderr
    assert [step for step, _ in points(run[1], "loss/total")] == list(range(1, 12 + 1 + 5 + 1))
    assert [step for step, _ in points(run[1], "validation/SOTS-Indoor/psnr")] == [3, 6, 9, 12, 13, 18]


def test_other_validation_sets_choose_the_best_anew(run):
    result = resumed(run, "--train.epochs=5", "--data.test.SOTS-Indoor.protocol=rgb")
    assert result.returncode == 0, result.stderr
    assert "from step 13 on: best.pt: selection starts afresh" in result.stdout
    assert weights_of(run[1], "best.pt")["epoch"] == 5


@pytest.mark.parametrize("change", ["added", "removed", "replaced"])
def test_a_data_set_that_changed_is_said(run, tmp_path, change):
    root = tmp_path / "changed"
    shutil.copytree(run[0] / "train", root / "train")
    shutil.copytree(run[0] / "test", root / "test")
    if change == "added":
        shutil.copy(root / "train" / "hazy" / "10_1.png", root / "train" / "hazy" / "10_9.png")
    elif change == "removed":
        (root / "train" / "hazy" / "10_1.png").unlink()
    else:
        write_image(root / "train" / "hazy" / "10_1.png", np.zeros((70, 100, 3), np.uint8))
    result = resumed((root, run[1]), "--train.epochs=5")
    assert result.returncode == 0, result.stderr
    now = {"added": 6, "removed": 4, "replaced": 5}[change]
    assert f"from step 13 on: the training set changed: 5 pairs before, {now} now" in result.stdout
    again = resumed((root, run[1]), "--train.epochs=5")
    assert "training set changed" not in again.stdout


def test_a_validation_done_again_leaves_one_point(run):
    """The state on disk after a kill between the validation's point and the checkpoint that follows it."""
    checkpoints = run[1] / "checkpoints"
    shutil.copy(checkpoints / "last.previous.pt", checkpoints / "last.pt")
    progress = weights_of(run[1])["progress"]
    assert (progress["epoch"], progress["samples"]) == (4, 5)
    result = resumed(run, "--train.epochs=5")
    assert result.returncode == 0, result.stderr
    assert [step for step, _ in points(run[1], "validation/SOTS-Indoor/psnr")] == [3, 6, 9, 12, 15]
    assert [step for step, _ in points(run[1], "loss/total")] == list(range(1, 16))
    assert [step for step, _ in points(run[1], "train/lr")] == list(range(1, 16))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A data set, and the folder of a run on it that a broken image, since mended, ended after 2 of 5 steps."""
    root = write_reside(tmp_path_factory.mktemp("stopped") / "reside")
    third = find_pairs(root / "train", "reside")[order(5)[2]].input
    content = third.read_bytes()
    damage(third)
    result = train_tiny(root, root / "run", "--train.batch_size=1", "--data.max_broken=0")
    assert result.returncode == 2
    third.write_bytes(content)
    progress = weights_of(root / "run")["progress"]
    assert [progress[key] for key in ("epoch", "batch", "samples", "step")] == [1, 2, 2, 2]
    return root


def order(length):
    """The order of the images in the first epoch."""
    return [index for ((_, index),) in EpochSampler(length, 1, seed=0)]


def change_training_set(root, change):
    """Change the set, and return the number of its pairs."""
    hazy = root / "train" / "hazy"
    if change == "many added":
        for number in range(3, 9):
            shutil.copy(hazy / "10_1.png", hazy / f"10_{number}.png")
    elif change == "most removed":
        for path in [*hazy.glob("1[01]_*.png"), *(root / "train" / "gt").glob("1[01].png")]:
            path.unlink()
    else:
        write_image(hazy / "10_1.png", np.zeros((70, 100, 3), np.uint8))
    return len(list(hazy.iterdir()))


CHANGES = ["many added", "most removed", "one replaced"]


@pytest.mark.parametrize("change", CHANGES)
def test_a_data_set_that_changes_within_an_epoch_starts_the_epoch_again(stopped, tmp_path, change):
    root = shutil.copytree(stopped, tmp_path / "changed")
    now = change_training_set(root, change)
    result = train_tiny(root, root / "run", "--train.batch_size=1", "--resume=auto", "--train.epochs=2")
    assert result.returncode == 0, result.stderr
    first, line, *_ = result.stdout.splitlines()
    assert first == f"resuming {root / 'run'} at epoch 1, step 0"
    assert line.startswith("from step 3 on: train.epochs")
    assert f"from step 3 on: the training set changed: 5 pairs before, {now} now" in result.stdout
    assert "; epoch 1 starts again" in result.stdout
    assert [step for step, _ in points(root / "run", "loss/total")] == list(range(1, 2 + 2 * now + 1))
    assert [step for step, _ in points(root / "run", "validation/SOTS-Indoor/psnr")] == [2 + now, 2 + 2 * now]
    rates = [rate for _, rate in points(root / "run", "train/lr")]
    assert len(set(rates[: 2 + now])) == 1  # one step of the schedule for the epoch


@pytest.mark.parametrize("change", CHANGES)
def test_a_data_set_that_changes_before_a_validation_leaves_one_point_of_it(half, tmp_path, change):
    """The state on disk after a kill between the validation's point and the checkpoint that follows it."""
    root = shutil.copytree(half[0], tmp_path / "changed")
    checkpoints = root / "run" / "checkpoints"
    shutil.copy(checkpoints / "last.previous.pt", checkpoints / "last.pt")
    now = change_training_set(root, change)
    result = resumed((root, root / "run"), "--train.epochs=5")
    assert result.returncode == 0, result.stderr
    assert f"from step 13 on: the training set changed: 5 pairs before, {now} now" in result.stdout
    assert "starts again" not in result.stdout
    steps = 12 + -(-now // 2)
    assert [step for step, _ in points(root / "run", "loss/total")] == list(range(1, steps + 1))
    assert [step for step, _ in points(root / "run", "validation/SOTS-Indoor/psnr")] == [3, 6, 9, 12, steps]


def test_another_batch_size_within_an_epoch_keeps_the_position(stopped, tmp_path):
    root = shutil.copytree(stopped, tmp_path / "changed")
    result = train_tiny(root, root / "run", "--train.batch_size=2", "--resume=auto")
    assert result.returncode == 0, result.stderr
    line = "from step 3 on: train.batch_size: 1 -> 2; epoch 1 continues after 2 of 5 images"
    assert line in result.stdout.splitlines()
    assert [step for step, _ in points(root / "run", "loss/total")] == list(range(1, 2 + 2 + 3 + 3 + 1))


def test_other_validation_images_choose_the_best_anew(half, tmp_path):
    root = shutil.copytree(half[0], tmp_path / "changed")
    shutil.copy(root / "test" / "hazy" / "20_1.png", root / "test" / "hazy" / "20_9.png")
    result = resumed((root, root / "run"), "--train.epochs=5")
    assert result.returncode == 0, result.stderr
    assert "from step 13 on: best.pt: selection starts afresh" in result.stdout
    assert weights_of(root / "run", "best.pt")["epoch"] == 5
    assert "afresh" not in resumed((root, root / "run"), "--train.epochs=6").stdout


def test_a_run_that_was_never_validated_is_not_done(stopped, tmp_path):
    """Two of ten epochs are done when it is resumed for only two, and no validation was due yet."""
    root = shutil.copytree(stopped, tmp_path / "changed")
    state = weights_of(root / "run")
    state["progress"].update(epoch=3, batch=0, samples=0, step=10)
    torch.save(state, root / "run" / "checkpoints" / "last.pt")
    result = train_tiny(root, root / "run", "--train.batch_size=1", "--resume=auto", "--train.epochs=2")
    assert_refused(result, "no best.pt", "up to 2", "train.epochs, which is 2")
    assert "done" not in result.stdout


DAMAGED = ["text", 3, None, [1, 2], {"a": 3}, {"a": {"folder": [1]}}, {1: {None: 2}}, {"a": {"a": {"a": "a" * 1000}}}]


def small_config(sets):
    """A configuration with one training set or a list of them."""
    train = kinds.TrainConfig(epochs=1, batch_size=1, lr=1e-3, warmup_epochs=0, clip_norm=1.0, validate_every=1)
    several = {"sets": [kinds.MixedSetConfig(**part) for part in sets]} if isinstance(sets, list) else sets
    data = kinds.DataConfig(root=".", train=kinds.TrainSetConfig(**several), test={"a": kinds.TestSetConfig()})
    return Config(task="dehazing", data=data, train=train)


def test_a_stored_configuration_of_another_structure_is_no_crash(tmp_path):
    config = small_config({})
    sound = config.to_dict()
    assert (check_changes(sound, config, tmp_path), validation_changed(sound, config)) == ([], False)
    places = [(key,) for key in sound] + [(part, key) for part in ("model", "data", "train") for key in sound[part]]
    for *parts, key in places:
        for value in DAMAGED:
            stored = config.to_dict()
            (stored[parts[0]] if parts else stored)[key] = value
            try:
                lines = check_changes(stored, config, tmp_path)
            except InputError as error:
                lines = [str(error)]
            assert all(key in line and len(line) < 400 + len(str(tmp_path)) for line in lines)
            assert isinstance(validation_changed(stored, config), bool)
