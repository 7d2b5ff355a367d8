"""Saving and restoring the complete state of a run."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from training.sound_state import sound_state
from utils.checkpoint_files import kept_checkpoints
from utils.checkpoint_reading import load_checkpoint
from utils.errors import InputError, printable, shortened

UNSOUND = "cannot resume: damaged, incomplete, or of a run with other settings"


def training_state(stateful: Mapping[str, Any], progress: Mapping[str, Any]) -> dict[str, Any]:
    """What ``resume_training`` restores: the state dicts of ``stateful``, the progress and the random states."""
    random = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}
    states = {name: item.state_dict() for name, item in stateful.items()}
    return states | {"progress": dict(progress), "random": random}


def resume_training(path: Path, stateful: Mapping[str, Any], progress: Mapping[str, Any]) -> dict[str, Any]:
    """Restore the state that ``training_state`` returned when ``path`` was saved.

    If ``path`` is missing, damaged or incomplete, the newest valid checkpoint before it is used instead, with a warning
    on stderr, and the damaged file is renamed (last.pt to last.damaged.pt).

    Args:
        path: the newest checkpoint of the run.
        stateful: the objects to restore, by their key in the checkpoint.
        progress: the keys to restore; None is the value of those that an older checkpoint does not have.

    Returns:
        The progress of the run.

    Raises:
        InputError: no checkpoint is valid, or the run used another model, optimizer or moving average.
    """
    problems = []
    for file in kept_checkpoints(path):
        try:
            state = _load_training(file, stateful, progress)
        except InputError as error:
            problems.append((file, str(error)))
        else:
            break
    else:
        raise InputError(problems[0][1])
    if file != path:
        problem = problems[0][1] if problems else f"{path}: no such file"
        print(printable(f"warning: {problem}; resuming from {file}"), file=sys.stderr)
        for damaged, _ in problems:  # otherwise the next saves would rotate valid checkpoints out
            os.replace(damaged, path.with_name(f"{path.stem}.damaged{path.suffix}"))
        os.replace(file, path)
    try:
        for name, item in stateful.items():
            if state[name] or not isinstance(item, torch.amp.GradScaler):  # empty if the run was not in fp16
                item.load_state_dict(state[name])
            if isinstance(item, Optimizer):
                _match_memory_format(item)
        torch.set_rng_state(state["random"]["cpu"])
        if state["random"]["cuda"]:
            torch.cuda.set_rng_state_all(state["random"]["cuda"])
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: {UNSOUND}: {shortened(str(error), 200)}") from None
    return dict(progress) | state["progress"]


def _load_training(path: Path, stateful: Mapping[str, Any], progress: Mapping[str, Any]) -> dict[str, Any]:
    """Load the checkpoint of a run and check all that will be restored from it."""
    checkpoint = load_checkpoint(path)
    try:
        return sound_state(checkpoint, stateful, progress)
    except ValueError as error:
        raise InputError(f"{path}: {UNSOUND}: {shortened(str(error), 200)}") from None


def _match_memory_format(optimizer: Optimizer) -> None:
    """Give each state tensor the strides of its parameter.

    Fused kernels traverse both in memory order, and the run may have been trained in another memory format on another
    kind of machine.
    """
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if value.shape == parameter.shape and value.stride() != parameter.stride():
                state[key] = torch.empty_like(parameter).copy_(value)
