"""Processes killed at random moments: nothing is lost, and the end is that of an undisturbed run."""

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from album import write_album
from conftest import assert_same_run, tiny_arguments
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from attack.images import same_pixels
from attack.judge import Trial, Victim, faults_of, run_script


def attack(folder: Path, victim: Victim, rng: np.random.Generator, count: int) -> Iterator[Trial]:
    """Kill trainings and restorations ``count`` times, continue them, and compare."""
    whole = run_script("train.py", *tiny_arguments(victim.root, folder / "whole"), seconds=300)
    yield Trial("an undisturbed training", faults_of(whole, allowed=(0,)))
    expected = torch.load(folder / "whole" / "checkpoints" / "last.pt", weights_only=True)
    for index in range(count // 2):
        output = folder / f"run{index}"
        arguments = [*tiny_arguments(victim.root, output), "--resume", "auto"]
        delays = sorted(rng.uniform(0, whole.seconds, int(rng.integers(1, 4))))
        for delay in delays:
            run_script("train.py", *arguments, kill_after=delay)
        outcome = run_script("train.py", *arguments, seconds=300)
        trial = Trial(f"training {index} killed after {shown(delays)}", faults_of(outcome, allowed=(0,)))
        if not trial.faults:
            trial.faults += differences(torch.load(output / "checkpoints" / "last.pt", weights_only=True), expected)
            trial.faults += doubled_points(output) + leftovers(output)
        yield trial
        shutil.rmtree(output, ignore_errors=True)

    write_album(folder / "in")
    job = ["--weights", victim.weights, "--input", folder / "in", "--compare", "--output"]
    whole = run_script("restore.py", *job, folder / "restored", seconds=300)
    yield Trial("an undisturbed restoration", faults_of(whole, allowed=(0,)))
    for index in range(count - count // 2):
        output = folder / f"out{index}"
        delays = sorted(rng.uniform(0, whole.seconds, int(rng.integers(1, 4))))
        for delay in delays:
            run_script("restore.py", *job, output, kill_after=delay)
        outcome = run_script("restore.py", *job, output, seconds=300)
        trial = Trial(f"restoration {index} killed after {shown(delays)}", faults_of(outcome, allowed=(0,)))
        for path in sorted((folder / "restored").rglob("*.*")):
            result = output / path.relative_to(folder / "restored")
            if path.is_file() and path.suffix != ".json" and not (result.exists() and same_pixels(result, path)):
                trial.faults.append(f"{path.name} is missing or different")
        trial.faults += leftovers(output)
        yield trial
        shutil.rmtree(output, ignore_errors=True)


def shown(delays: list[float]) -> str:
    """Delays for a message."""
    return ", ".join(f"{delay:.2f} s" for delay in delays)


def differences(state: dict, expected: dict) -> list[str]:
    """How a run's state differs from that of the undisturbed run."""
    try:
        assert_same_run(state, expected)
    except AssertionError:
        return ["other weights or optimizer state than undisturbed"]
    return []


def doubled_points(output: Path) -> list[str]:
    """Steps that a curve has more than once."""
    events = EventAccumulator(str(output))
    events.Reload()
    faults = []
    for tag in events.Tags()["scalars"]:
        steps = Counter(event.step for event in events.Scalars(tag))
        faults += [f"{tag}: step {step} {times} times" for step, times in steps.items() if times > 1]
    return faults[:3]


def leftovers(output: Path) -> list[str]:
    """Temporary files that were left."""
    return [f"left: {path.name}" for path in output.rglob("*") if path.name.endswith((".part", ".tmp"))][:3]
