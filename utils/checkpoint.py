"""Checkpoints: written whole or not at all, read without executing anything.

    python -m utils.checkpoint convert IN OUT

writes the weights to evaluate in the format of OUT's suffix: this project's .pt, .safetensors, or the authors' .pkl.
"""

import contextlib
import json
import os
import pickle
import re
import shutil
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from models import build_model, released
from utils.errors import InputError, run_script

SAFETENSORS, RELEASED = ".safetensors", ".pkl"
OTHER_RUN = "cannot go on with this run, it was started with other settings, or its checkpoint is incomplete"
MODEL_CONFIG = "model_config"  # key of a checkpoint, and of the header of a .safetensors file, there as JSON


def save_checkpoint(path: str | Path, checkpoint: Mapping[str, Any], keep: int = 1) -> None:
    """Write tensors, numbers and text so that ``path`` holds the old or the new checkpoint, never half of one.

    Of those that ``path`` held before, ``keep - 1`` stay beside it, see ``kept_checkpoints``. A path that ends in
    .safetensors gets ``model`` and ``model_config`` alone in that format.

    Raises:
        OSError: the file cannot be written; what was at ``path`` before is still there.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    write = _save_safetensors if path.suffix.lower() == SAFETENSORS else torch.save
    try:
        with open(temporary, "wb") as file:
            try:
                write(dict(checkpoint), file)
            except RuntimeError as error:  # torch reports a full disk as a position that is not the expected one
                raise OSError(None, f"cannot write the checkpoint, is the disk full? ({error})", str(path)) from None
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            _keep(path, keep)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.filename is None:  # that of a full disk has no name
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def kept_checkpoints(path: Path) -> list[Path]:
    """``path`` and what it held before, newest first, as far as they exist: last.pt, last.previous.pt, then
    last.previous2.pt and so on."""
    older = [(int(match[1] or 1), file) for file in path.parent.glob("*") if (match := _previous(path, file))]
    return [path] * path.exists() + [file for _, file in sorted(older)]


def _previous(path: Path, file: Path) -> re.Match | None:
    return re.fullmatch(rf"{re.escape(path.stem)}\.previous(\d*){re.escape(path.suffix)}", file.name)


def _keep(path: Path, keep: int) -> None:
    """Move the older checkpoints on by one, and ``path`` to the first of them; it stays in its own place as well."""
    _, *older = kept_checkpoints(path)
    staying = max(0, keep - 2)
    for file in older[staying:]:
        file.unlink()
    for number, file in reversed(list(enumerate(older[:staying], 2))):
        os.replace(file, path.with_name(f"{path.stem}.previous{number}{path.suffix}"))
    if keep > 1:
        previous = path.with_name(f"{path.stem}.previous{path.suffix}")
        try:
            os.link(path, previous)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, previous)


def _sync_folder(folder: Path) -> None:
    """Have the new name on the disk as well, where the system can do that for a folder."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; only tensors, numbers, text and containers of them are let in.

    Raises:
        InputError: the file is missing, damaged, holds anything else, or no ``model``.
    """
    if Path(path).suffix.lower() == SAFETENSORS:
        return _load_safetensors(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on a foreign pickle's protocol, which is then refused
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such weights file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: a folder, not a weights file") from None
    except PermissionError:
        raise InputError(f"{path}: may not be read by this user") from None
    except pickle.UnpicklingError as error:
        if re.search("GLOBAL|reduce|instantiate", str(error)):
            raise InputError(
                f"{path}: refused, because loading it could run code stored in the file; "
                "a checkpoint holds tensors, numbers and text only"
            ) from None
        raise InputError(f"{path}: not a PyTorch checkpoint, or a damaged one") from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, AttributeError, IndexError, TypeError):
        raise InputError(f"{path}: not a PyTorch checkpoint, or a damaged one") from None
    if not isinstance(checkpoint, dict) or not _is_state_dict(checkpoint.get("model")):
        raise InputError(f'{path}: not a checkpoint of this project or the authors\' (no state dict under "model")')
    return checkpoint


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load a checkpoint of this project, or one that the authors released, into ``model``.

    Where the checkpoint has a moving average of the weights, that is taken.

    Raises:
        InputError: as ``load_checkpoint``; or names or shapes differ, or a weight is not finite.
    """
    _load_into(model, evaluation_weights(load_checkpoint(path)), path)


