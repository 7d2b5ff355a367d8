"""The command line: every configuration key is an option, and every mistake is reported in one line."""

import math
import os
import re
import sys
from argparse import Action, ArgumentTypeError
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, Namespace, set_loader, set_parsing_settings

from utils.config import Config, CropStage, MixedSetConfig, PublishedScore, SubsetConfig, TestSetConfig
from utils.errors import InputError, shortened
from utils.text_files import expand_home, read_text
from utils.yaml_text import CLASS_KEYS, describe, load_yaml

# Values are plain: jsonargparse imports nothing that a value names, except for the sets' own classes.
OWN_KINDS = (CropStage, MixedSetConfig, TestSetConfig, SubsetConfig, PublishedScore)
OWN_CLASSES = [f"{kind.__module__}.{kind.__qualname__}" for kind in OWN_KINDS]
set_parsing_settings(
    docstring_parse_attribute_docstrings=True, import_path_denylist=["*"], import_path_allowlist=OWN_CLASSES
)
set_loader("yaml", load_yaml, exceptions=(yaml.YAMLError, ValueError))

MAX_FILES = 100  # in a chain of ``base`` files
SECTIONS = {"model": "num_blocks", "loss": "fft_weight", "data": "root", "train": "epochs", "data.train": "folder"}


class ScriptParser(ArgumentParser):
    """An ArgumentParser that raises InputError for a wrong file, key or value.

    Args:
        doc: docstring of the script: what it does, commands, and details. The first and third paragraph are the
            description, and the commands are for whoever starts the script without any argument.
    """

    def __init__(self, *args, doc: str | None = None, **options) -> None:
        self.examples = ""
        if doc is not None:
            about, self.examples, details, *_ = doc.split("\n\n")
            options = {"description": f"{about} {details}", **options}
        super().__init__(*args, **{"exit_on_error": False, "allow_abbrev": False, **options})
        self.files: list[str] = []
        self.paths: set[str] = set()  # options whose values become paths
        self.existing: dict[str, Collection[str]] = {}  # those whose paths must exist, and names that are no paths
        self.has_config = False

    def add_argument(self, *names, existing: bool = False, known: Collection[str] = (), **options) -> Action:
        """Add an option; a path is taken as it is typed, not as YAML, in which ``~`` is null and ``12:30`` 750.

        Args:
            existing: refuse a path of which there is no file, by the name of the option.
            known: values that may be given in place of such a path.
        """
        is_path = options.get("type") is Path
        if is_path:
            options["type"] = str
            if options.get("default") is not None:
                options["default"] = str(options["default"])
        action = super().add_argument(*names, **options)
        if is_path:
            self.paths.add(action.dest)
        if existing:
            self.existing[action.dest] = known
        return action

    def add_config(self) -> None:
        """Add ``--config FILE`` and an option for every key of ``Config``."""
        self.has_config = True
        self.add_argument("--config", action=ConfigFile, help="YAML file of the task, see configs/", required=True)
        self.add_class_arguments(Config)

    def parse_path(self, path: str | os.PathLike, **options) -> Namespace:
        """Parse a configuration file and the ``base`` files that it extends."""
        self.files.append(str(path))
        return self.parse_string(yaml.safe_dump(read_yaml(Path(path)), sort_keys=False), **options)

    def parse(self) -> Namespace:
        """Parse the command line; the sections of the result are instances of their dataclasses.

        A leading ``~`` of a path is the home folder. Environment variables are not read. Without any argument, the
        ``examples`` are printed to stderr, and the process ends with status 2.

        Raises:
            InputError: a key is unknown or missing, a value is wrong, or a file is missing or malformed.
        """
        if self.examples and len(sys.argv) == 1:
            script = self.prog if self.prog.startswith("python") else f"python {self.prog}"
            lines = [f"{script} needs arguments, for example:", self.examples, f"All options: {script} --help"]
            print("\n\n".join(lines), file=sys.stderr)
            sys.exit(2)
        if self.has_config:
            for argument in sys.argv[1:]:
                _check_option(argument)
        try:
            args = self.instantiate(self.parse_args(env=False))
        except InputError:
            raise
        except Exception as error:  # jsonargparse raises all kinds of errors for unexpected types
            where = " or ".join([*self.files, "the command line"])
            raise InputError(f"{_one_line(error)} (in {where}; --help lists the keys){self._hint()}") from None
        for name in self.paths:
            values = args[name] if isinstance(args[name], list) else [args[name]]
            if "" in values:
                raise InputError(f"--{name.replace('_', '-')}: expected a path, not an empty text")
            paths = [None if value is None else expand_home(value) for value in values]
            known = {None, *map(Path, self.existing.get(name, ()))}
            missing = [path for path in paths if path not in known and not os.path.lexists(path)]
            if name in self.existing and missing:
                names = ", ".join(self.existing[name])
                advice = f"expected a file, or one of {names}" if names else "check the path for a spelling mistake"
                raise InputError(f"--{name} {missing[0]}: no such {name} file; {advice}")
            args[name] = paths if isinstance(args[name], list) else paths[0]
        return args

    def _hint(self) -> str:
        """What to type for the first argument that looks like an option but is the name of a file, if there is one."""
        options = self._option_string_actions
        for argument in sys.argv[1:]:
            is_file = os.path.lexists(argument) or (argument[1:2] != "-" and os.path.splitext(argument)[1])
            if argument.startswith("-") and argument.split("=")[0] not in options and is_file:
                return f"; a name that begins with a dash: ./{argument}"
        return ""


