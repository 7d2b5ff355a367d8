"""What the state of a run must be before any of it is loaded.

A state is compared with that of the run's own objects: the same structure, types and shapes, and values in their range.
torch checks little of this. Its fused kernels write past the end of a state that is smaller than its parameter, and its
loaders leave objects half loaded.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from models.schema import is_dense
from utils.errors import shortened

LARGEST = 2**53  # of a counter; TensorBoard and JSON keep no larger one exactly
FINGERPRINT = {"pairs": 0, "sha256": ""}
ADAM_STATE = {"step", "exp_avg", "exp_avg_sq"}
ADAM_CONSTANTS = ("betas", "eps", "weight_decay", "amsgrad")  # torch adds others from version to version


def sound_state(checkpoint: Any, stateful: Mapping[str, Any], progress: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a checkpoint that ``resume_training`` loads, checked, with nothing else in it.

    Args:
        checkpoint: the content of a file, of any structure.
        stateful: the objects to restore, by their key in the checkpoint.
        progress: the keys of the progress to restore; the checkpoint may lack those whose value is None.

    Raises:
        ValueError: something is missing, or of another type, shape or range; the message says where.
    """
    stored = _entries(checkpoint, "the checkpoint")
    state = {name: _state_of(item, _item(stored, name), name) for name, item in stateful.items()}
    state["progress"] = _progress(_item(stored, "progress"), progress)
    state["random"] = _random(_item(stored, "random"))
    for name, item in stateful.items():
        if isinstance(item, Optimizer) and not state[name]["state"] and state["progress"].get("step"):
            raise ValueError(f"{name}.state is empty, although steps were done")
    return state


def _state_of(item: Any, stored: Any, name: str) -> dict[str, Any]:
    if isinstance(item, nn.Module):
        return _weights(stored, item, name)
    if isinstance(item, Optimizer):
        return _optimizer(stored, item, name)
    if isinstance(item, torch.amp.GradScaler):
        return _scaler(stored, item, name)
    return _like(stored, item.state_dict(), name)


def _weights(stored: Any, model: nn.Module, name: str) -> dict[str, Tensor]:
    expected = model.state_dict()
    if unexpected := [key for key in _entries(stored, name) if key not in expected]:
        raise ValueError(f"{name}.{_shown(unexpected[0])} is unexpected")
    weights = _like(stored, expected, name)
    for key, value in weights.items():
        if key.endswith("running_var") or not value.is_floating_point():
            _refuse_negative(value, f"{name}.{key}")
    return weights


def _optimizer(stored: Any, optimizer: Optimizer, name: str) -> dict[str, Any]:
    """The learning rates and the state of each parameter; all else in the groups follows from the program."""
    entries = _entries(stored, name)
    current = optimizer.state_dict()["param_groups"]
    theirs = _item(entries, "param_groups", f"{name}.")
    if not isinstance(theirs, list) or len(theirs) != len(current):
        raise ValueError(f"{name}.param_groups is not a list of {len(current)}")
    groups = [
        group | _rates(other, group, f"{name}.param_groups.{number}")
        for number, (other, group) in enumerate(zip(theirs, current, strict=True))
    ]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = _entries(_item(entries, "state", f"{name}."), f"{name}.state")
    if state and state.keys() != set(range(len(parameters))):
        raise ValueError(f"{name}.state is for {len(state)} parameters, not for each of {len(parameters)}")
    return {
        "state": {
            number: _adam_state(state[number], parameters[number], f"{name}.state.{number}") for number in sorted(state)
        },
        "param_groups": groups,
    }


