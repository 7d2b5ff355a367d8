"""What the documentation names is there."""

import ast
import re

from conftest import ROOT


def test_every_test_of_the_table_exists():
    text = (ROOT / "docs" / "reliability.md").read_text()
    named = re.findall(r"`(tests/\w+\.py)::(\w+)`", text)
    assert len(named) > 35
    for file, test in named:
        functions = [node.name for node in ast.parse((ROOT / file).read_text()).body if hasattr(node, "name")]
        assert test in functions, f"{file}::{test}"
