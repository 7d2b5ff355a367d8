"""The state of a run in a checkpoint, and putting it back."""

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

OTHER_RUN = "cannot resume this run: it was started with other settings, or its checkpoint is incomplete"


def training_state(stateful: Mapping[str, Any], progress: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that ``resume_training`` restores: the state dicts of ``stateful``, progress and random states."""
    random = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}
    states = {name: item.state_dict() for name, item in stateful.items()}
    return states | {"progress": dict(progress), "random": random}


def resume_training(path: Path, stateful: Mapping[str, Any], progress: Mapping[str, Any]) -> dict[str, Any]:
    """Restore what ``training_state`` returned when ``path`` was saved; returns the progress.

    ``progress`` gives the keys, and values for those that an older checkpoint lacks. If ``path`` is missing, damaged or
    incomplete, the newest sound checkpoint before it is used, with a warning on stderr, and the damaged file is kept
    beside it as ``damaged``.

    Raises:
        InputError: no checkpoint is sound; or the run had another model or optimizer, or no moving average.
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
        for damaged, _ in problems:  # or the next saves would rotate them in place of sound ones
            os.replace(damaged, path.with_name(f"{path.stem}.damaged{path.suffix}"))
        os.replace(file, path)
    try:
        for name, item in stateful.items():
            if checkpoint[name] or not isinstance(item, torch.amp.GradScaler):  # empty: the run was not in fp16
                item.load_state_dict(checkpoint[name])
            if isinstance(item, Optimizer):
                _match_memory_format(item)
        torch.set_rng_state(checkpoint["random"]["cpu"])
        if len(checkpoint["random"]["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(checkpoint["random"]["cuda"])
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: {OTHER_RUN}: {' '.join(str(error).split())[:200]}") from None
    return dict(progress) | checkpoint["progress"]


def _load_training(path: Path, stateful: Mapping[str, Any], progress: Mapping[str, Any]) -> dict[str, Any]:
    """Load the checkpoint of a run and check that it has all that ``stateful`` needs."""
    checkpoint = load_checkpoint(path)
    own = {name: item.state_dict() for name, item in stateful.items()}
    if not checkpoint.get("scaler"):
        own.pop("scaler", None)
    own |= {"random": {"cpu": torch.get_rng_state(), "cuda": []}, "progress": {}}
    if misfit := _misfit(checkpoint, own):
        raise InputError(f"{path}: {OTHER_RUN}: {misfit}")
    if misfit := _misfit(dict(progress) | checkpoint["progress"], progress):
        raise InputError(f"{path}: not the checkpoint of a run: progress.{misfit}")
    for name, item in stateful.items():
        if isinstance(item, Optimizer) and (misfit := _optimizer_misfit(checkpoint[name], item)):
            raise InputError(f"{path}: {OTHER_RUN}: {name}: {misfit}")
    for section in stateful.keys() & checkpoint.keys():
        tensors = [value for value in tree_leaves(checkpoint[section]) if isinstance(value, Tensor)]
        if broken := sum(not value.isfinite().all() for value in tensors):
            raise InputError(f"{path}: broken: {broken} of the tensors in {section} are not finite")
    return checkpoint


def _optimizer_misfit(stored: Mapping[str, Any], optimizer: Optimizer) -> str:
    """Why a stored state does not fit the optimizer's parameters; fused kernels would read beyond a smaller tensor."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = [number for group in stored["param_groups"] for number in group["params"]]
    if len(numbers) != len(parameters):
        return f"state of {len(numbers)} parameters, not {len(parameters)}"
    if stored["state"] and set(stored["state"]) != set(numbers):
        return f"state of {len(stored['state'])} parameters, not {len(parameters)}"
    for number, parameter in zip(numbers, parameters, strict=True):
        for key, value in stored["state"].get(number, {}).items():
            shape = () if key == "step" else parameter.shape
            if not isinstance(value, Tensor) or value.layout != torch.strided or value.shape != shape:
                return f"{key} of parameter {number} is not a dense tensor of shape {tuple(shape)}"
            if value.dtype != (torch.float32 if key == "step" else parameter.dtype):
                return f"{key} of parameter {number} is {value.dtype}"
        if stored["state"] and not {"step", "exp_avg", "exp_avg_sq"} <= stored["state"][number].keys():
            return f"the state of parameter {number} is incomplete"
    return ""


def _match_memory_format(optimizer: Optimizer) -> None:
    """Give each state the strides of its parameter: fused kernels go through both in the order of memory, and another
    kind of machine may have trained in another memory format."""
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if value.shape == parameter.shape and value.stride() != parameter.stride():
                state[key] = torch.empty_like(parameter).copy_(value)


def _misfit(stored: Any, own: Any) -> str:
    """The first difference in structure between a stored state and one's own; empty if they fit."""
    if isinstance(own, Mapping):
        if not isinstance(stored, Mapping):
            return "is not a mapping"
        for key, value in own.items():
            if key not in stored:
                return f"{key} is missing"
            if misfit := _misfit(stored[key], value):
                return f"{key}{' ' if misfit.startswith(('is ', 'has ')) else '.'}{misfit}"
        return ""
    if isinstance(own, Tensor):
        if not isinstance(stored, Tensor):
            return "is not a tensor"
        return "" if stored.shape == own.shape else f"has the shape {tuple(stored.shape)}, not {tuple(own.shape)}"
    if isinstance(own, (bool, int, float)):
        return "" if isinstance(stored, (bool, int, float)) else "is not a number"
    if isinstance(own, (str, list, tuple)):
        return "" if isinstance(stored, (str, list, tuple)) else "has another type"
    return ""