class ConfigFile(ActionConfigFile):
    """``--config FILE``: a file, not the text of one."""

    def __call__(self, parser, namespace, value, option_string=None) -> None:
        value = str(expand_home(value))
        read_yaml(Path(value))
        super().__call__(parser, namespace, value, option_string)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file, merged over its ``base``: a file, relative to it, whose keys it overrides or extends.

    Raises:
        InputError: a file is missing or malformed, or is its own base.
    """
    chain: list[dict[str, Any]] = []
    files = [path]
    while True:
        try:
            values = load_yaml(read_text(files[-1]))
        except OSError as error:
            raise InputError(
                f"{files[-1]}: cannot read the configuration: {error.strerror}; expected a YAML file, as in configs/"
            ) from None
        except (yaml.YAMLError, ValueError) as error:
            raise InputError(f"{files[-1]}: not a configuration in YAML: {describe(error)}") from None
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
        files.append(files[-1].parent / expand_home(base))
        if os.path.realpath(files[-1]) in [os.path.realpath(file) for file in files[:-1]]:
            raise InputError(f"{path}: base: circular reference: {' -> '.join(map(str, files))}; remove one")
        if len(files) > MAX_FILES:
            raise InputError(f"{path}: base: more than {MAX_FILES} files, each the base of the one before; use fewer")
    merged: dict[str, Any] = {}
    for values in reversed(chain):
        merged = _merge(merged, values)
    data = merged.get("data")
    if isinstance(data, dict) and isinstance(data.get("train"), list):
        if not data["train"]:
            raise InputError(f"{path}: data.train: expected at least one training set")
        merged = merged | {"data": data | {"train": {"sets": data["train"]}}}
    return merged


def _check_option(argument: str) -> None:
    """Refuse options that jsonargparse adds to those of the keys: a file or a class for a whole section."""
    name = argument.split("=")[0]
    if not name.startswith("--"):
        return
    if not CLASS_KEYS.isdisjoint(name[2:].split(".")):
        raise InputError(f"{name}: not a key; a configuration contains plain values only")
    if name[2:] in SECTIONS:
        raise InputError(f"{name}: a section, not a key; set its keys, such as {name}.{SECTIONS[name[2:]]}")


def _merge(base: Any, override: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(override, dict)):
        return override
    # A degradation replaces another: their parameters have nothing in common.
    return base | {key: value if key == "degrade" else _merge(base.get(key), value) for key, value in override.items()}


def config_of(args: Namespace) -> Config:
    """Build the ``Config`` from the parsed arguments.

    Raises:
        InputError: a required value is null, a number is not finite or out of its bounds, or keys contradict.
    """
    values = {key: args[key] for key in Config.__dataclass_fields__}
    try:
        return Config(**values)
    except ValueError as error:
        raise InputError(str(error)) from None


def number_type(kind: type[int] | type[float], least: float, most: float) -> Callable[[str], int | float]:
    """A type for ``add_argument``: a number from ``least`` to ``most``."""
    return _Number(kind, least, most)


@dataclass(frozen=True)
class _Number:
    """What ``--help`` and messages can describe."""

    kind: type[int] | type[float]
    least: float
    most: float

    def __call__(self, text: str) -> int | float:
        try:
            value = self.kind(text)
        except ValueError:
            value = math.nan
        if not self.least <= value <= self.most:  # not a NaN either
            raise ArgumentTypeError(f"expected {self}, not {text[:30]}")
        return value

    def __str__(self) -> str:
        return f"a {'whole ' * (self.kind is int)}number from {self.least} to {self.most}"

    __repr__ = __str__


def _one_line(error: Exception) -> str:
    """The message of jsonargparse in one line and in the words of the user."""
    text = " ".join(str(error).split()).replace("data.train.sets", "data.train[]")  # a list, in the file
    if denied := re.search(r"Importing '([^']*)' is not allowed", text):
        return f"{denied[1]!r} is not a plain value"
    text = re.sub(r"Problem with given class_path '[^']*': ", "", text)
    text = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", text)
    text = re.sub(r" Subclass types expect one of:.*?\(implicit class_path\)", "", text)
    text = text.replace("Expected a dot import path string:", "Expected a dict. Got value:")
    wrong = re.fullmatch(r'((?:Parser key "[\w.[\]]+": )+)(.*?) (?:Got|Given) value: (.*)', text)
    if wrong is None:
        return text
    keys, expected, value = wrong.groups()
    union = re.search(r"Subtypes: \[(.*?)\] Errors:", expected)
    return f"{_key_of(keys)}: expected {_in_words(union[1] if union else expected)}, not {shortened(value)}"


def _key_of(text: str) -> str:
    """The dotted key of jsonargparse's message."""
    return ".".join(re.findall(r'"([\w.[\]]+)"', text))


# jsonargparse's names of types.
WORDS = {
    r"Not a valid subclass of \w+.*|\b\w+(?:Config|Score)\b": "a section",
    r"\btuple\[int, int\]|\btuple with 2 elements": "two whole numbers",
    r"\bNoneType\b": "null",
    r"\b(?:tuple|list)\b(?:\[[^]]*\])?": "a list",
    r"\bdict\b(?:\[[^]]*\])?": "a section",
    r"\bint\b": "a whole number",
    r"\bfloat\b": "a number",
    r"\bbool\b": "true or false",
    r"\bstr\b": "a text",
}


def _in_words(types: str) -> str:
    """What jsonargparse expected, in words; a choice lists what there is."""
    text = re.sub(r"^Expected an? |\.$", "", types)
    choices = re.findall(r"Literal\[(.*?)\]", text)
    text = re.sub(r"(?:typing\.)?Literal\[.*?\]", "CHOICE", text)
    for pattern, words in WORDS.items():
        text = re.sub(pattern, words, text)
    for choice in choices:
        text = text.replace("CHOICE", f"one of {choice}".replace("'", ""), 1)
    return text.replace(", null", " or null").replace("a whole number, two", "a whole number or two")
