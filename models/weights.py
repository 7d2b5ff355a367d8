"""Weights files: this project's checkpoints, safetensors files, and the authors' released checkpoints."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor, nn

from models import released
from models.build import build_model
from utils.checkpoint_files import load_checkpoint, save_checkpoint
from utils.errors import InputError
from utils.files import write_atomically

SAFETENSORS, RELEASED = ".safetensors", ".pkl"
FORMATS = (".pt", ".pth", SAFETENSORS, RELEASED)
MODEL_CONFIG = "model_config"  # key in a checkpoint and in a safetensors header (as JSON)


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load a weights file of this project or of the authors into ``model``.

    If a checkpoint contains a moving average of the weights, the average is loaded.

    Raises:
        InputError: the file is missing or damaged, parameter names or shapes differ, or a weight is not finite.
    """
    _load_into(model, evaluation_weights(read_weights(path)), path)


def load_model(path: str | Path, released_options: Mapping[str, Any] | None = None) -> nn.Module:
    """Build the network stored in a weights file and load its weights; returned in eval mode, on the CPU.

    This project's files store the arguments of ``build_model``. For a released file they are given as
    ``released_options``; without these, depth and width are derived from the names and shapes of its parameters.

    Raises:
        InputError: see ``load_weights``; or the file does not say which network it contains.
    """
    checkpoint = read_weights(path)
    options = model_options(checkpoint, path, released_options)
    try:
        model = build_model(**options)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: cannot build the network described by its {MODEL_CONFIG}: {error}") from None
    _load_into(model, evaluation_weights(checkpoint), path)
    return model.eval()


def model_options(
    checkpoint: Mapping[str, Any], path: str | Path, released_options: Mapping[str, Any] | None = None
) -> Mapping[str, Any]:
    """The arguments of ``build_model`` for the network of a checkpoint.

    Raises:
        InputError: the checkpoint does not store them and is not a released one.
    """
    weights = checkpoint["model"]
    if MODEL_CONFIG in checkpoint:
        options = checkpoint[MODEL_CONFIG]
    elif released.is_released(weights):
        options = released_options or released.model_options(weights)
    else:
        first = next(iter(weights), "none")
        raise InputError(
            f"{path}: weights of another network (first parameter: {first}); expected an IRNeXt checkpoint"
        )
    if not isinstance(options, Mapping):
        raise InputError(f"{path}: {MODEL_CONFIG} must be a mapping of options, not {type(options).__name__}")
    return options


def read_weights(path: str | Path) -> dict[str, Any]:
    """Read a weights file of any supported format; the state dict is under "model".

    Raises:
        InputError: the file is missing, damaged or not a weights file.
    """
    return _read_safetensors(path) if Path(path).suffix.lower() == SAFETENSORS else load_checkpoint(path)


def save_weights(path: Path, weights: Mapping[str, Tensor], options: Mapping[str, Any]) -> None:
    """Write weights and the arguments of ``build_model`` in the format given by the suffix of ``path``.

    Raises:
        InputError: the suffix is unknown, or the released format cannot describe the network.
        OSError: the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f"{path}: unknown suffix {path.suffix!r}; expected one of {', '.join(FORMATS)}")
    if suffix == RELEASED:
        save_checkpoint(path, {"model": _released_weights(path, weights, options)})
    elif suffix == SAFETENSORS:
        contiguous = {name: value.contiguous() for name, value in weights.items()}  # channels-last is not allowed
        content = safetensors.torch.save(contiguous, {MODEL_CONFIG: json.dumps(dict(options))})
        write_atomically(path, content, sync=True)
    else:
        save_checkpoint(path, {"model": dict(weights), MODEL_CONFIG: dict(options)})


def evaluation_weights(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights used for evaluation, under this project's names: the moving average if there is one."""
    if "ema" in checkpoint:  # the state dict of torch.optim.swa_utils.AveragedModel
        prefix = "module."
        return {name[len(prefix) :]: value for name, value in checkpoint["ema"].items() if name.startswith(prefix)}
    weights = checkpoint["model"]
    return released.rename(weights) if released.is_released(weights) else weights


def _released_weights(path: Path, weights: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights under their released names, if the network can be rebuilt from these."""
    theirs = released.rename_back(weights)
    rebuilt = build_model(**released.model_options(theirs))
    if rebuilt.state_dict().keys() != weights.keys() or rebuilt.mean_window != build_model(**options).mean_window:
        raise InputError(
            f"{path}: the authors' .pkl format cannot describe this network ({dict(options)}); write .safetensors"
        )
    return theirs


def _read_safetensors(path: str | Path) -> dict[str, Any]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            checkpoint = {"model": {name: file.get_tensor(name) for name in file.keys()}}  # noqa: SIM118
            header = file.metadata() or {}
        if MODEL_CONFIG in header:
            checkpoint[MODEL_CONFIG] = json.loads(header[MODEL_CONFIG])
    except FileNotFoundError:
        raise InputError(f"{path}: no such weights file") from None
    except (safetensors.SafetensorError, OSError, ValueError):
        raise InputError(f"{path}: not a .safetensors file, or damaged") from None
    if not checkpoint["model"]:
        raise InputError(f"{path}: this .safetensors file contains no weights")
    return checkpoint


def _load_into(model: nn.Module, weights: Mapping[str, Tensor], path: str | Path) -> None:
    expected = model.state_dict()
    reshaped = [name for name in expected.keys() & weights.keys() if expected[name].shape != weights[name].shape]
    differences = [
        _some("missing", expected.keys() - weights.keys()),
        _some("unexpected", weights.keys() - expected.keys()),
        _some("of a different shape", reshaped),
    ]
    if any(differences):
        raise InputError(f"{path}: weights of another network: {'; '.join(filter(None, differences))}")
    if nonfinite := _some("not finite", (name for name, value in weights.items() if not value.isfinite().all())):
        raise InputError(f"{path}: damaged weights: {nonfinite}")
    model.load_state_dict(weights)


def _some(problem: str, names: Iterable[str]) -> str:
    """``_some("missing", names)`` is "2 missing (a, b)"; at most three names are shown; empty if there are none."""
    names = sorted(names)
    return f"{len(names)} {problem} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})" if names else ""