def _rates(stored: Any, group: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The learning rates of a parameter group, whose constants and parameters are those of ``group``."""
    rates = {key: group[key] for key in ("lr", "initial_lr") if key in group}
    constants = {key: group[key] for key in ("params", *ADAM_CONSTANTS)}
    found = _like(stored, rates | constants, name)
    for key, value in constants.items():
        if found[key] != value:
            raise ValueError(f"{name}.{key} is not that of the run")
    return {key: found[key] for key in rates}


def _adam_state(stored: Any, parameter: Tensor, name: str) -> dict[str, Tensor]:
    if unexpected := _entries(stored, name).keys() - ADAM_STATE:
        raise ValueError(f"{name}.{_shown(next(iter(unexpected)))} is unexpected")
    like = parameter.detach()
    state = _like(stored, {"step": torch.zeros(()), "exp_avg": like, "exp_avg_sq": like}, name)
    for key in ("step", "exp_avg_sq"):
        _refuse_negative(state[key], f"{name}.{key}")
    return state


def _scaler(stored: Any, scaler: torch.amp.GradScaler, name: str) -> dict[str, Any]:
    """Empty if the run was not in fp16 before, or is not now."""
    state = _like(stored, scaler.state_dict(), name) if _entries(stored, name) else {}
    for key in state.keys() - {"_growth_tracker"}:
        if state[key] == 0:
            raise ValueError(f"{name}.{key} is not positive")
    return state


def _progress(stored: Any, defaults: Mapping[str, Any]) -> dict[str, Any]:
    entries, progress = _entries(stored, "progress"), {}
    for key, default in defaults.items():
        if default is None and key not in entries:
            continue
        value, name = _item(entries, key, "progress."), f"progress.{key}"
        if key in ("best_psnr", "best_score"):
            progress[key] = _score(value, name)
        elif key == "broken":
            progress[key] = _texts(value, name)
        elif key == "so_far":
            progress[key] = _like(value, dict.fromkeys(_named(value, name), 0.0), name)
        elif key == "shown":
            progress[key] = {part: _texts(entry, f"{name}.{part}") for part, entry in _named(value, name).items()}
        elif key == "validated":
            progress[key] = value if value is None else _like(value, 0, name)
        elif key in ("data", "validation"):
            progress[key] = value if value is None else _like(value, FINGERPRINT, name)
        else:
            progress[key] = _like(value, 0, name)
    if progress.get("epoch", 1) < 1:
        raise ValueError("progress.epoch is not positive")
    return progress


def _score(stored: Any, name: str) -> float:
    """A PSNR, which is negative for very poor images and minus infinity before the first validation."""
    if not isinstance(stored, (int, float)) or isinstance(stored, bool) or not stored < math.inf:
        raise ValueError(f"{name} is not a number of dB")
    return stored


def _random(stored: Any) -> dict[str, Any]:
    """The random states; none for CUDA if the number of devices has changed."""
    entries = _entries(stored, "random")
    cuda = _item(entries, "cuda", "random.")
    if not isinstance(cuda, list):
        raise ValueError("random.cuda is not a list")
    devices = [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    return {
        "cpu": _generator_state(_item(entries, "cpu", "random."), torch.device("cpu")),
        "cuda": [_generator_state(*pair) for pair in zip(cuda, devices, strict=True)]
        if len(cuda) == len(devices)
        else [],
    }


def _generator_state(stored: Any, device: torch.device) -> Tensor:
    generator, name = torch.Generator(device), f"random.{device.type}"
    state = _like(stored, generator.get_state(), name)
    try:
        generator.set_state(state)
    except RuntimeError:
        raise ValueError(f"{name} is not a random state") from None
    return state


def _like(stored: Any, expected: Any, name: str) -> Any:
    """The part of ``stored`` that ``expected`` has too; types, shapes and lengths are the same.

    Numbers are finite and not negative. Integers count as floats, but booleans are no numbers.
    """
    if isinstance(expected, Mapping):
        entries = _entries(stored, name)
        return {key: _like(_item(entries, key, f"{name}."), value, f"{name}.{key}") for key, value in expected.items()}
    if isinstance(expected, (list, tuple)):
        if type(stored) is not type(expected) or len(stored) != len(expected):
            raise ValueError(f"{name} is not a {type(expected).__name__} of {len(expected)}")
        parts = [_like(*pair, f"{name}.{number}") for number, pair in enumerate(zip(stored, expected, strict=True))]
        return type(expected)(parts)
    if isinstance(expected, Tensor):
        return _tensor_like(stored, expected, name)
    if isinstance(expected, (int, float)) and not isinstance(expected, bool):
        return _number_like(stored, expected, name)
    if type(stored) is not type(expected):
        raise ValueError(f"{name} is not {'None' if expected is None else f'a {type(expected).__name__}'}")
    return stored


def _tensor_like(stored: Any, expected: Tensor, name: str) -> Tensor:
    if not isinstance(stored, Tensor) or not is_dense(stored):
        raise ValueError(f"{name} is not a dense tensor")
    if stored.shape != expected.shape:
        raise ValueError(f"{name} has shape {tuple(stored.shape)}, not {tuple(expected.shape)}")
    if stored.dtype != expected.dtype:
        raise ValueError(f"{name} is {stored.dtype}, not {expected.dtype}")
    if stored.is_floating_point() and not stored.isfinite().all():
        raise ValueError(f"{name} is not finite")
    return stored.detach()


def _number_like(stored: Any, expected: float, name: str) -> float:
    if not isinstance(stored, (int, float)) or isinstance(stored, bool):
        raise ValueError(f"{name} is not a number")
    if isinstance(expected, int) and not isinstance(stored, int):
        raise ValueError(f"{name} is not an integer")
    if not 0 <= stored <= LARGEST:  # neither is NaN
        raise ValueError(f"{name} is out of range")
    return stored


def _refuse_negative(value: Tensor, name: str) -> None:
    if (value < 0).any():
        raise ValueError(f"{name} is negative")


def _entries(stored: Any, name: str) -> dict:
    """The entries of a mapping; attributes that a file gives an OrderedDict may hide the methods to get them."""
    if not isinstance(stored, dict):
        raise ValueError(f"{name} is not a mapping")
    return dict(dict.items(stored))


def _item(entries: Mapping[str, Any], key: Any, prefix: str = "") -> Any:
    if key not in entries:
        raise ValueError(f"{prefix}{key} is missing")
    return entries[key]


def _shown(key: Any) -> str:
    return shortened(key) if isinstance(key, str) else f"<{type(key).__name__}>"


def _named(stored: Any, name: str) -> dict[str, Any]:
    entries = _entries(stored, name)
    if not all(isinstance(key, str) for key in entries):
        raise ValueError(f"{name} is not a mapping of names")
    return entries


def _texts(stored: Any, name: str) -> dict[str, str]:
    return _like(stored, dict.fromkeys(_named(stored, name), ""), name)
