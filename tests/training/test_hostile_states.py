"""Run states made to do harm: refused in one line, or passed over for the checkpoint before; nothing is half loaded."""

import copy
import math
import random
import shutil
import warnings
from collections import OrderedDict

import pytest
import torch
from conftest import SMALL, assert_refused, train_tiny, trained_in, weights_of
from warmup_scheduler import GradualWarmupScheduler

from models import build_model
from models.schema import is_dense
from training.moving_average import MovingAverage
from training.resume import resume_training, training_state
from training.sound_state import sound_state
from utils.errors import InputError, printable

PROGRESS = {
    "epoch": 3,
    "batch": 1,
    "samples": 2,
    "step": 7,
    "best_psnr": 20.5,
    "so_far": {"total": 1.5},
    "broken": {"a.png": "a.png: not a readable image"},
    "shown": {"SOTS-Indoor": {"hard": "hazy/1_1"}},
    "data": {"pairs": 5, "sha256": "0" * 64},
}


def run_objects(seed: int) -> dict:
    """The objects of a run after one step."""
    torch.manual_seed(seed)
    model = build_model(**SMALL, pool_sizes=(2,))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3, 1e-6)
    scheduler = GradualWarmupScheduler(optimizer, 1, 1, cosine)
    ema = MovingAverage(model, 0.9)
    sum(output.mean() for output in model(torch.rand(2, 3, 64, 64))).backward()
    optimizer.step()
    ema.update_parameters(model)
    scheduler.step()
    scaler = torch.amp.GradScaler("cpu")
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "scaler": scaler, "ema": ema}


RUN = run_objects(0)
STATE = training_state(RUN, PROGRESS)
INDEX = next(n for n, parameter in enumerate(RUN["model"].parameters()) if parameter.shape == (16, 16, 3, 3))


# Fields that are alike stand for one another: of the parameters, two of different shape and the statistics of a norm.
NORM = "encoder.1.0.between.attentions.0.norm"
WEIGHT = "encoder.1.0.conv1.weight"
SAMPLED = {name for name in STATE["model"] if name.startswith(NORM)} | {WEIGHT}
SAMPLED |= {f"module.{name}" for name in SAMPLED} | {"n_averaged", INDEX}
UNREAD = {"maximize", "foreach", "capturable", "differentiable", "fused", "decoupled_weight_decay"}  # from the program


def fields(state: object, path: tuple = ()):
    """The path to each field of a state."""
    if path:
        yield path
    if isinstance(state, dict):
        keys = SAMPLED if path in (("optimizer", "state"), ("model",), ("ema",)) else state.keys() - UNREAD
        for key in [key for key in state if key in keys]:
            yield from fields(state[key], (*path, key))
    elif isinstance(state, (list, tuple)) and path[-1:] != ("params",):
        for number, value in enumerate(state):
            yield from fields(value, (*path, number))


def replaced(state: object, path: tuple, value: object) -> object:
    """A copy of a state with another value in one field."""
    if not path:
        return value
    key, *rest = path
    parts = dict(state) if isinstance(state, dict) else list(state)
    parts[key] = replaced(state[key], tuple(rest), value)
    return tuple(parts) if isinstance(state, tuple) else parts


def removed(state: object, path: tuple) -> object:
    """A copy of a state without one field."""
    parts = dict(state) if isinstance(state, dict) else list(state)
    if len(path) == 1:
        del parts[path[0]]
    else:
        parts[path[0]] = removed(state[path[0]], path[1:])
    return tuple(parts) if isinstance(state, tuple) else parts


class Hidden(OrderedDict):
    """Pickled as an OrderedDict whose attributes hide its methods."""

    def __reduce__(self):
        return OrderedDict, (), {"items": 5, "keys": 5, "get": 5, "_metadata": 5, "values": 5}


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    VALUES = {
        "nothing": None,
        "text": "two",
        "bytes": b"two",
        "true": True,
        "negative": -5,
        "NaN": math.nan,
        "infinite": math.inf,
        "a fraction": 2.5,
        "huge": 10**30,
        "huge float": 1e30,
        "an empty list": [],
        "numbers": [0.9],
        "a pair": (0.9, math.nan),
        "an empty mapping": {},
        "a mapping": {"a": 1},
        "a mapping by numbers": {0: 1},
        "a mapping with hidden methods": Hidden(a=1),
        "one number as a tensor": torch.tensor(0.5),
        "a NaN as a tensor": torch.tensor(math.nan),
        "one number in a tensor": torch.zeros(1),
        "no number in a tensor": torch.zeros(0),
        "bytes in a tensor": torch.zeros(16, dtype=torch.uint8),
        "random bytes": torch.randint(256, (5056,), dtype=torch.uint8),
        "a negative tensor": torch.full((16, 16, 3, 3), -1.0),
        "a NaN in a tensor": torch.full((16, 16, 3, 3), math.nan),
        "float64": torch.zeros(16, 16, 3, 3, dtype=torch.float64),
        "float8": torch.zeros(16, 16, 3, 3).to(torch.float8_e4m3fn),
        "sparse": torch.zeros(16, 16, 3, 3).to_sparse(),
        "meta": torch.zeros(16, 16, 3, 3, device="meta"),
        "quantised": torch.quantize_per_tensor(torch.zeros(16, 16, 3, 3), 0.1, 0, torch.qint8),
        "terabytes": torch.zeros(1).expand(10**6, 10**6),
    }


def field(state: object, path: tuple) -> object:
    for key in path:
        state = state[key]
    return state


