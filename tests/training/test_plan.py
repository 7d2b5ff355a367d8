"""train.py --plan says what a run needs and leaves no trace."""

import re
import sys
from pathlib import Path

import pytest
import torch
from conftest import assert_refused, run_process, tiny_training, train_tiny

from evaluation.cost import count_gmacs
from models import build_model
from training import plan
from training.plan import Memory, accumulation, peak_memory, used_memory, validations
from utils.config import TrainConfig
from utils.distributed import Group
from utils.errors import InputError

CPU = torch.device("cpu")
NUMBER = r"[\d.e+-]+"


def rows_of(result) -> dict[str, str]:
    assert result.returncode == 0, result.stderr
    return {line[:18].strip(): line[19:] for line in result.stdout.splitlines()}


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_plan_has_the_figures_of_the_run_and_writes_nothing(reside, tmp_path):
    before = content(tmp_path)
    cache = tmp_path / "cache"
    rows = rows_of(train_tiny(reside, tmp_path / "run", "--plan", "--train.validate_every=2", f"--data.cache={cache}"))
    assert content(tmp_path) == before
    assert not (tmp_path / "run").exists()
    model = build_model(num_blocks=1, channels=8)
    assert rows["parameters"] == f"{sum(parameter.numel() for parameter in model.parameters()):,}"
    assert rows["cost"].startswith(f"{count_gmacs(model):.2f} GMACs")
    assert re.match(r"0\.\d\d GiB at 2 images \(train\.batch_size 2, train\.accumulate 1\)", rows["memory of a step"])
    assert rows["whole batch"] == "train.batch_size 2 fits at once"
    assert re.fullmatch(f"{NUMBER} steps/s, {NUMBER} images/s", rows["speed"])
    assert re.fullmatch(f"{NUMBER} s for 2 images, 2 times", rows["validation"])
    hours = re.fullmatch(
        f"({NUMBER}) hours: 9 steps ({NUMBER}) h, validation ({NUMBER}) h, checkpoints ({NUMBER}) h", rows["whole run"]
    )
    total, *parts = map(float, hours.groups())
    assert total == pytest.approx(sum(parts), rel=0.02)
    assert 0 < total < 1


def test_the_disk_is_what_a_run_takes_and_a_run_stays_as_it_is(reside, tmp_path):
    run = tmp_path / "run"
    options = ("--train.ema_decay=0.9", "--train.keep_checkpoints=3")
    assert train_tiny(reside, run, *options).returncode == 0
    before = content(run)
    rows = rows_of(train_tiny(reside, run, *options, "--plan"))
    assert content(run) == before
    megabytes = float(re.match(NUMBER, rows["disk"])[0])
    assert megabytes == pytest.approx(
        sum(len(file) for path, file in before.items() if path.suffix == ".pt") / 1e6, rel=0.1
    )


LITTLE_MEMORY = """
import runpy, sys
from training import plan
plan.SHARE = float(sys.argv.pop(1)) * 2**30 / plan.free_memory(plan.torch.device("cpu"))
runpy.run_path("train.py", run_name="__main__")
"""


@pytest.mark.parametrize("gib", [0.35, 0.0001])
def test_a_batch_that_does_not_fit_needs_accumulation(reside, tmp_path, gib):
    options = ("--plan", "--train.batch_size=20", "--data.train.repeats=4", "--train.epochs=2")
    training = tiny_training(reside, tmp_path / "run", *options)
    # In a process of its own: this one may have memory to spare, which the plan would not count.
    result = run_process(training | {"args": [sys.executable, "-c", LITTLE_MEMORY, str(gib), *training["args"][2:]]})
    if gib < 0.01:
        assert_refused(result, "data.crop_size: a step with one image")
        return
    rows = rows_of(result)
    needed = int(re.search(r"needs train\.accumulate (\d+) or more here", rows["whole batch"])[1])
    most = int(rows["largest that fits"].split()[0])
    assert 1 < needed == accumulation(20, most)
    assert f"(with train.accumulate {needed})" in rows["speed"]


def test_memory_grows_with_the_batch_as_predicted():
    memory = Memory(100.0, 10.0)
    assert [memory.largest(free) for free in (50, 109, 110, 150, 151)] == [0, 0, 1, 5, 5]
    assert memory.of(memory.largest(1234)) <= 1234 < memory.of(memory.largest(1234) + 1)
    before = used_memory(CPU)
    with peak_memory(CPU) as most:
        held = torch.ones(2**26)  # 256 MiB
        del held
        torch.ones(1)
    assert most() - before == pytest.approx(2**28, rel=0.1)


@pytest.mark.parametrize(
    "batch, most, parts", [(8, 8, 1), (8, 100, 1), (8, 7, 2), (8, 3, 3), (8, 2, 4), (8, 1, 8), (1, 1, 1)]
)
def test_the_least_accumulation_is_found(batch, most, parts):
    assert accumulation(batch, most) == parts
    assert -(-batch // parts) <= most


@pytest.mark.parametrize(
    "options, times",
    [
        ({"validate_every": 1}, 10),
        ({"validate_every": 3}, 4),
        ({"validate_every": 100}, 1),
        ({"validate_every": 5, "validate_start": True}, 3),
        ({"validate_every": 10, "validate_every_steps": 30}, 4),
        ({"validate_every": 1, "validate_every_steps": 20}, 10),  # both after every second epoch
        ({"validate_every": 3, "validate_every_steps": 15, "validate_start": True}, 8),  # both after 30, 60, 90
    ],
)
def test_validations_are_counted(options, times):
    train = TrainConfig(epochs=10, batch_size=1, lr=1e-3, warmup_epochs=1, clip_norm=1.0, **options)
    assert validations(train, [10] * 10) == times


def test_a_run_validates_as_often_as_planned(reside, tmp_path):
    """Three epochs of three steps; the one after step 6 is due for both reasons."""
    options = ("--train.validate_every=2", "--train.validate_every_steps=2", "--train.validate_start=true")
    assert ", 6 times" in rows_of(train_tiny(reside, tmp_path / "run", *options, "--plan"))["validation"]
    result = train_tiny(reside, tmp_path / "run", *options)
    assert (result.returncode, result.stdout.count("dB, best ")) == (0, 6), result.stdout


def test_several_processes_are_refused(tmp_path):
    with pytest.raises(InputError, match="without torchrun"):
        plan.plan(None, tmp_path, Group(0, 2, CPU))
