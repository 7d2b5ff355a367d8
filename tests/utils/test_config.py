"""Every number of a configuration has bounds, which are checked before anything is built or written."""

import json
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

import pytest
import yaml
from conftest import ITS, ROOT, assert_refused, run_script

from models.options import MAX_BLOCKS, MAX_CHANNELS, MAX_POOLING
from utils.cli import ScriptParser, config_of
from utils.config import Config, ModelConfig
from utils.errors import InputError

ROOMS = ("benchmarks", "data", "evaluation", "inference", "models", "training")

# A set with everything that a set may have.
SCORE = {"psnr": 30, "source": "mine"}
SET = {"published": SCORE, "subsets": {"part": {"positions": "part.npy", "published": SCORE}}}

# Keys that are lists of sections, with one of them.
LISTS = {"sets": [{}], "progressive": [{"epoch": 2, "crop_size": 64, "batch_size": 1}]}


def kinds_in(hint: Any) -> set[type]:
    """The plain types and dataclasses that a type hint allows, within tuples and dicts as well."""
    return set().union(*map(kinds_in, get_args(hint))) if get_args(hint) else {hint}


def numeric_keys(kind: type = Config, where: str = "") -> Iterator[tuple[str, bool]]:
    """Every key of a configuration that takes numbers, and whether it takes fractions; sets are named "part"."""
    for entry in fields(kind):
        hint = get_type_hints(kind)[entry.name]
        kinds, key = kinds_in(hint), where + entry.name
        if kinds & {int, float}:
            yield key, float in kinds
        is_dict = dict in map(get_origin, (hint, *get_args(hint)))
        for inner in filter(is_dataclass, kinds):
            yield from numeric_keys(inner, f"{key}.part." if is_dict else f"{key}.")


KEYS = dict(numeric_keys())
OUT_OF_BOUNDS = [10**30, -1e30, float("nan"), float("inf"), 10**400]


def config_with(key: str, value: Any) -> str:
    """The ITS recipe with one number changed."""
    config: dict = {"base": str(ITS), "data": {"test": {"part": SET}, "validation": {"part": SET}}}
    section = config = json.loads(json.dumps(config))  # nothing is shared
    lists = json.loads(json.dumps(LISTS))
    *sections, last = key.split(".")
    for name in sections:
        section = section.setdefault(name, lists.get(name, {}))
        section = section[0] if isinstance(section, list) else section
    pair = last in ("only", "pool_sizes")
    section[last] = [value, value] if pair else value
    return yaml.safe_dump(config)


def test_the_numbers_of_a_configuration_are_found():
    assert len(KEYS) > 35
    assert {"seed", "model.pool_sizes", "data.train.only", "data.validation.part.subsets.part.published.mae"} <= {*KEYS}


@pytest.fixture(scope="module")
def parser() -> ScriptParser:
    """That of train.py."""
    parser = ScriptParser()
    parser.add_config()
    return parser


@pytest.mark.parametrize("key", [key for key in KEYS if "validation" not in key])  # of the same type as the test sets
def test_a_number_out_of_bounds_is_refused_by_name(parser, monkeypatch, tmp_path, key):
    file = tmp_path / "config.yaml"
    monkeypatch.setattr("sys.argv", ["train.py", "--config", str(file)])
    for value in [*OUT_OF_BOUNDS, *([] if KEYS[key] else [2.5])]:
        file.write_text(config_with(key, value))
        with pytest.raises(InputError, match=key.split(".")[-1]):
            config_of(parser.parse())


# "only" takes text as well: such a value would be the name of a file. Sets are parts of a list or a section.
@pytest.mark.parametrize(
    "key", [key for key in KEYS if not {"part", *LISTS} & {*key.split(".")} and key != "data.train.only"]
)
def test_the_command_line_has_the_same_bounds(tmp_path, key):
    value = "[1e30, 1e30]" if key.endswith("pool_sizes") else "1e30"
    result = run_script("train.py", "--config", ITS, "--output", tmp_path / "out", f"--{key}={value}")
    assert_refused(result, key)
    assert not (tmp_path / "out").exists()


def test_the_bounds_are_those_of_the_network():
    bounds = {entry.name: entry.metadata.get("bounds", ())[:2] for entry in fields(ModelConfig)}
    assert bounds["num_blocks"] == (1, MAX_BLOCKS)
    assert bounds["channels"] == (8, MAX_CHANNELS)
    assert bounds["pool_sizes"] == (1, MAX_POOLING)


@pytest.mark.parametrize(
    "option", ["--tile=1e30", "--tile=-3", "--tile=nan", "--max-megapixels=inf", "--max-megapixels=-1"]
)
def test_numeric_options_have_bounds_as_well(small_weights, tmp_path, option):
    arguments = ["--weights", small_weights, "--input", tmp_path, "--output", tmp_path / "out", option]
    result = run_script("restore.py", *arguments)
    assert_refused(result, option.split("=")[0], option.split("=")[1], "number from")
    assert not (tmp_path / "out").exists()


def test_every_numeric_option_of_every_script_has_bounds():
    sources = [*ROOT.glob("*.py"), *(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))]
    without = [str(path) for path in sources if re.search(r"type=(int|float)\b", path.read_text())]
    assert without == []
