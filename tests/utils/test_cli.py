"""Whatever a configuration or command line says: it is used, or refused by ``InputError``; no other exception."""

import os
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ITS, ROOT, few
from hypothesis import given
from hypothesis import strategies as st

from utils.cli import ScriptParser, config_of
from utils.config import Config
from utils.errors import InputError


def parsed(path: Path, *arguments: str) -> Config | InputError:
    """What becomes of a configuration file: the parser, in this process."""
    parser = ScriptParser(prog="train.py")
    parser.add_config()
    before, sys.argv = sys.argv, ["train.py", "--config", str(path), *arguments]
    try:
        return config_of(parser.parse())
    except InputError as error:
        return error
    finally:
        sys.argv = before


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["auto", "rgb", "reside", "1e-4", "../..", "-1", "", "${HOME}", "!!python/object:os.system"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


sections = {
    "task": [],
    "seed": [],
    "base": [],
    "model": ["name", "num_blocks", "channels", "mean_window", "pool_sizes", "local_attention"],
    "loss": ["fft_weight"],
    "data": ["root", "train", "validation", "test", "crop_size", "num_workers", "max_broken"],
    "train": ["epochs", "batch_size", "lr", "warmup_epochs", "precision", "ema_decay", "keep_checkpoints"],
}


@st.composite
def changed_configs(draw):
    """The ITS recipe with some of its keys, or whole sections, replaced by something else."""
    config = yaml.safe_load(ITS.read_text()) | {"base": str(ROOT / "configs" / "base" / "recipe.yaml")}
    for section in draw(st.lists(st.sampled_from(list(sections)), min_size=1, max_size=3)):
        key = draw(st.sampled_from(sections[section])) if sections[section] else None
        if key is None or not isinstance(config.get(section), dict) or draw(st.integers(0, 4)) == 0:
            config[section] = draw(values)
        else:
            config[section][key] = draw(values)
    return config


WRONG = {
    "--data.crop_size=text": "data.crop_size: expected a whole number or two whole numbers, not text",
    "--train.lr=[1,2]": "train.lr: expected a number, not [1, 2]",
    "--train.ema_decay=x": "train.ema_decay: expected a number or null, not x",
    "--train.precision=fp8": "train.precision: expected one of float32, bf16, fp16, not fp8",
    "--data.train.degrade=x": "data.train.degrade: unknown degradation 'x'; known: haze, rain, light_rain, heavy_rain",
    "--data.train.degrade=noize": "data.train.degrade: unknown degradation 'noize'; did you mean noise?; known: haze",
    "--data.train.degrade=[]": "data.train.degrade: expected at least one degradation, or null; known: haze",
    "--data.train.degrade={noise: 25}": "data.train.degrade: noise: expected a section of parameters, not 25; known:",
    "--data.test.a.degrade=[rain, {jpeg: {q: 1}}]": "data.test.a.degrade: jpeg has no parameter 'q'; known: quality",
    "--model.local_attention=3": "model.local_attention: expected true or false, not 3",
    "--model.pool_sizes=text": "model.pool_sizes: expected a list, not text",
    "--data.test={a: 1}": "data.test: expected a section, not 1",
    "--data.test.a=1": "data.test: expected a section, not 1",
    "--data.test.a.protocol=x": "data.test.protocol: expected one of rgb, y, y_float, dehazing, defocus, realblur",
    "--data.test.a.published=[5]": "data.test.published: expected a section or null, not [5]",
}


@pytest.mark.parametrize("option", WRONG)
def test_a_value_of_another_type_is_told_in_words(option):
    assert str(parsed(ITS, option)).startswith(WRONG[option])


@few
@given(changed_configs())
def test_configurations_with_any_values(tmp_path, config):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    result = parsed(path)
    assert isinstance(result, (Config, InputError))


@few
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode(errors="surrogatepass")))
def test_configurations_of_any_bytes(tmp_path, content):
    (tmp_path / "config.yaml").write_bytes(content)
    assert isinstance(parsed(tmp_path / "config.yaml"), InputError)


BASE = f"base: {ITS}\n"


