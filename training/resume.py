"""Saving and restoring the complete state of a run."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves

from utils.checkpoint_files import kept_checkpoints, load_checkpoint
from utils.errors import InputError

OTHER_RUN = "cannot resume: the run was started with other settings, or its checkpoint is incomplete"


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
        progress: the keys to restore, with defaults for those that an older checkpoint does not have.

    Returns:
        The progress of the run.

    Raises:
        InputError: no checkpoint is valid, or the run used another model, optimizer or moving average.
    """
    problems = []
    for file in kept_checkpoints(path):
        try:
            checkpoint = _load_training(file, stateful, progress)
        except InputError as error:
            problems.append((file, str(error)))
        else:
            break
    else:
        raise InputError(problems[0][1])
    if file != path:
        problem = problems[0][1] if problems else f"{path}: no such file"
        print(f"warning: {problem}; resuming from {file}", file=sys.stderr)
        for damaged, _ in problems:  # otherwise the next saves would rotate valid checkpoints out
            os.replace(damaged, path.with_name(f"{path.stem}.damaged{path.suffix}"))
        os.replace(file, path)
    try:
        for name, item in stateful.items():
            if checkpoint[name] or not isinstance(item, torch.amp.GradScaler):  # empty if the run was not in fp16
                item.load_state_dict(checkpoint[name])
            if isinstance(item, Optimizer):
                _match_memory_format(item)
        torch.set_rng_state(checkpoint["random"]["cpu"])
        if len(checkpoint["random"]["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(checkpoint["random"]["cuda"])
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: {OTHER_RUN}: {' '.join(str(error).split())[:200]}") from None
    return {key: checkpoint["progress"].get(key, default) for key, default in progress.items()}


def _load_training(path: Path, stateful: Mapping[str, Any], progress: Mapping[str, Any]) -> dict[str, Any]:
    """Load the checkpoint of a run and check that it contains everything ``stateful`` needs."""
    checkpoint = load_checkpoint(path)
    expected = {name: item.state_dict() for name, item in stateful.items()}
    if not checkpoint.get("scaler"):
        expected.pop("scaler", None)
    expected |= {"random": {"cpu": torch.get_rng_state(), "cuda": []}, "progress": {}}
    if mismatch := _mismatch(checkpoint, expected):
        raise InputError(f"{path}: {OTHER_RUN}: {mismatch}")
    if mismatch := _mismatch(dict(progress) | checkpoint["progress"], progress):
        raise InputError(f"{path}: not the checkpoint of a run: progress.{mismatch}")
    for name, item in stateful.items():
        if isinstance(item, Optimizer) and (mismatch := _optimizer_mismatch(checkpoint[name], item)):
            raise InputError(f"{path}: {OTHER_RUN}: {name}: {mismatch}")
    for section in stateful.keys() & checkpoint.keys():
        tensors = [value for value in tree_leaves(checkpoint[section]) if isinstance(value, Tensor)]
        if nonfinite := sum(not value.isfinite().all() for value in tensors):
            raise InputError(f"{path}: damaged: {nonfinite} of {len(tensors)} tensors in {section} not finite")
    return checkpoint


def _optimizer_mismatch(stored: Mapping[str, Any], optimizer: Optimizer) -> str:
    """Why a stored state does not match the optimizer's parameters; fused kernels would read past a smaller tensor."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = [number for group in stored["param_groups"] for number in group["params"]]
    if len(numbers) != len(parameters):
        return f"has state for {len(numbers)} parameters, not {len(parameters)}"
    if stored["state"] and set(stored["state"]) != set(numbers):
        return f"has state for {len(stored['state'])} parameters, not {len(parameters)}"
    for number, parameter in zip(numbers, parameters, strict=True):
        for key, value in stored["state"].get(number, {}).items():
            shape = () if key == "step" else parameter.shape
            if not isinstance(value, Tensor) or value.layout != torch.strided or value.shape != shape:
                return f"{key} of parameter {number} is not a dense tensor of shape {tuple(shape)}"
            dtype = torch.float32 if key == "step" else parameter.dtype
            if value.dtype != dtype:
                return f"{key} of parameter {number} is {value.dtype}, not {dtype}"
        if stored["state"] and not {"step", "exp_avg", "exp_avg_sq"} <= stored["state"][number].keys():
            return f"the state of parameter {number} is incomplete"
    return ""


def _match_memory_format(optimizer: Optimizer) -> None:
    """Give each state tensor the strides of its parameter.

    Fused kernels traverse both in memory order, and the run may have been trained in another memory format on another
    kind of machine.
    """
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if value.shape == parameter.shape and value.stride() != parameter.stride():
                state[key] = torch.empty_like(parameter).copy_(value)


def _mismatch(stored: Any, expected: Any) -> str:
    """Where the structure of a stored state first differs from the expected one; empty if they match."""
    if isinstance(expected, Mapping):
        if not isinstance(stored, Mapping):
            return "is not a mapping"
        for key, value in expected.items():
            if key not in stored:
                return f"{key} is missing"
            if mismatch := _mismatch(stored[key], value):
                return f"{key}{' ' if mismatch.startswith(('is ', 'has ')) else '.'}{mismatch}"
        return ""
    if isinstance(expected, Tensor):
        if not isinstance(stored, Tensor):
            return "is not a tensor"
        return "" if stored.shape == expected.shape else f"has shape {tuple(stored.shape)}, not {tuple(expected.shape)}"
    if isinstance(expected, (bool, int, float)):
        return "" if isinstance(stored, (bool, int, float)) else "is not a number"
    if isinstance(expected, (str, list, tuple)):
        return "" if isinstance(stored, (str, list, tuple)) else f"is not a {type(expected).__name__}"
    return ""
