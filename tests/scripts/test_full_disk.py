"""Disks that are full: a limit on the size of files stands for them."""

import resource
import signal

import numpy as np
from conftest import (
    ROOT,
    assert_refused,
    assert_same_run,
    command_of,
    kill_when,
    run_process,
    run_script,
    tiny_training,
    train_tiny,
    weights_of,
)

from data.images import write_image


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
    assert_refused(run_process(limited(resume, size // 2)), last)
    assert last.read_bytes() == before
    assert not list(last.parent.glob("*.part"))
    assert_refused(run_process(limited(resume, size + 200_000)), output, "File too large")
    assert_refused(run_process(limited(resume, 500)), output / "config.yaml", "File too large")
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
        refused = run_process(limited(again, 100))
        assert refused.returncode == 2
        (line,) = refused.stderr.splitlines()
        assert line.startswith(f"error: {output}")
        assert line.endswith("File too large")
        assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before