ODD_CONFIGS = {
    **{f"{key} null": BASE + f"{key}: null" for key in ("seed", "task", "model", "data", "train")},
    **{f"{key} null": BASE + f"data: {{{key}: null}}" for key in ("root", "train", "test", "crop_size")},
    "blocks null": BASE + "model: {num_blocks: null}",
    "null in a set": BASE + "data: {test: {SOTS-Indoor: {protocol: null}}}",
    "no end": BASE + "train: {lr: .inf}",
    "loop": "a: &a [*a]",
    "loop of keys": "train: &a {epochs: *a}",
    "bomb": "a: &a [1, 1, 1]\n" + "".join(f"{key}: &{key} [{f'*{chr(ord(key) - 1)},' * 9}]\n" for key in "bcdefghi"),
    "deep": "[" * 3000,
    "deep keys": "{a: " * 2000 + "1" + "}" * 2000,
    "key": "? [1, 2]\n: 3",
    "number": "1: 2",
    "null": "null: 2",
    "code": "task: !!python/object/apply:os.system ['true']",
    "tag": "task: !mine 3",
    "date": "task: 2020-01-01",
    "twice": "task: a\ntask: b",
    "documents": "---\ntask: a\n---\ntask: b",
    "bytes": "task: !!binary aGVsbG8=",
    "set": "task: !!set {a, b}",
    "zero": "task: \0",
    "merge": "<<: 3",
    "bomb of merges": "a: &a {x: 1}\n"
    + "".join(f"{key}: &{key} {{<<: [{f'*{chr(ord(key) - 1)},' * 9}]}}\n" for key in "bcdefghijklm"),
    "wide": "a: [" + "1," * 100_000 + "]",
    "very deep": "[" * 1_000_000,
    "tab": "train:\n\tlr: 1",
    "twice in a section": BASE + "train: {lr: 1e-4, epochs: 3, lr: 1e-3}",
    "class": BASE + "data: {test: {a: {class_path: planted.Made, init_args: {}}}}",
    "class in a section": BASE + "model: {class_path: planted.Made}",
    "class as text": BASE + "data: {test: {a: planted.Made}}",
    "class as a score": BASE + "data: {test: {a: {published: planted.Made}}}",
    "class as a section": BASE + "train: planted.Made",
    "module": "task: !!python/module:planted",
    "object": "task: !!python/object/new:planted.Made []",
    "base loop": "base: config.yaml",
    "base folder": "base: .",
    "base list": "base: [1]",
    "base null byte": 'base: "a\\0b"',
    "a set that is a path": BASE + "data: {test: {a/b: {}}}",
    "a set that leads out": BASE + "data: {validation: {..: {}}}",
    "base long": f"base: {'a' * 5000}",
    "integer": f"seed: {'9' * 5000}",
    "infinite": "train: {epochs: .inf, lr: .nan}",
}


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """A module that leaves a file behind when it is imported; the test fails if that happens."""
    (tmp_path / "planted.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Made:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    assert not (tmp_path / "ran").exists()
    assert "planted" not in sys.modules


@pytest.mark.parametrize("kind", ODD_CONFIGS)
def test_odd_configurations(planted, tmp_path, kind):
    (tmp_path / "config.yaml").write_text(ODD_CONFIGS[kind])
    result = parsed(tmp_path / "config.yaml")
    assert isinstance(result, InputError)
    assert len(str(result).splitlines()) == 1


SPEC = '{"class_path": "planted.Made", "init_args": {}}'


@pytest.mark.parametrize("key", ["", "config", "model", "data", "data.train", "data.test", "data.test.SOTS-Indoor"])
def test_nothing_on_the_command_line_is_imported(planted, key):
    for value in ("planted.Made", SPEC, f'{{"a": {SPEC}}}', f"[{SPEC}]"):
        assert isinstance(parsed(ITS, f"--{key}={value}"), InputError), value
    for more in ("class_path=planted.Made", "init_args.a=1", "published=planted.Made", f"subsets={SPEC}"):
        assert isinstance(parsed(ITS, f"--{key}.{more}"), InputError), more


def test_environment_variables_are_not_read(planted, monkeypatch):
    monkeypatch.setenv("JSONARGPARSE_DEFAULT_ENV", "true")
    monkeypatch.setenv("TRAIN_SEED", "7")
    monkeypatch.setenv("TRAIN_MODEL", "planted.Made")
    monkeypatch.setenv("TRAIN_CONFIG", "task: mine")
    result = parsed(ITS)
    assert (result.seed, result.task) == (0, "dehazing")


NOT_TEXT = ["pipe", "folder", "large", "gone", "/dev/zero", "/dev/stdin", "-", "task: a", '{"task": "a"}']


@pytest.mark.parametrize("name", NOT_TEXT)
@pytest.mark.parametrize("where", ["--config", "base"])
def test_only_text_files_of_a_reasonable_size_are_read(tmp_path, monkeypatch, name, where):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("folder").mkdir()
    with open("large", "w") as file:
        file.truncate(2**40)
    Path("mine.yaml").write_text(f"base: {name!r}\n")
    result = parsed(Path(name if where == "--config" else "mine.yaml"))
    assert isinstance(result, InputError)
    assert name in str(result)


def test_a_configuration_in_any_unicode_encoding(tmp_path):
    text = f"base: {ITS}\r\ntask: größer\r\n"
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        (tmp_path / "mine.yaml").write_bytes(text.encode(encoding))
        assert parsed(tmp_path / "mine.yaml").task == "größer"


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.yaml").write_text("base: ~/its.yaml\n")
    (tmp_path / "its.yaml").write_text(f"base: {ITS}\ntask: mine\n")
    assert parsed(Path("~/mine.yaml")).task == "mine"


@few
@given(st.sampled_from([f"--{s}.{k}" for s, keys in sections.items() for k in keys]), st.text(max_size=12))
def test_command_lines_with_any_values(key, value):
    assert isinstance(parsed(ITS, f"{key}={value}"), (Config, InputError))


# What YAML would take for an alias, null, a number of minutes, a tag, a list, and so on.
TEXTS = [
    "*.png",
    "~x",
    "12:30",
    "null",
    "!!x",
    "&a",
    "[1].png",
    "{a}",
    "a: b",
    "a #b",
    "'q'",
    "1e5",
    "-x",
    "\x1b[31m",
    "a\nb",
]


@pytest.mark.parametrize("text", TEXTS)
def test_names_are_taken_as_they_are_typed(monkeypatch, text):
    parser = ScriptParser()
    parser.add_config()
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--input", type=str, nargs="+")
    options = [f"--{key}={text}" for key in ("weights", "input", "data.root", "task")]
    monkeypatch.setattr("sys.argv", ["restore.py", "--config", str(ITS), *options])
    args = parser.parse()
    assert (args.weights, args.input) == (Path(text), [text])
    assert (config_of(args).data.root, config_of(args).task) == (text, text)


@pytest.mark.parametrize("given", [[], ["--data=~/elsewhere"]])
def test_a_path_option_may_have_a_default_and_the_name_of_a_section(given, monkeypatch):
    parser = ScriptParser()
    parser.add_argument("--data", type=Path, default=Path("here"))
    monkeypatch.setattr(sys, "argv", ["script", *given])
    assert parser.parse().data == (Path.home() / "elsewhere" if given else Path("here"))
