"""Which configuration keys may change when a run is resumed."""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from utils.config import Config, LossConfig, TrainConfig
from utils.errors import InputError

# Every configuration key is in exactly one of these sets; a trailing dot stands for all keys of a section.
FREE = {  # may change silently
    "data.root",
    "data.num_workers",
    "data.cache",
    "data.max_broken",
    "data.test_average",
    "train.precision",
    "train.compile",
    "train.deterministic",
    "train.max_skipped",
    "train.validate_every",
    "train.validate_every_steps",
    "train.validate_start",
    "train.init_from_strict",
    "train.profile",
    "train.log_every",
    "train.sinks",
    "train.keep_checkpoints",
}
FROM_HERE = {  # may change, takes effect from the current step on and is reported
    "loss.",
    "data.test",
    "data.validation",
    "train.epochs",
    "train.batch_size",
    "train.progressive",
    "train.accumulate",
    "train.lr",
    "train.min_lr",
    "train.warmup_epochs",
    "train.clip_norm",
    "train.sync_batch_norm",
    "train.ema_decay",
    "train.validate_images",
    "train.best_by",
}
IDENTITY = {  # a change makes it another run
    "task",
    "seed",
    "model.",
    "data.train.",
    "data.crop_size",
    "data.vertical_flip",
    "data.quarter_turns",
    "train.optimizer",
    "train.betas",
    "train.weight_decay",
    "train.freeze",
}
OPTIONS = "model.options"  # compared as a whole: any names

SCORED_BY = ("folder", "layout", "only", "degrade", "protocol", "optional")  # what affects scores of a validation set


def check_changes(stored: Mapping[str, Any], config: Config, output: Path) -> list[str]:
    """Compare the stored configuration of a run with the current one.

    Args:
        stored: config.yaml of the run as a mapping; keys added in later versions may be missing.
        config: the current configuration.
        output: folder of the run, for the message.

    Returns:
        One line for each changed key that takes effect from the current step on.

    Raises:
        InputError: the value of a key changed that may not change within a run.
    """
    before, now = _defaults(stored) | dict(_leaves(stored)), dict(_leaves(config.to_dict()))
    changed = [key for key in now if key in before and before[key] != now[key]]
    for key in changed:
        toggled = key == "train.ema_decay" and None in (before[key], now[key])
        if _is_in(key, IDENTITY) or toggled:
            raise InputError(
                f"{output}: {key} was {_short(before[key])} and is now {_short(now[key])}, which makes it another run; "
                f"restore {key}, or choose another --output (--init-from {output}/checkpoints/best.pt starts from "
                "these weights)"
            )
    return [f"{key}: {_short(before[key])} -> {_short(now[key])}" for key in changed if _is_in(key, FROM_HERE)]


def _defaults(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The values of keys that a run of an earlier version did not have: it behaved like this."""
    sections = {"loss": LossConfig, "train": TrainConfig}
    return {
        f"{section}.{key.name}": list(key.default) if isinstance(key.default, tuple) else key.default
        for section, kind in sections.items()
        for key in fields(kind)
        if isinstance(stored.get(section), Mapping) and key.default is not MISSING
    }


def validation_changed(stored: Mapping[str, Any], config: Config) -> bool:
    """Whether the validation sets changed, so that new scores are not comparable with that of best.pt."""
    return _validated(stored) != _validated(config.to_dict())


def _validated(values: Mapping[str, Any]) -> Any:
    data = values.get("data")
    return _scored_by(data.get("validation") or data.get("test")) if isinstance(data, Mapping) else None


def _scored_by(sets: Any) -> Any:
    """The keys of each set that affect its scores; what is no set, in a damaged file, as it is."""
    if not isinstance(sets, Mapping):
        return sets or {}
    return {
        name: {key: part.get(key) for key in SCORED_BY} if isinstance(part, Mapping) else part
        for name, part in sets.items()
    }


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if name == "data.train":
            yield from _training_leaves(value)
        elif isinstance(value, Mapping) and name not in FREE | FROM_HERE | IDENTITY | {OPTIONS}:
            yield from _leaves(value, f"{name}.")
        elif name == OPTIONS and isinstance(value, Mapping):
            yield name, ", ".join(f"{key}={value[key]}" for key in sorted(value, key=str))
        elif name in ("data.test", "data.validation"):
            yield name, _scored_by(value)
        else:
            yield name, value


def _training_leaves(train: Any) -> Iterator[tuple[str, Any]]:
    """The number of training sets, and the keys of the only one or of each; nothing of a damaged file."""
    sets = train
    if isinstance(train, Mapping):
        sets = train.get("sets") or [{key: value for key, value in train.items() if key != "sets"}]
    if not isinstance(sets, list) or not all(isinstance(part, Mapping) for part in sets):
        return
    yield "data.train", "one set" if len(sets) == 1 else f"{len(sets)} sets"
    for number, part in enumerate(sets):
        where = "data.train" if len(sets) == 1 else f"data.train[{number}]"
        yield from ((f"{where}.{key}", value) for key, value in part.items())


def _is_in(key: str, group: set[str]) -> bool:
    """Whether a key is in a group, or in a section of it; [0] is one of several training sets."""
    sections = f"{key}.".replace("[", ".[")
    return key in group or any(name.endswith(".") and sections.startswith(name) for name in group)


def _short(value: Any) -> str:
    text = "null" if value in (None, "") else ", ".join(map(str, value)) if isinstance(value, Mapping) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
