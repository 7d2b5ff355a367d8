"""Images that break only when they are decoded, or vanish, in training and validation."""

import re
import subprocess

from album import damage
from conftest import (
    assert_refused,
    assert_same_run,
    errors_of,
    kill_when,
    run_parallel,
    tiny_arguments,
    tiny_training,
    train_tiny,
    weights_of,
    write_reside,
)

DAMAGE = "the image is damaged (wrong checksum in its IDAT chunk)"


def test_training_goes_on_with_other_images_and_resumes_exactly(reside, tmp_path):
    broken = damage(reside / "train" / "hazy" / "10_1.png")
    unscored = damage(reside / "test" / "hazy" / "20_2.png")
    whole = train_tiny(reside, tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    lines = whole.stderr.splitlines()
    assert [line for line in lines if str(broken) in line] == [f"warning: {broken}: {DAMAGE}; replaced by other images"]
    assert lines.count(f"error: {unscored}: {DAMAGE}") == 3
    kill_when(tiny_training(reside, tmp_path / "part", "--data.num_workers=2"), "epoch 1/3")
    resumed = train_tiny(reside, tmp_path / "part", "--resume=auto", "--data.num_workers=1")
    assert resumed.returncode == 0, resumed.stderr
    assert str(broken) not in resumed.stderr  # it was known
    assert list(weights_of(tmp_path / "part")["progress"]["broken"]) == [str(broken)]
    assert_same_run(weights_of(tmp_path / "part"), weights_of(tmp_path / "whole"))


def test_too_many_broken_images_end_the_run_which_goes_on_when_they_are_mended(reside, tmp_path):
    path = reside / "train" / "hazy" / "10_1.png"
    content = path.read_bytes()
    damage(path)
    options = ["--data.num_workers=2", "--data.max_broken=0", "--resume=auto"]
    stopped = train_tiny(reside, tmp_path, *options)
    assert stopped.returncode == 2
    *_, last = stopped.stderr.splitlines()
    assert last.startswith("error: 1 broken training image: ")
    assert f"{path}: {DAMAGE}" in last
    assert "data.max_broken is 0" in last
    assert weights_of(tmp_path)["progress"]["epoch"] == 1
    assert_refused(train_tiny(reside, tmp_path, *options), path, "data.max_broken is 0")
    path.write_bytes(content)
    resumed = train_tiny(reside, tmp_path, *options)
    assert resumed.returncode == 0, resumed.stderr
    assert weights_of(tmp_path)["progress"]["broken"] == {}


def test_the_broken_images_of_all_processes_count(tmp_path):
    root = write_reside(tmp_path / "reside")
    paths = [str(damage(root / "train" / "hazy" / name)) for name in ("10_1.png", "11_1.png", "12_1.png")]
    options = ["--data.max_broken=2", "--train.batch_size=4"]
    result = run_parallel("train.py", *tiny_arguments(root, tmp_path / "run", *options))
    (error,) = errors_of(result)
    assert error.startswith("error: 3 broken training images: ")
    assert all(path in error for path in paths)
    assert result.stderr.count("warning: ") == 3
    assert sorted(weights_of(tmp_path / "run")["progress"]["broken"]) == sorted(paths)


def test_an_image_that_vanishes_during_the_run_is_replaced(reside, tmp_path):
    path = reside / "train" / "hazy" / "11_2.png"
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(**tiny_training(reside, tmp_path, "--data.num_workers=1"), **options) as process:
        assert process.stdout.readline().startswith("epoch 1/3")
        path.unlink()
        _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert err.count(f"warning: {path}: cannot read the image: No such file or directory") == 1


def test_an_empty_disk_ends_the_run(reside, tmp_path):
    """Every image gone at once, such as with a disk that went away: not a step on nothing, and a way back."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = tiny_training(reside, tmp_path, "--train.validate_every=3", "--train.epochs=300")
    with subprocess.Popen(**command, **options) as process:
        while not (tmp_path / "checkpoints" / "last.previous.pt").exists():
            assert process.poll() is None
        (reside / "train").rename(reside / "away")
        _, err = process.communicate(timeout=200)
    assert process.returncode == 2, err
    # 5 inputs; a target as well, where the folder went away between a pair's two files
    assert re.match(r"error: \d+ broken training images: ", err.splitlines()[-1])
    (reside / "away").rename(reside / "train")
    resumed = train_tiny(reside, tmp_path, "--train.validate_every=3", "--train.epochs=4", "--resume=auto")
    assert resumed.returncode == 0, resumed.stderr
