"""The rooms of the project: imports point down, nothing runs in a circle, and scripts stay readable."""

import ast
import graphlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

# What the modules of each room may import of ours, besides their own room.
ALLOWED = {
    "training": {"evaluation", "inference", "models", "data", "losses", "utils"},
    "evaluation": {"inference", "models", "data", "utils"},
    "inference": {"models", "data", "utils"},
    "models": {"utils"},
    "data": {"utils"},
    "losses": set(),
    "utils": set(),
}
# The others in models/ are what another project may copy.
READ_FILES = {"models.weights", "models.convert"}
LONGEST = 60  # lines of a function in a script


def modules_of(root: Path) -> dict[str, Path]:
    """The file of each module in the rooms; a package's name stands for its __init__.py."""
    files = [path for room in ALLOWED for path in (root / room).rglob("*.py")]
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def names_imported(path: Path, module: str) -> Iterator[str]:
    """What a file imports, in functions as well; ``from a import b`` gives a.b."""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def imports_of(root: Path) -> dict[str, set[str]]:
    """The modules of ours that each module imports."""
    modules = modules_of(root)

    def longest_known(name: str) -> str | None:
        while name not in modules and "." in name:
            name = name.rpartition(".")[0]
        return name if name in modules else None

    return {
        module: {known for name in names_imported(path, module) if (known := longest_known(name))}
        for module, path in modules.items()
    }


def faults(root: Path) -> list[str]:
    """Imports that point up, and the first circle."""
    found = []
    graph = imports_of(root)
    for module, imported in graph.items():
        room = module.split(".")[0]
        allowed = {room} | (ALLOWED[room] if room != "models" or module in READ_FILES else set())
        found += [f"{module} imports {name}" for name in sorted(imported) if name.split(".")[0] not in allowed]
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        found.append(f"circle: {' imports '.join(reversed(error.args[1]))}")
    return found


def test_imports_point_down_and_never_in_a_circle():
    assert len(modules_of(ROOT)) > 50
    assert faults(ROOT) == []


@pytest.mark.parametrize(
    "file, line, fault",
    [
        ("utils/files.py", "import models.irnext", "utils.files imports models.irnext"),
        (
            "data/images.py",
            "def later():\n    from training.step import TrainingStep",
            "data.images imports training.step",
        ),
        ("losses/multi_scale.py", "from utils import errors", "losses.multi_scale imports utils.errors"),
        ("models/irnext.py", "from utils.padding import extend", "models.irnext imports utils.padding"),
        ("models/layers.py", "from . import irnext", "circle: "),
        ("data/images.py", "def later():\n    import data.layouts", "circle: "),
        ("models/irnext.py", "from models import build_model", "circle: "),
    ],
)
def test_a_planted_fault_is_found(tmp_path, file, line, fault):
    for room in ALLOWED:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    with open(tmp_path / file, "a") as source:
        source.write(f"\n\n{line}\n")
    (found,) = faults(tmp_path)
    assert found.startswith(fault)
    assert file.removesuffix(".py").replace("/", ".") in found


@pytest.mark.parametrize("script", ["train.py", "test.py", "restore.py"])
def test_a_function_of_a_script_fits_on_a_screen(script):
    functions = [node for node in ast.walk(ast.parse((ROOT / script).read_text())) if isinstance(node, ast.FunctionDef)]
    assert len(functions) > 1
    assert {f.name: n for f in functions if (n := f.end_lineno - f.lineno + 1) > LONGEST} == {}
