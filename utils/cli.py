"""The command line: every key of the configuration is an option, and every mistake ends in one line."""

import math
import os
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

import yaml
from jsonargparse import ArgumentParser, Namespace, get_loader, set_parsing_settings

from utils.config import Config
from utils.errors import InputError

MAX_VALUES, MAX_DEPTH = 10_000, 20  # of a configuration file

set_parsing_settings(docstring_parse_attribute_docstrings=True)


class ScriptParser(ArgumentParser):
    """jsonargparse's parser, which ends with one line and status 2 when a file or key is wrong."""

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **{"exit_on_error": False, "allow_abbrev": False, **options})
        self.files: list[str] = []

    def add_config(self) -> None:
        """``--config FILE`` and an option for every key of ``Config``."""
        self.add_argument("--config", action="config", help="YAML file of the task (configs/)", required=True)
        self.add_class_arguments(Config)

    def parse_path(self, path: str | os.PathLike, **options) -> Namespace:
        """Read a configuration file, together with what it builds on."""
        self.files.append(str(path))
        return self.parse_string(yaml.safe_dump(read_yaml(Path(path)), sort_keys=False), **options)

    def parse(self) -> Namespace:
        """The command line's values; sections are instances of their dataclasses.

        Raises:
            InputError: unknown or missing key, wrong value, missing or malformed file.
        """
        try:
            return self.instantiate(self.parse_args())
        except InputError:
            raise
        except Exception as error:  # the library raises nearly anything on values of odd kinds
            where = " or ".join([*self.files, "the command line"])
            raise InputError(f"{_one_line(error)} (in {where}; --help lists the keys)") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The keys of a YAML file, on top of those of its ``base``: a file beside it whose keys it repeats or adds to.

    Raises:
        InputError: a file is missing or malformed, or stands on itself.
    """
    chain: list[dict[str, Any]] = []
    files = [path]
    while True:
        try:
            values = get_loader("yaml")(files[-1].read_text())
        except OSError as error:
            raise InputError(f"{files[-1]}: cannot read the configuration: {error.strerror}") from None
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise InputError(f"{files[-1]}: not a YAML file: {_one_line(error)}") from None
        _check_extent(values, files[-1])
        if not isinstance(values, dict):
            raise InputError(f"{files[-1]}: no keys; a configuration has sections such as model, data and train")
        if strange := [key for key in values if not isinstance(key, str)]:
            raise InputError(f"{files[-1]}: {strange[0]!r} is no key")
        base = values.pop("base", None)
        if not isinstance(base, str | None) or "\0" in (base or ""):
            raise InputError(f"{files[-1]}: base: the name of a file, not {base!r}")
        chain.append(values)
        if base is None:
            break
        files.append(files[-1].parent / base)
        if os.path.realpath(files[-1]) in [os.path.realpath(file) for file in files[:-1]]:
            raise InputError(f"{path}: builds on itself: {' -> '.join(map(str, files))}")
    merged: dict[str, Any] = {}
    for values in reversed(chain):
        merged = _merge(merged, values)
    return merged


def _check_extent(values: Any, file: Path) -> None:
    """Aliases make a short file endless, or larger than any memory."""
    waiting, count = [(values, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        count += 1
        if count > MAX_VALUES or depth > MAX_DEPTH:
            raise InputError(f"{file}: more than {MAX_VALUES} values or {MAX_DEPTH} levels; is it a configuration?")
        if isinstance(value, dict):
            waiting += [(inner, depth + 1) for inner in value.values()]
        elif isinstance(value, list):
            waiting += [(inner, depth + 1) for inner in value]


def _merge(below: Any, above: Any) -> Any:
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return below | {key: _merge(below.get(key), value) for key, value in above.items()}


def config_of(args: Namespace) -> Config:
    """The ``Config`` among the parsed values.

    Raises:
        InputError: a value is null where there has to be one, or a number is not finite.
    """
    values = {key: args[key] for key in Config.__dataclass_fields__}
    _check_values(Config, values, "")
    return Config(**values)


def _check_values(kind: type, values: Mapping[str, Any], where: str) -> None:
    """The parser lets null and infinities through for any number."""
    for key, hint in get_type_hints(kind).items():
        value = values[key]
        if value is None and NoneType not in get_args(hint):
            raise InputError(f"{where}{key}: it needs a value, not null")
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{where}{key}: a finite number, not {value}")
        parts = value if isinstance(value, dict) else {"": value}
        for name, part in parts.items():
            if is_dataclass(part):
                _check_values(type(part), vars(part), f"{where}{key}.{name}{'.' * bool(name)}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
