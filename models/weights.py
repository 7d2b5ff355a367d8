"""Weights files: this project's checkpoints, safetensors, and the files that the authors released."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor, nn

from models import released
from models.build import build_model
from utils.checkpoint_files import load_checkpoint, replace_file, save_checkpoint
from utils.errors import InputError

SAFETENSORS, RELEASED = ".safetensors", ".pkl"
FORMATS = (".pt", ".pth", SAFETENSORS, RELEASED)
MODEL_CONFIG = "model_config"  # key of a checkpoint, and of a safetensors header, where it is JSON


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load a checkpoint of this project, or one that the authors released, into ``model``.

    The moving average of the weights is used where the checkpoint has one.

    Raises:
        InputError: the file is missing or damaged, names or shapes differ, or a weight is not finite.
    """
    _load_into(model, evaluation_weights(read_weights(path)), path)


def load_model(path: str | Path, released_options: Mapping[str, Any] | None = None) -> nn.Module:
    """The network that a weights file holds, in eval mode, on the CPU.

    This project's files say which network they hold. A released one is built with ``released_options``, the
    arguments of ``build_model``; without them depth and width are read from its names and shapes.

    Raises:
        InputError: as ``load_weights``; or the file does not say which network it holds.
    """
    checkpoint = read_weights(path)
    options = model_options(checkpoint, path, released_options)
    try:
        model = build_model(**options)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: cannot build the checkpoint's model: {error}") from None
    _load_into(model, evaluation_weights(checkpoint), path)
    return model.eval()


def model_options(
    checkpoint: Mapping[str, Any], path: str | Path, released_options: Mapping[str, Any] | None = None
) -> Mapping[str, Any]:
    """The arguments of ``build_model`` for the network of a checkpoint.

    Raises:
        InputError: the checkpoint does not say.
    """
    weights = checkpoint["model"]
    if MODEL_CONFIG in checkpoint:
        options = checkpoint[MODEL_CONFIG]
    elif released.is_released(weights):
        options = released_options or released.model_options(weights)
    else:
        raise InputError(f"{path}: the weights of another network (first name: {next(iter(weights), 'none')})")
    if not isinstance(options, Mapping):
        raise InputError(f"{path}: cannot build the checkpoint's model: its {MODEL_CONFIG} is not a mapping")
    return options


def read_weights(path: str | Path) -> dict[str, Any]:
    """The content of a weights file of any format; its state dict is under "model".

    Raises:
        InputError: the file is missing, damaged or of another kind.
    """
    return _read_safetensors(path) if Path(path).suffix.lower() == SAFETENSORS else load_checkpoint(path)


def save_weights(path: Path, weights: Mapping[str, Tensor], options: Mapping[str, Any]) -> None:
    """Write weights and the arguments of ``build_model`` in the format of the path's suffix.

    Raises:
        InputError: an unknown suffix; or the authors' names cannot express the network.
        OSError: the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f"{path}: unknown format; weights are written as {', '.join(FORMATS)} (the authors' names)")
    if suffix == RELEASED:
        save_checkpoint(path, {"model": _released_weights(path, weights, options)})
    elif suffix == SAFETENSORS:
        contiguous = {name: value.contiguous() for name, value in weights.items()}  # not channels-last
        content = safetensors.torch.save(contiguous, {MODEL_CONFIG: json.dumps(dict(options))})
        replace_file(path, lambda file: file.write(content))
    else:
        save_checkpoint(path, {"model": dict(weights), MODEL_CONFIG: dict(options)})


def evaluation_weights(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights to evaluate, under this project's names: the moving average where there is one."""
    if "ema" in checkpoint:  # the state dict of torch.optim.swa_utils.AveragedModel
        prefix = "module."
        return {name[len(prefix) :]: value for name, value in checkpoint["ema"].items() if name.startswith(prefix)}
    weights = checkpoint["model"]
    return released.rename(weights) if released.is_released(weights) else weights


def _released_weights(path: Path, weights: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights under the released names, if these are enough to tell the network."""
    theirs = released.rename_back(weights)
    named = build_model(**released.model_options(theirs))
    own = build_model(**options)
    if named.state_dict().keys() != weights.keys() or named.mean_window != own.mean_window:
        raise InputError(f"{path}: the authors' format cannot express this network ({dict(options)})")
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
        raise InputError(f"{path}: not a .safetensors file, or a damaged one") from None
    if not checkpoint["model"]:
        raise InputError(f"{path}: a .safetensors file without weights")
    return checkpoint


def _load_into(model: nn.Module, weights: Mapping[str, Tensor], path: str | Path) -> None:
    own = model.state_dict()
    reshaped = [name for name in own.keys() & weights.keys() if own[name].shape != weights[name].shape]
    problems = [
        _some("missing", own.keys() - weights.keys()),
        _some("unknown", weights.keys() - own.keys()),
        _some("of another shape", reshaped),
    ]
    if any(problems):
        raise InputError(f"{path}: the weights of another network: {'; '.join(filter(None, problems))}")
    if broken := _some("not finite", (name for name, value in weights.items() if not value.isfinite().all())):
        raise InputError(f"{path}: broken weights: {broken}")
    model.load_state_dict(weights)


def _some(what: str, names: Iterable[str]) -> str:
    names = sorted(names)
    return f"{len(names)} {what} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})" if names else ""
