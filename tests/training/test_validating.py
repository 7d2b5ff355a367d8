"""When a run is validated, on what, and by which score its best weights are chosen."""

import shutil
import subprocess
import time

import pytest
import torch
import yaml
from conftest import assert_refused, assert_same_run, kill_when, tiny_training, train_tiny, weights_of, write_reside
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data.layouts import Pair
from training.loaders import spread

OFTEN = ["--train.validate_every_steps=2", "--train.validate_start=true", "--train.validate_every=3"]
SET = "validation/SOTS-Indoor/psnr"


def points(output, tag=SET):
    return [(event.step, event.value) for event in EventAccumulator(str(output)).Reload().Scalars(tag)]


@pytest.fixture(scope="module")
def often(tmp_path_factory):
    """A data set, and the folder of a run of 3 epochs of 3 steps that is validated at the start and every two steps."""
    root = write_reside(tmp_path_factory.mktemp("often") / "reside", test_hazes=6)
    result = train_tiny(root, root / "run", *OFTEN)
    assert (result.returncode, result.stderr) == (0, "")
    return root, root / "run", result


def test_a_run_is_validated_at_the_start_and_every_few_steps(often):
    _, output, result = often
    assert [step for step, _ in points(output)] == [0, 2, 4, 6, 8, 9]
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == [
        "epoch 1/3, step 0",
        "epoch 1/3, step 2",
        "epoch 2/3, step 4",
        "epoch 2/3",
        "epoch 3/3, step 8",
        "epoch 3/3",
        "done",
    ]
    best = weights_of(output, "best.pt")
    assert best["psnr"] == pytest.approx(max(psnr for _, psnr in points(output)), abs=1e-4)


def test_validating_more_often_does_not_change_the_training(often, tmp_path):
    root, output, _ = often
    assert train_tiny(root, tmp_path, "--train.validate_every=3").returncode == 0
    assert_same_run(weights_of(tmp_path), weights_of(output))


SLOW = [pytest.param(moment, marks=pytest.mark.slow) for moment in ("epoch 1/3, step 0", "epoch 2/3:")]


@pytest.mark.parametrize("moment", ["epoch 1/3, step 2", *SLOW])
def test_a_run_killed_after_a_validation_ends_as_one_that_never_stopped(often, tmp_path, moment):
    root, whole, _ = often
    kill_when(tiny_training(root, tmp_path, *OFTEN), moment)
    resumed = train_tiny(root, tmp_path, *OFTEN, "--resume=auto")
    assert resumed.returncode == 0, resumed.stderr
    assert_same_run(weights_of(tmp_path), weights_of(whole))
    assert weights_of(tmp_path)["progress"] == weights_of(whole)["progress"]
    assert points(tmp_path) == points(whole)
    assert points(tmp_path, "validation/best_psnr") == points(whole, "validation/best_psnr")


@pytest.mark.slow
def test_a_run_killed_within_the_first_validation_begins_with_it(often, tmp_path):
    root, whole, _ = often
    last = tmp_path / "checkpoints" / "last.pt"
    with subprocess.Popen(**tiny_training(root, tmp_path, *OFTEN), stdout=subprocess.PIPE) as process:
        while not last.exists():
            assert process.poll() is None
            time.sleep(0.001)
        process.kill()
    resumed = train_tiny(root, tmp_path, *OFTEN, "--resume=auto")
    assert resumed.returncode == 0, resumed.stderr
    assert_same_run(weights_of(tmp_path), weights_of(whole))
    assert points(tmp_path) == points(whole)


def test_few_images_are_evenly_spaced():
    pairs = [Pair(str(number), None, None) for number in range(10)]
    assert [pair.name for pair in spread(pairs, 4)] == ["0", "2", "5", "7"]
    assert spread(pairs, None) == spread(pairs, 10) == spread(pairs, 99) == pairs


def test_a_run_validates_on_fewer_images_and_chooses_anew_on_more(often, tmp_path):
    root, *_ = often
    few = ["--train.epochs=2", "--train.validate_images=2"]
    result = train_tiny(root, tmp_path, *few)
    assert result.returncode == 0, result.stderr
    assert weights_of(tmp_path)["progress"]["validation"]["pairs"] == 2
    more = train_tiny(root, tmp_path, "--train.epochs=3", "--train.validate_images=4", "--resume=auto")
    assert "from step 7 on: train.validate_images: 2 -> 4" in more.stdout
    assert "best.pt: selection starts afresh, because the validation sets changed" in more.stdout
    assert weights_of(tmp_path, "best.pt")["epoch"] == 3


def test_best_weights_are_those_of_the_chosen_score(often, tmp_path):
    root, *_ = often
    options = ["--train.lr=3e-3", "--train.validate_every=1", "--train.best_by=ssim", "--train.epochs=4"]
    result = train_tiny(root, tmp_path, *options)
    assert result.returncode == 0, result.stderr
    scores = {name: [value for _, value in points(tmp_path, f"validation/{name}")] for name in ("psnr", "ssim")}
    best = scores["ssim"].index(max(scores["ssim"]))
    stored = weights_of(tmp_path, "best.pt")
    assert stored["epoch"] == best + 1
    assert (stored["ssim"], stored["psnr"]) == pytest.approx((scores["ssim"][best], scores["psnr"][best]), abs=1e-4)
    assert points(tmp_path, "validation/best_ssim")[-1][1] == pytest.approx(max(scores["ssim"]))
    assert f"best validation SSIM {max(scores['ssim']):.4f}, its PSNR" in result.stdout
    more = train_tiny(root, tmp_path, *options, "--train.best_by=psnr", "--train.epochs=5", "--resume=auto")
    assert "best.pt: selection starts afresh, because train.best_by changed" in more.stdout


@pytest.mark.parametrize("option", ["validate_every_steps=0", "validate_images=0", "best_by=lpips", "validate_start=2"])
def test_a_wrong_value_is_refused(often, tmp_path, option):
    root, *_ = often
    assert_refused(train_tiny(root, tmp_path / "out", f"--train.{option}"), f"train.{option.split('=')[0]}")


def test_a_run_of_an_earlier_version_is_not_validated_again(trained, tmp_path):
    root, output, _ = trained
    shutil.copytree(output, tmp_path / "run")
    state = weights_of(output)
    for key in ("validated", "best_score"):
        del state["progress"][key]
    torch.save(state, tmp_path / "run" / "checkpoints" / "last.pt")
    config = yaml.safe_load((output / "config.yaml").read_text())
    for key in ("best_by", "validate_images"):
        del config["train"][key]
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(config))
    result = train_tiny(root, tmp_path / "run", "--resume=auto")
    assert result.returncode == 0, result.stderr
    assert [line.split(" ")[0].rstrip(":") for line in result.stdout.splitlines()] == ["resuming", "done"]
    assert len(points(tmp_path / "run")) == 3
