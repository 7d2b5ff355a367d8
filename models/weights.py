"""Weights files: this project's checkpoints, safetensors files, and checkpoints of the authors and of others."""

import json
import os
import struct
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from models import foreign, released
from models.build import build_model
from models.foreign import Found
from models.known import network_of
from models.schema import FLOATS, check_weights, some
from utils.checkpoint_files import save_checkpoint
from utils.checkpoint_reading import MAX_STRUCTURE, check_regular_file, load_checkpoint
from utils.errors import InputError, printable, shortened
from utils.files import write_atomically

SAFETENSORS, RELEASED = ".safetensors", ".pkl"
FORMATS = (".pt", ".pth", SAFETENSORS, RELEASED)
MODEL_CONFIG = "model_config"  # key in a checkpoint and in a safetensors header (as JSON)
ABOUT = "about"  # key of a text, in both
MAX_JSON = 2**16  # characters of it


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load a weights file of this project, of the authors or of others into ``model``.

    If a checkpoint contains a moving average of the weights, the average is loaded. What was taken from a checkpoint of
    others is noted on stderr.

    Raises:
        InputError: the file is missing or damaged, parameter names or shapes differ, or a weight is not finite.
    """
    states, _ = _read(path)
    model.load_state_dict(_checked(states, model.state_dict(), path))


def load_matching(model: nn.Module, path: str | Path) -> list[str]:
    """Load those weights of a file whose name and shape are those of a parameter of ``model``; the others stay.

    Returns:
        In one line each: how many were loaded, and which were not, and why.

    Raises:
        InputError: the file is missing or damaged, none of its weights matches, or one that does is not finite.
    """
    states, _ = _read(path)
    given, expected = states[-1].weights, model.state_dict()
    given = released.rename(given) if released.is_released(given) else given
    common = expected.keys() & given.keys()
    same = {name for name in common if given[name].shape == expected[name].shape}
    if not same:
        raise InputError(f"{path}: none of its {len(given)} weights has the name and shape of one of this network's")
    try:
        size = os.path.getsize(path)
        weights = check_weights({key: given[key] for key in same}, {key: expected[key] for key in same}, size)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    model.load_state_dict(weights, strict=False)
    differing = (f"{key} {tuple(given[key].shape)} for {tuple(expected[key].shape)}" for key in common - same)
    lines = [
        f"{len(same)} of the network's {len(expected)} weights loaded",
        some("left at random, not in the file", expected.keys() - common),
        some("left at random, of a different shape in the file", differing),
        some("left out, not in the network", given.keys() - common),
    ]
    return [line for line in lines if line]


def load_model(path: str | Path, released_options: Mapping[str, Any] | None = None) -> nn.Module:
    """Build the network stored in a weights file and load its weights; returned in eval mode, on the CPU.

    This project's files store the arguments of ``build_model``. For other files they are given as ``released_options``;
    without these, they are derived from the names and shapes of the parameters.

    Raises:
        InputError: see ``load_weights``; or the file does not say which network it contains.
    """
    model, _ = read_model(path, released_options)
    return model


def read_model(
    path: str | Path, released_options: Mapping[str, Any] | None = None
) -> tuple[nn.Module, Mapping[str, Any]]:
    """The network of ``load_model`` and the arguments of ``build_model`` for it.

    Raises:
        InputError: see ``load_model``.
    """
    states, options = _read(path)
    if options is None:
        states[-1], options = _derived_options(states[-1], path, released_options)
    try:
        with torch.device("meta"):  # takes no memory: the file decides whether there are weights for it
            expected = build_model(**options).state_dict()
    except (TypeError, ValueError) as error:
        _refuse_known(path, states[-1].weights, states[-1].weights)
        problem = shortened(str(error), 200)
        raise InputError(f"{path}: cannot build the network described by its {MODEL_CONFIG}: {problem}") from None
    weights = _checked(states, expected, path)
    model = build_model(**options)
    model.load_state_dict(weights)
    return model.eval(), options


def save_weights(
    path: Path, weights: Mapping[str, Tensor], options: Mapping[str, Any], about: str | None = None
) -> None:
    """Write weights and the arguments of ``build_model`` in the format given by the suffix of ``path``.

    ``about`` is stored beside them, for readers: where the weights come from.

    Raises:
        InputError: the suffix is unknown, or the released format cannot describe the network.
        OSError: the file cannot be written.
    """
    suffix = path.suffix.lower()
    more = {} if about is None else {ABOUT: about}
    if suffix not in FORMATS:
        raise InputError(f"{path}: unknown suffix {path.suffix!r}; expected one of {', '.join(FORMATS)}")
    if suffix == RELEASED:
        save_checkpoint(path, {"model": _released_weights(path, weights, options), **more})
    elif suffix == SAFETENSORS:
        contiguous = {name: value.contiguous() for name, value in weights.items()}  # channels-last is not allowed
        content = safetensors.torch.save(contiguous, {MODEL_CONFIG: json.dumps(dict(options)), **more})
        write_atomically(path, content, sync=True)
    else:
        save_checkpoint(path, {"model": dict(weights), MODEL_CONFIG: dict(options), **more})


def _read(path: str | Path) -> tuple[list[Found], dict[str, Any] | None]:
    """The state dicts of a file, the one to evaluate last, and the stored arguments of ``build_model`` or None.

    Raises:
        InputError: the file is missing, damaged or not a weights file.
    """
    content = _read_safetensors(path) if Path(path).suffix.lower() == SAFETENSORS else load_checkpoint(path)
    expected = "expected a checkpoint of this project or the authors"
    content = dict(dict.items(content)) if isinstance(content, dict) else {}
    try:
        if MODEL_CONFIG not in content:
            if (found := foreign.find_weights(content)) is None:
                raise InputError(f'{path}: no state dict under "model"; {expected}')
            return [_with_types(found)], None
        states = []
        for key in ("model", "ema") if "ema" in content else ("model",):
            if (weights := foreign.state_dict_of(content.get(key))) is None:
                raise InputError(f'{path}: no state dict under "{key}"; {expected}')
            states.append(replace(foreign.without_prefix(Found(weights)), taken=[]))
        if not isinstance(options := content[MODEL_CONFIG], dict):
            raise InputError(f"{path}: {MODEL_CONFIG} must be a mapping of options, not {type(options).__name__}")
        return states, dict(dict.items(options))
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None


def _with_types(found: Found) -> Found:
    """Add to what was taken the types that become float32; in a file of this project they are intended."""
    types = {value.dtype for value in found.weights.values()} & set(FLOATS) - {torch.float32}
    return replace(found, taken=[*found.taken, *sorted(str(dtype).removeprefix("torch.") for dtype in types)])


def _derived_options(
    found: Found, path: str | Path, given: Mapping[str, Any] | None
) -> tuple[Found, Mapping[str, Any]]:
    """The arguments of ``build_model`` for weights that come without them; what is assumed is noted in ``taken``."""
    if given and given.get("name", "irnext") != "irnext":
        return found, dict(given)
    if not found.is_ours:
        _refuse_known(path, found.weights, found.weights)
        first = shortened(next(iter(found.weights)))
        raise InputError(
            f"{path}: weights of another network (first parameter: {first}); expected an IRNeXt checkpoint"
        )
    if given:
        return found, dict(given)
    if released.is_released(found.weights):
        return found, released.model_options(found.weights)
    return foreign.model_options(found)


def _checked(states: list[Found], expected: Mapping[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    """The weights to evaluate under this project's names, after all state dicts of the file have been checked.

    Raises:
        InputError: see ``load_weights``.
    """
    try:
        for found in states:
            weights = released.rename(found.weights) if released.is_released(found.weights) else found.weights
            if len(weights) < len(found.weights):
                raise ValueError("two parameters have the same name in this project")
            if weights.keys() != expected.keys():
                different = (name for name, ours in zip(found.weights, weights, strict=True) if ours not in expected)
                _refuse_known(path, found.weights, different)
            checked = check_weights(weights, expected, os.path.getsize(path))
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    if found.taken and os.environ.get("RANK", "0") == "0":  # once, not in each process of a group
        print(printable(f"note: {path}: took {', '.join(found.taken)}"), file=sys.stderr)
    return checked


def _refuse_known(path: str | Path, names: Iterable[str], different: Iterable[str]) -> None:
    """Raises InputError if the ``names`` of all parameters are those of a known network that is not built here."""
    if network := network_of(names):
        first = ", ".join(shortened(name) for name in islice(different, 3))
        raise InputError(
            f"{path}: these are weights of {network}, which this framework does not build (first keys that differ: "
            f"{first}); expected an IRNeXt checkpoint"
        )


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
    check_regular_file(path)
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
        if length > min(MAX_STRUCTURE, os.path.getsize(path)):
            raise ValueError("the header is too large")
        with safetensors.safe_open(path, framework="pt") as file:
            checkpoint = {"model": {name: file.get_tensor(name) for name in file.keys()}}  # noqa: SIM118
            header = file.metadata() or {}
        if MODEL_CONFIG in header:
            if len(header[MODEL_CONFIG]) > MAX_JSON:
                raise ValueError(f"{MODEL_CONFIG} is too large")
            checkpoint[MODEL_CONFIG] = json.loads(header[MODEL_CONFIG])
    except PermissionError:
        raise InputError(f"{path}: permission denied (chmod u+r makes a file readable)") from None
    except Exception:  # a damaged file fails anywhere in safetensors or json
        raise InputError(f"{path}: not a .safetensors file, or damaged (copy it again, or use other weights)") from None
    if not checkpoint["model"]:
        raise InputError(f"{path}: this .safetensors file contains no weights; use another")
    return checkpoint
