"""The documentation names files, commands, options and tests that exist, and its examples run."""

import ast
import importlib.util
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from typing import get_type_hints

import pytest
import torch
from conftest import ROOT
from skimage.data import chelsea
from torch import Tensor, nn

from data.images import write_image
from evaluation.metrics import PROTOCOLS
from models import IRNeXt
from training.changes import FREE, FROM_HERE, IDENTITY
from utils.cli import ScriptParser, config_of
from utils.config import Config

DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / "weights" / "README.md", ROOT / "tests" / "reliability.md"),
]
# What users have and runs write, names of curves
NOT_OURS = ("validation/", "loss/", "epoch/", "/", "checkpoints/", "results/", "runs/", "train/")
ROOMS = ("benchmarks", "data", "evaluation", "inference", "models")  # with scripts
SCRIPTS = [*ROOT.glob("*.py"), *(path for room in ROOMS for path in (ROOT / room).glob("*.py"))]
OTHER_OPTIONS = {"--help", "--max-restarts", "--build-arg", "--gpus", "--shm-size"}  # argparse, torchrun, docker

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def blocks_of(document: Path, language: str = "") -> list[str]:
    """The fenced code blocks in a language."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", document.read_text(), re.M | re.S)
    return [block for name, block in blocks if name == language]


def spans_of(document: Path) -> list[str]:
    """The inline code."""
    return re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.M | re.S))


@each_document
def test_every_link_leads_to_a_file_and_a_heading(document):
    for link in re.findall(r"\]\(([^)]+)\)", document.read_text()):
        name, _, anchor = link.partition("#")
        if name.startswith("https://"):
            continue
        target = document.parent / name if name else document
        assert target.exists(), link
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.M) if anchor else []
        assert not anchor or anchor in [heading.lower().replace(" ", "-") for heading in headings], link


@each_document
def test_every_file_and_module_that_is_named_exists(document):
    for span in spans_of(document):
        file, _, test = span.partition("::")
        if re.fullmatch(r"[\w.-]+(/[\w.-]*)+|[\w.-]+\.(py|txt|cff)", file) and not file.startswith(NOT_OURS):
            assert (ROOT / file).exists(), span
        if test:
            functions = [node.name for node in ast.parse((ROOT / file).read_text()).body if hasattr(node, "name")]
            assert test in functions, span
        name = span.split(":")[0]
        if re.fullmatch(r"(data|loss|model|train|models|inference|evaluation|training|utils)\.[\w.]+(?<!\.py)", name):
            assert is_key(name) or pkgutil.resolve_name(name), span


def test_every_failure_has_a_test():
    assert len([span for span in spans_of(ROOT / "tests" / "reliability.md") if "::" in span]) > 40


def test_every_configuration_and_protocol_is_documented():
    spans = set(spans_of(ROOT / "README.md"))
    recipes = {path.stem for path in (ROOT / "configs").glob("*_*.yaml") if not path.stem.startswith("benchmark_")}
    assert len(recipes) > 10
    assert recipes <= spans
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "testing.md").read_text(), re.M)
    assert rows == list(PROTOCOLS)


def test_the_keys_that_may_change_on_resuming_are_those_of_the_code():
    section = (ROOT / "docs" / "training.md").read_text().split("### Changing the configuration")[1].split("###")[0]
    rows = [line.split(" | ")[0] for line in section.splitlines() if line.startswith("| ") and "`" in line]
    documented = [set(re.findall(r"`([^`]+)`", row)) for row in rows]
    assert documented == [{re.sub(r"\.$", ".*", key) for key in group} for group in (FREE, FROM_HERE, IDENTITY)]


@each_document
def test_every_command_and_its_options_exist(document):
    for line in [*"\n".join(blocks_of(document)).splitlines(), *spans_of(document)]:
        if not line.startswith(("make ", "pip install -r", "python ", "torchrun ")):
            continue
        words = shlex.split(line, comments=True)
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M), line
        elif words[0] == "pip":
            assert (ROOT / words[3]).is_file(), line
        else:
            script, arguments = script_of(words)
            names = {word[2:] for word in arguments if word.startswith("--")}
            assert all(is_key(name) or f"--{name}" in options_of(script) for name in names), line
            assert all((ROOT / word).exists() for word in arguments if word.startswith("configs/")), line


@each_document
def test_every_option_in_the_text_exists(document):
    known = set().union(OTHER_OPTIONS, *map(options_of, SCRIPTS))
    for span in spans_of(document):
        if span.startswith("--"):
            name = re.split(r"[\s=]", span)[0]
            assert name in known or is_key(name[2:]), span


def script_of(words: list[str]) -> tuple[Path, list[str]]:
    """The script that a command starts, and its arguments."""
    if words[:2] == ["python", "-m"]:
        return Path(importlib.util.find_spec(words[2]).origin), words[3:]
    position = next(position for position, word in enumerate(words) if word.endswith(".py"))
    return ROOT / words[position], words[position + 1 :]


@cache
def options_of(script: Path) -> set[str]:
    """The options that a script adds to its parser."""
    options = set()
    for node in ast.walk(ast.parse(script.read_text())):
        match node:
            case ast.ImportFrom(module=str(module)) if module.endswith(".command_line"):
                options |= options_of(ROOT / f"{module.replace('.', '/')}.py")
            case ast.Call(func=ast.Attribute(attr="add_argument"), args=[ast.Constant(value=name), *_]):
                options.add(name)
            case ast.Call(func=ast.Attribute(attr="add_config")):
                options |= {"--config", "--print_config"}
    return options


def is_key(name: str) -> bool:
    """Whether a configuration has the key ``name``, such as train.lr."""
    kind = Config
    for part in name.split("."):
        hints = get_type_hints(kind) if is_dataclass(kind) else {}
        if part not in hints:
            return False
        kind = hints[part]
    return True


@each_document
def test_every_configuration_is_valid(document, tmp_path):
    shutil.copytree(ROOT / "configs" / "base", tmp_path / "base")
    for block in blocks_of(document, "yaml"):
        (tmp_path / "mine.yaml").write_text(block)
        parser = ScriptParser()
        parser.add_config()
        config_of(parser.instantiate(parser.parse_args(["--config", str(tmp_path / "mine.yaml")])))


@each_document
def test_every_python_example_runs(document, small_weights, tmp_path, monkeypatch):
    shutil.copy(small_weights, tmp_path / "best.pt")
    write_image(tmp_path / "photo.jpg", chelsea()[:96, :80])
    monkeypatch.chdir(tmp_path)
    for block in blocks_of(document, "python"):
        names = {}
        exec(block, names)
        assert names["restored"].shape == (96, 80, 3)


def test_the_figure_is_what_its_script_draws(tmp_path):
    script = shutil.copy(ROOT / "docs" / "architecture.py", tmp_path)
    subprocess.run([sys.executable, script], check=True)
    assert (tmp_path / "architecture.svg").read_bytes() == (ROOT / "docs" / "architecture.svg").read_bytes()


def test_the_figure_has_the_names_and_sizes_of_the_network():
    model = IRNeXt(num_blocks=1)
    inputs, outputs = {}, {}
    for module in model.modules():
        module.register_forward_hook(lambda module, arguments, output: note_sizes(module, arguments[0], output))

    def note_sizes(module: nn.Module, input: Tensor, output: Tensor | list[Tensor]) -> None:
        inputs[module] = {size_of(input)}
        outputs[module] = {size_of(output)} if isinstance(output, Tensor) else set(map(size_of, output))

    with torch.inference_mode():
        model(torch.rand(1, 3, 256, 256))

    texts = re.findall(r">([^<>]+)</t(?:ext|span)>", (ROOT / "docs" / "architecture.svg").read_text())
    sizes = {text for text in texts if re.fullmatch(r"\d+×\d+×\d+", text)}
    assert len(sizes) > 10
    assert sizes <= set().union(*inputs.values(), *outputs.values())

    multi_scale = model.encoder[0][-1].between
    boxes = [box for box in zip(texts, texts[1:], texts[2:], strict=False) if re.fullmatch(r"\w+\[\d\]", box[0])]
    assert len(boxes) > 20
    for label, kind, size in boxes:
        name, index = label.rstrip("]").split("[")
        module = getattr(multi_scale if hasattr(multi_scale, name) else model, name)[int(index)]
        if kind[0].isupper():
            assert (type(module).__name__, outputs[module]) == (kind, {size}), label


def size_of(x: Tensor) -> str:
    return "×".join(map(str, x.shape[1:]))
