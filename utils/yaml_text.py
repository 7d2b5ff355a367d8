"""YAML text as plain values: read without running code, in little time and memory, whatever it holds."""

from typing import Any

import yaml
from jsonargparse import get_loader

MAX_VALUES, MAX_DEPTH = 10_000, 20  # of a configuration, with all aliases expanded
MAX_DIGITS = 40  # of a whole number, more than any key takes
PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map", "merge")}
# With these keys jsonargparse would import a class and call it.
CLASS_KEYS = {"class_path", "init_args", "dict_kwargs"}

_load = get_loader("yaml")
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load_yaml(text: str) -> Any:
    """The value of a YAML document: a dict, list, number, text, bool or None.

    Raises:
        yaml.YAMLError: the text is not YAML, is not a single document, gives a key twice, names a type or a class, or
            is larger or more deeply nested than any configuration.
        ValueError: a number has too many digits.
    """
    depth = 0
    for count, event in enumerate(yaml.parse(text, _Loader)):  # before the composer, which calls itself for each level
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if count > 2 * MAX_VALUES or depth > MAX_DEPTH:
            raise yaml.YAMLError(_too_large())
    node = yaml.compose(text, _Loader)
    if node is not None:
        _check(node)
    return _load(text)


def describe(error: Exception) -> str:
    """What is wrong with a text, in one line, with the number of the line if it is known."""
    mark = getattr(error, "problem_mark", None)
    text = " ".join(str(getattr(error, "problem", None) or error).split())
    return text if mark is None else f"line {mark.line + 1}: {text}"


def _check(root: yaml.Node) -> None:
    """Check the nodes before they become values: merging aliases takes as much memory as writing them out."""
    waiting, count = [(root, 1, "")], 0
    while waiting:
        node, depth, where = waiting.pop()
        count += 1
        if count > MAX_VALUES or depth > MAX_DEPTH:  # an alias that contains itself has no end
            raise yaml.YAMLError(_too_large())
        if node.tag not in PLAIN_TAGS:
            raise _problem(node, f"{where}{node.tag.replace('tag:yaml.org,2002:', '!!')} is not a plain value")
        if isinstance(node, yaml.SequenceNode):
            waiting += [(item, depth + 1, where) for item in node.value]
        elif isinstance(node, yaml.MappingNode):
            keys = set()
            for key, value in node.value:
                name = key.value if isinstance(key, yaml.ScalarNode) else ""
                if name in CLASS_KEYS:
                    raise _problem(key, f"{name} is not a key; a configuration contains plain values only")
                if name and (key.tag, name) in keys:
                    raise _problem(key, f"the key {name!r} is given twice")
                keys.add((key.tag, name))
                waiting += [
                    (key, depth + 1, where),
                    (value, depth + 1, f"{where.removesuffix(': ')}.{name}: ".lstrip(".")),
                ]
        elif node.tag.endswith(":int") and len(node.value) > MAX_DIGITS:
            raise _problem(node, f"{where}a number of {len(node.value)} digits")


def _problem(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _too_large() -> str:
    return f"more than {MAX_VALUES} values or {MAX_DEPTH} levels; expected a configuration"
