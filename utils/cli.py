"""The command line: every configuration key is an option, and every mistake is reported in one line."""

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
from utils.files import read_text

MAX_VALUES, MAX_DEPTH = 10_000, 20  # of a configuration file

set_parsing_settings(docstring_parse_attribute_docstrings=True)


class ScriptParser(ArgumentParser):
    """An ArgumentParser that raises InputError for a wrong file, key or value."""

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **{"exit_on_error": False, "allow_abbrev": False, **options})
        self.files: list[str] = []

    def add_config(self) -> None:
        """Add ``--config FILE`` and an option for every key of ``Config``."""
        self.add_argument("--config", action="config", help="YAML file of the task, see configs/", required=True)
        self.add_class_arguments(Config)

    def parse_path(self, path: str | os.PathLike, **options) -> Namespace:
        """Parse a configuration file and the ``base`` files that it extends."""
        self.files.append(str(path))
        return self.parse_string(yaml.safe_dump(read_yaml(Path(path)), sort_keys=False), **options)

    def parse(self) -> Namespace:
        """Parse the command line; the sections of the result are instances of their dataclasses.

        Raises:
            InputError: a key is unknown or missing, a value is wrong, or a file is missing or malformed.
        """
        try:
            return self.instantiate(self.parse_args())
        except InputError:
            raise
        except Exception as error:  # jsonargparse raises all kinds of errors for unexpected types
            where = " or ".join([*self.files, "the command line"])
            raise InputError(f"{_one_line(error)} (in {where}; --help lists the keys)") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file, merged over its ``base``: a file, relative to it, whose keys it overrides or extends.

    Raises:
        InputError: a file is missing or malformed, or is its own base.
    """
    chain: list[dict[str, Any]] = []
    files = [path]
    while True:
        try:
            values = get_loader("yaml")(read_text(files[-1]))
        except OSError as error:
            raise InputError(f"{files[-1]}: cannot read the configuration: {error.strerror}") from None
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise InputError(f"{files[-1]}: not a YAML file: {_one_line(error)}") from None
        _check_size(values, files[-1])
        if not isinstance(values, dict):
            raise InputError(f"{files[-1]}: contains no keys; expected sections such as model, data and train")
        if invalid := [key for key in values if not isinstance(key, str)]:
            raise InputError(f"{files[-1]}: {invalid[0]!r} is not a key; expected names such as model, data and train")
        base = values.pop("base", None)
        if not isinstance(base, str | None) or "\0" in (base or ""):
            raise InputError(f"{files[-1]}: base: expected the name of a file, not {base!r}")
        chain.append(values)
        if base is None:
            break
        files.append(files[-1].parent / base)
        if os.path.realpath(files[-1]) in [os.path.realpath(file) for file in files[:-1]]:
            raise InputError(f"{path}: base: circular reference: {' -> '.join(map(str, files))}")
    merged: dict[str, Any] = {}
    for values in reversed(chain):
        merged = _merge(merged, values)
    return merged


def _check_size(values: Any, file: Path) -> None:
    """Guard against aliases, with which a short file can expand beyond any memory or contain itself."""
    waiting, count = [(values, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        count += 1
        if count > MAX_VALUES or depth > MAX_DEPTH:
            raise InputError(f"{file}: more than {MAX_VALUES} values or {MAX_DEPTH} levels; expected a configuration")
        if isinstance(value, dict):
            waiting += [(inner, depth + 1) for inner in value.values()]
        elif isinstance(value, list):
            waiting += [(inner, depth + 1) for inner in value]


def _merge(base: Any, override: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(override, dict)):
        return override
    return base | {key: _merge(base.get(key), value) for key, value in override.items()}


def config_of(args: Namespace) -> Config:
    """Build the ``Config`` from the parsed arguments.

    Raises:
        InputError: a required value is null, or a number is not finite.
    """
    values = {key: args[key] for key in Config.__dataclass_fields__}
    _check_values(Config, values, "")
    return Config(**values)


def _check_values(kind: type, values: Mapping[str, Any], where: str) -> None:
    """Reject what the parser accepts for any number: null, NaN and infinity."""
    for key, hint in get_type_hints(kind).items():
        value = values[key]
        if value is None and NoneType not in get_args(hint):
            raise InputError(f"{where}{key}: expected a value, not null")
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{where}{key}: expected a finite number, not {value}")
        parts = value if isinstance(value, dict) else {"": value}
        for name, part in parts.items():
            if is_dataclass(part):
                _check_values(type(part), vars(part), f"{where}{key}.{name}{'.' * bool(name)}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