def load_model(path: str | Path, released_options: Mapping[str, Any] | None = None) -> nn.Module:
    """The network that a checkpoint holds, in eval mode.

    This project's checkpoints say which it is. A released one is built with ``released_options``, the arguments of
    ``build_model``; without them blocks and width are read from its names and shapes.

    Raises:
        InputError: as ``load_weights``.
    """
    checkpoint = load_checkpoint(path)
    weights = checkpoint["model"]
    if MODEL_CONFIG in checkpoint:
        options = checkpoint[MODEL_CONFIG]
    elif released.is_released(weights):
        options = released_options or released.model_options(weights)
    else:
        raise InputError(f"{path}: the weights of another network (first name: {next(iter(weights), 'none')})")
    if not isinstance(options, Mapping):
        raise InputError(f"{path}: the checkpoint's model cannot be built: its {MODEL_CONFIG} is no table of options")
    try:
        model = build_model(**options)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: the checkpoint's model cannot be built: {error}") from None
    _load_into(model, evaluation_weights(checkpoint), path)
    return model.eval()


def evaluation_weights(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights to evaluate, under this project's names: the moving average where there is one."""
    if "ema" in checkpoint:  # the state of torch.optim.swa_utils.AveragedModel
        prefix = "module."
        return {name[len(prefix) :]: value for name, value in checkpoint["ema"].items() if name.startswith(prefix)}
    weights = checkpoint["model"]
    return released.rename(weights) if released.is_released(weights) else weights


def training_state(stateful: Mapping[str, Any], progress: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that ``resume_training`` puts back: the states of ``stateful``, progress and random states."""
    random = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}
    states = {name: item.state_dict() for name, item in stateful.items()}
    return states | {"progress": dict(progress), "random": random}


def resume_training(path: Path, stateful: Mapping[str, Any], progress: Mapping[str, Any]) -> dict[str, Any]:
    """Put back what ``training_state`` gave when ``path`` was saved; returns the progress.

    ``progress`` has its keys and the values of those that an older checkpoint lacks. Where ``path`` is gone, damaged or
    incomplete, the newest of the checkpoints before it that is not is taken, with a warning on stderr; what was wrong
    is kept as ``damaged`` beside it.

    Raises:
        InputError: as ``load_checkpoint``, or a weight is not finite; or the run had another model or optimizer, or no
            moving average.
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
        print(f"warning: {problem}; going on from {file}", file=sys.stderr)
        for damaged, _ in problems:  # or the next saves would keep them in place of sound ones
            os.replace(damaged, path.with_name(f"{path.stem}.damaged{path.suffix}"))
        os.replace(file, path)
    try:
        for name, item in stateful.items():
            item.load_state_dict(checkpoint[name])
        torch.set_rng_state(checkpoint["random"]["cpu"])
        if len(checkpoint["random"]["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(checkpoint["random"]["cuda"])
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: {OTHER_RUN}: {' '.join(str(error).split())[:200]}") from None
    return dict(progress) | checkpoint["progress"]


def _load_training(path: Path, stateful: Mapping[str, Any], progress: Mapping[str, Any]) -> dict[str, Any]:
    """Read a checkpoint of a run, and look whether it holds all that ``stateful`` needs."""
    checkpoint = load_checkpoint(path)
    own = {name: item.state_dict() for name, item in stateful.items()}
    own |= {"random": {"cpu": torch.get_rng_state(), "cuda": []}, "progress": {}}
    if misfit := _misfit(checkpoint, own):
        raise InputError(f"{path}: {OTHER_RUN}: {misfit}")
    if misfit := _misfit(dict(progress) | checkpoint["progress"], progress):
        raise InputError(f"{path}: not the checkpoint of a run: progress.{misfit}")
    for section in stateful:
        leaves, _ = tree_flatten(checkpoint[section])
        if broken := sum(not value.isfinite().all() for value in leaves if isinstance(value, Tensor)):
            raise InputError(f"{path}: broken: {broken} of the tensors in {section} are not finite")
    return checkpoint


def _misfit(stored: Any, own: Any) -> str:
    """What a stored state lacks, or has of another kind, that one's own has; empty where it fits."""
    if isinstance(own, Mapping):
        if not isinstance(stored, Mapping):
            return "is no table"
        for key, value in own.items():
            if key not in stored:
                return f"{key} is missing"
            if misfit := _misfit(stored[key], value):
                return f"{key}{' ' if misfit.startswith(('is ', 'has ')) else '.'}{misfit}"
        return ""
    if isinstance(own, Tensor):
        if not isinstance(stored, Tensor):
            return "is no tensor"
        return "" if stored.shape == own.shape else f"has the shape {tuple(stored.shape)}, not {tuple(own.shape)}"
    if isinstance(own, (bool, int, float)):
        return "" if isinstance(stored, (bool, int, float)) else "is no number"
    if isinstance(own, (str, list, tuple)):
        return "" if isinstance(stored, (str, list, tuple)) else "is of another kind"
    return ""


def convert(source: str | Path, target: str | Path) -> None:
    """Write the weights to evaluate that ``source`` holds in the format of ``target``'s suffix.

    The authors' format has the released network's names, which a network without one of its parts has not.

    Raises:
        InputError: as ``load_model``; or the authors' format cannot hold the network.
        OSError: the file cannot be written.
    """
    target = Path(target)
    if target.suffix.lower() not in (SAFETENSORS, RELEASED, ".pt", ".pth"):
        raise InputError(f"{target}: weights are written as .pt, .safetensors or, in the authors' names, .pkl")
    model = load_model(source)
    weights = model.state_dict()
    checkpoint = load_checkpoint(source)
    options = dict(checkpoint.get(MODEL_CONFIG) or released.model_options(checkpoint["model"]))
    if target.suffix.lower() != RELEASED:
        save_checkpoint(target, {"model": weights, MODEL_CONFIG: options})
        return
    theirs = released.rename_back(weights)
    told = build_model(**released.model_options(theirs))
    if told.state_dict().keys() != weights.keys() or told.mean_window != model.mean_window:
        raise InputError(f"{target}: the authors' format cannot say which network this is ({options})")
    save_checkpoint(target, {"model": theirs})


def _save_safetensors(checkpoint: dict[str, Any], file: BinaryIO) -> None:
    header = {MODEL_CONFIG: json.dumps(checkpoint[MODEL_CONFIG])} if MODEL_CONFIG in checkpoint else {}
    weights = {name: value.contiguous() for name, value in checkpoint["model"].items()}  # not channels-last
    file.write(safetensors.torch.save(weights, header))


def _load_safetensors(path: str | Path) -> dict[str, Any]:
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


def _load_into(model: nn.Module, weights: dict[str, Tensor], path: str | Path) -> None:
    own = model.state_dict()
    problems = [
        _listed("missing", own.keys() - weights.keys()),
        _listed("unknown", weights.keys() - own.keys()),
        _listed(
            "of another shape", (name for name in own.keys() & weights.keys() if own[name].shape != weights[name].shape)
        ),
    ]
    if any(problems):
        raise InputError(f"{path}: the weights of another network: {'; '.join(filter(None, problems))}")
    if broken := _listed("not finite", (name for name, value in weights.items() if not value.isfinite().all())):
        raise InputError(f"{path}: broken weights: {broken}")
    model.load_state_dict(weights)


def _is_state_dict(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(isinstance(item, Tensor) for item in value.values())


def _listed(what: str, names) -> str:
    names = sorted(names)
    return f"{len(names)} {what} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})" if names else ""


def main() -> None:
    from utils.config import ScriptParser  # here, so that reading weights does not need the parser

    parser = ScriptParser(prog="python -m utils.checkpoint", description="Convert a weights file.")
    parser.add_argument("action", type=Literal["convert"], help="what to do")
    parser.add_argument("input", type=Path, help="weights: .pt, .pkl or .safetensors")
    parser.add_argument("output", type=Path, help="the file to write; its suffix says in which format")
    args = parser.parse()
    convert(args.input, args.output)
    print(f"{args.input} written to {args.output}")


if __name__ == "__main__":
    run_script(main)
