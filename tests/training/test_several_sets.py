"""Several training sets through train.py: killed and resumed, in two processes, and what is refused."""

import pytest
import yaml
from conftest import (
    ITS,
    TINY,
    assert_refused,
    assert_same_run,
    command_of,
    kill_when,
    run_parallel,
    run_script,
    weights_of,
    write_reside,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

# 5 hazy pairs and 3 clean targets in two degradations: 11 samples, of which 6, 3 and 2 by weight.
SETS = [
    {"folder": "train", "layout": "reside", "weight": 3},
    {"folder": "train/gt", "degrade": [{"noise": {"sigma": [5, 25]}}, "jpeg"], "weight": 1.5},
    {"folder": "train/gt", "degrade": "rain", "weight": 1},
]
OPTIONS = [*TINY, "--train.batch_size=3", "--train.ema_decay=0.9"]


def arguments(root, output, sets=SETS):
    """The arguments of train.py for these sets."""
    file = root / "mixed.yaml"
    file.write_text(yaml.safe_dump({"base": str(ITS), "data": {"root": str(root), "train": sets}}))
    return ["--config", file, "--output", output, *OPTIONS]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A data set, and the folder of a run on it that never stopped."""
    root = write_reside(tmp_path_factory.mktemp("several") / "reside")
    result = run_script("train.py", *arguments(root, root / "run"))
    assert (result.returncode, result.stderr) == (0, "")
    return root, root / "run"


def test_a_killed_run_ends_as_one_that_never_stopped(whole, tmp_path):
    root, run = whole
    kill_when(command_of("train.py", *arguments(root, tmp_path)), "epoch 1/3")
    assert weights_of(tmp_path)["progress"]["epoch"] < 4
    result = run_script("train.py", *arguments(root, tmp_path), "--resume=auto", "--data.num_workers=2")
    assert result.returncode == 0, result.stderr
    assert_same_run(weights_of(tmp_path), weights_of(run))
    assert weights_of(tmp_path)["progress"] == weights_of(run)["progress"]
    assert weights_of(run)["progress"]["step"] == 3 * 4  # 11 samples in batches of 3
    assert yaml.safe_load((run / "config.yaml").read_text())["data"]["train"][1]["degrade"] == SETS[1]["degrade"]


def test_the_configuration_of_a_run_starts_the_same_run(whole, tmp_path):
    _, run = whole
    result = run_script("train.py", "--config", run / "config.yaml", "--output", tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert_same_run(weights_of(tmp_path), weights_of(run))


@pytest.mark.slow
def test_two_processes_draw_the_samples_of_one(whole, tmp_path):
    root, run = whole
    result = run_parallel("train.py", *arguments(root, tmp_path))
    assert result.returncode == 0, result.stderr
    one, two = (EventAccumulator(str(output)).Reload() for output in (run, tmp_path))
    losses = [[event.value for event in events.Scalars("loss/total")] for events in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=2e-4)


def test_a_list_of_one_set_is_that_set(whole, tmp_path):
    root, _ = whole
    one = {"folder": "train", "layout": "reside"}
    for output, sets in (("a", one), ("b", [one])):
        result = run_script("train.py", *arguments(root, tmp_path / output, sets), "--train.epochs=2")
        assert (result.returncode, result.stderr) == (0, "")
    assert_same_run(weights_of(tmp_path / "a"), weights_of(tmp_path / "b"))
    again = run_script("train.py", *arguments(root, tmp_path / "a", [one]), "--train.epochs=2", "--resume=auto")
    assert again.returncode == 0, again.stderr


def test_images_added_to_one_of_the_sets_are_noticed(whole, tmp_path):
    root, _ = whole
    sets = [{"folder": "train", "layout": "reside", "repeats": 3}, {"folder": "more", "degrade": "haze"}]
    (tmp_path / "more").mkdir()
    gt = root / "train" / "gt"
    (tmp_path / "more" / "a.png").write_bytes((gt / "10.png").read_bytes())
    sets[1]["folder"] = str(tmp_path / "more")
    run = arguments(root, tmp_path / "run", sets)
    assert run_script("train.py", *run, "--train.epochs=2").returncode == 0
    (tmp_path / "more" / "b.png").write_bytes((gt / "11.png").read_bytes())
    result = run_script("train.py", *run, "--resume=auto")
    assert result.returncode == 0, result.stderr
    assert "the training set changed: 6 pairs before, 7 now" in result.stdout
    assert weights_of(tmp_path / "run")["progress"]["length"] == 17


REFUSED = [
    ([SETS[0], {"folder": "train/gt", "degrade": "rain"}], "data.train[1].weight: expected a number"),
    ([SETS[0], SETS[1] | {"weight": 1e-6}], "data.train[1].weight: 1e-06 of 3 is less than one of the 8 samples"),
    ([SETS[0], SETS[1] | {"degrade": "fog"}], "data.train[1].degrade: unknown degradation 'fog'"),
    ([SETS[0], SETS[1] | {"folder": "gone"}], "gone"),
    ([SETS[0], SETS[1] | {"wait": 3}], "'wait'"),
    ([SETS[0], 3], "data.train[]: expected a section, not 3"),
    ([], "data.train: expected at least one training set"),
]


@pytest.mark.parametrize("sets, words", REFUSED)
def test_what_is_wrong_with_one_of_several_sets_is_told(whole, tmp_path, sets, words):
    root, _ = whole
    assert_refused(run_script("train.py", *arguments(root, tmp_path / "no", sets)), words)
    assert not (tmp_path / "no").exists()


def test_an_option_for_the_set_is_refused_if_there_are_several(whole, tmp_path):
    root, _ = whole
    result = run_script("train.py", *arguments(root, tmp_path / "no"), "--data.train.degrade=rain")
    assert_refused(result, "data.train.degrade: data.train is a list of 3 sets", "configuration file")


def test_every_set_is_checked(whole, tmp_path):
    root, _ = whole
    config, file, *_ = arguments(root, tmp_path)
    result = run_script("-m data.check", config, file)
    assert result.stdout.count("train[") == 3
    assert "train[0]: 5 pairs, 3 targets" in result.stdout
    assert "train[2]: 3 pairs, 3 targets" in result.stdout