def fits(value: object, original: object) -> bool:
    """Whether a value may be taken for what was saved."""
    if isinstance(original, torch.Tensor):
        same = isinstance(value, torch.Tensor) and (value.shape, value.dtype) == (original.shape, original.dtype)
        return same and is_dense(value) and bool(value.isfinite().all())
    if isinstance(original, (int, float)) and not isinstance(original, bool):
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, type(original)) and (not isinstance(value, (list, tuple)) or len(value) == len(original))


CASES = [(path, kind) for path in fields(STATE) for kind in ("missing", *VALUES)]


def unfit_cases() -> list:
    return [(path, kind) for path, kind in CASES if kind != "missing" and not fits(VALUES[kind], field(STATE, path))]


def hostile(path: tuple, kind: str) -> dict:
    """The state of a run with one field missing or replaced."""
    return removed(STATE, path) if kind == "missing" else replaced(STATE, path, VALUES[kind])


def state_of(run: dict) -> dict:
    return copy.deepcopy({name: item.state_dict() for name, item in run.items()})


def assert_same(one: object, other: object) -> None:
    ours, theirs = (torch.utils._pytree.tree_leaves(state) for state in (one, other))
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_the_sound_state_is_taken_as_it_is():
    state = sound_state(STATE, RUN, PROGRESS)
    assert state["progress"] == PROGRESS
    assert_same({name: state[name] for name in RUN}, state_of(RUN))


def test_no_field_takes_a_value_that_cannot_be():
    taken, lines = [], []
    for path, kind in random.Random(2).sample(CASES, 120):
        state = hostile(path, kind)
        try:
            sound_state(state, RUN, PROGRESS)
        except ValueError as error:
            lines.append((path[0], printable(str(error))))
        else:
            taken.append((path, kind))
    assert not set(taken) & set(unfit_cases())
    assert {path for path, kind in taken if kind == "missing"} <= {
        ("progress", "so_far", "total"),
        ("progress", "broken", "a.png"),
        ("progress", "shown", "SOTS-Indoor"),
        ("progress", "shown", "SOTS-Indoor", "hard"),
        ("progress", "data"),
    }
    assert len(taken) < 20
    assert all(section in line and len(line) < 200 for section, line in lines)


def test_sixty_states_are_passed_over_for_the_checkpoint_before(tmp_path, capsys):
    sound, run, path = run_objects(1), run_objects(2), tmp_path / "last.pt"
    torch.save(training_state(sound, PROGRESS | {"epoch": 2}), tmp_path / "before.pt")
    for case in random.Random(0).sample(unfit_cases(), 60):
        shutil.copyfile(tmp_path / "before.pt", tmp_path / "last.previous.pt")
        torch.save(hostile(*case), path)
        assert resume_training(path, run, PROGRESS)["epoch"] == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"warning: {path}: ")
        assert line.endswith("; resuming from {}".format(tmp_path / "last.previous.pt"))
        assert_same(state_of(run), state_of(sound))


def test_without_a_checkpoint_before_the_run_is_refused_and_untouched(tmp_path):
    run, path = run_objects(2), tmp_path / "last.pt"
    untouched = state_of(run)
    for case in random.Random(1).sample(unfit_cases(), 20):
        torch.save(hostile(*case), path)
        with pytest.raises(InputError, match=f"^{path}: "):
            resume_training(path, run, PROGRESS)
        assert_same(state_of(run), untouched)


SEEN = {
    "one number for a parameter": (("optimizer", "state", INDEX, "exp_avg"), "one number in a tensor"),
    "a parameter without its state": (("optimizer", "state", INDEX), "missing"),
    "no state": (("optimizer", "state"), "an empty mapping"),
    "half a state": (("optimizer", "state", INDEX, "exp_avg_sq"), "missing"),
    "float8": (("model", WEIGHT), "float8"),
    "an epoch below zero": (("progress", "epoch"), "negative"),
    "one beta": (("optimizer", "param_groups", 0, "betas"), "numbers"),
    "a random state of another size": (("random", "cpu"), "bytes in a tensor"),
    "random bytes": (("random", "cpu"), "random bytes"),
    "a progress without its epoch": (("progress", "epoch"), "missing"),
}


@pytest.mark.parametrize("kind", SEEN)
def test_what_ended_in_a_crash_or_was_taken_in_silence_is_refused(kind):
    with pytest.raises(ValueError, match=SEEN[kind][0][0]):
        sound_state(hostile(*SEEN[kind]), RUN, PROGRESS)


@pytest.fixture(scope="module")
def run_with_two_checkpoints(tmp_path_factory):
    """A data set and the folder of a run on it, with a moving average, that can go on for an epoch."""
    return trained_in(tmp_path_factory.mktemp("hostile"), "--train.ema_decay=0.9", "--train.epochs=2")[:2]


def test_training_goes_on_from_the_checkpoint_before_or_is_refused(run_with_two_checkpoints, tmp_path):
    root, run = run_with_two_checkpoints
    options = ("--train.ema_decay=0.9", "--train.epochs=3", "--resume=auto")
    hostile_state = replaced(weights_of(run), ("optimizer", "state", 3, "exp_avg"), torch.zeros(1))
    last = run / "checkpoints" / "last.pt"
    (last.parent / "last.previous.pt").rename(tmp_path / "before.pt")
    torch.save(hostile_state, last)
    assert_refused(train_tiny(root, run, *options), last, "optimizer.state.3.exp_avg has shape (1,)")
    (tmp_path / "before.pt").rename(last.parent / "last.previous.pt")
    result = train_tiny(root, run, *options)
    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith(f"warning: {last}: ")
    assert len(result.stderr.splitlines()) == 1
    assert (last.parent / "last.damaged.pt").exists()
    far = replaced(weights_of(run), ("progress", "epoch"), 2**50)  # the schedule is not stepped as often as that
    torch.save(far, last)
    assert train_tiny(root, run, *options).returncode == 0
