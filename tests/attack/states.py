"""Hostile run states: each is refused or resumed from, and a sound older checkpoint is found."""

import copy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conftest import tiny_arguments

from attack.images import mutated
from attack.judge import Trial, Victim, faults_of, run_script
from attack.weights import saved

VALUES = [None, -5, 10**30, 1.5, float("nan"), float("inf"), "text", [], [1], {}, (0.9,), True, torch.zeros(1)]
TENSORS = [
    torch.zeros(1),
    torch.zeros(()),
    torch.zeros(0),
    torch.zeros(8, 8).to_sparse(),
    torch.zeros(4, dtype=torch.float8_e4m3fn),
    torch.full((8, 3, 3, 3), float("nan")),
    torch.zeros(1).expand(2**40),
    torch.zeros(4, dtype=torch.uint8),
]
MISSING = object()


def leaves(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The paths to all values in nested containers, containers included."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from leaves(item, (*path, key))


def replaced(state: dict, path: tuple, value: Any) -> dict:
    """A copy of ``state`` with one value replaced or removed."""
    state = copy.deepcopy(state)
    container = state
    for key in path[:-1]:
        container = container[key]
    if value is MISSING:
        del container[path[-1]]
    else:
        container[path[-1]] = value
    return state


def attack(folder: Path, victim: Victim, rng: np.random.Generator, count: int) -> Iterator[Trial]:
    """Resume a run ``count`` times whose last checkpoint was tampered with."""
    base = folder / "base"
    run = [*tiny_arguments(victim.root, base), "--train.epochs=2"]
    first = run_script("train.py", *run, seconds=120)
    yield Trial("a short training", faults_of(first, allowed=(0,)))
    state = torch.load(base / "checkpoints" / "last.pt", weights_only=True)
    by_part: dict[Any, list[tuple]] = {}
    for path in leaves(state):
        by_part.setdefault(path[0], []).append(path)
    for index in range(count):
        output = folder / f"run{index}"
        shutil.copytree(base, output)
        last = output / "checkpoints" / "last.pt"
        if index % 10 == 9:
            name, content = mutated(last.read_bytes(), rng)
        else:
            paths = list(by_part.values())[rng.integers(len(by_part))]
            path = paths[rng.integers(len(paths))]
            choices = [MISSING, *VALUES, *TENSORS]
            value = choices[rng.integers(len(choices))]
            shown = "removed" if value is MISSING else repr(value)[:40]
            name, content = f"{'.'.join(map(str, path))}: {shown}", saved(replaced(state, path, value))
        last.write_bytes(content)
        arguments = [*tiny_arguments(victim.root, output), "--train.epochs=3", "--resume", "auto"]
        outcome = run_script("train.py", *arguments, seconds=60)
        trial = Trial(f"state {index}: {name}", faults_of(outcome))
        if outcome.status == 0:
            trial.faults += not_finite(output / "checkpoints" / "last.pt")
        yield trial
        shutil.rmtree(output)


def not_finite(path: Path) -> list[str]:
    """Names of weights in a checkpoint that are not finite."""
    weights = torch.load(path, weights_only=True)["model"]
    return [f"{name} is not finite" for name, value in weights.items() if not value.isfinite().all()][:1]
