"""Patterns of layouts: what they match, how long that takes, and which are refused."""

import re

import pytest
from album import write
from conftest import few
from hypothesis import given
from hypothesis import strategies as st

from data.layouts import find_pairs
from data.patterns import Pattern
from utils.errors import InputError

BAD = {
    "": "1 to 1000 characters",
    "a" * 1001: "1 to 1000 characters",
    "{": "brace",
    "}": "brace",
    "{a": "brace",
    "}{": "brace",
    "{{a}}": "brace",
    "{}": "not a field",
    "{1}": "not a field",
    "{a b}": "not a field",
    "{a-b}": "not a field",
    "{a}_{a}": "twice",
    "{A}_{a}": "twice",
    "{a}{b}": "two wildcards",
    "{a}*": "two wildcards",
    "*{a}": "two wildcards",
    "/data/{id}": "within the set's folder",
    "../{id}": "within the set's folder",
    "a/../../{id}": "within the set's folder",
}


@pytest.mark.parametrize("pattern", BAD)
@pytest.mark.parametrize("side", [0, 1])
def test_a_bad_pattern_is_named(tmp_path, pattern, side):
    write(tmp_path, "in/1.png", "out/1.png")
    rule = ["in/{id}", "out/{id}"]
    rule[side] = pattern
    with pytest.raises(InputError, match=re.escape(BAD[pattern])) as error:
        find_pairs(tmp_path, rule)
    assert pattern[:40] in str(error.value)


@pytest.mark.parametrize(
    "rule", [("{a}", "{b}"), ("in/{a}", "out/*"), ("*", "{a}"), ("{a}/{b}", "{a}/x"), ("{a}", "{A}")]
)
def test_input_and_target_need_the_same_fields_and_different_patterns(tmp_path, rule):
    write(tmp_path, "in/1.png", "out/1.png")
    with pytest.raises(InputError, match=r"both need the same|the same pattern"):
        find_pairs(tmp_path, rule)


def by_backtracking(pattern: str, name: str) -> dict[str, str] | None:
    """What a regular expression finds that tries every length of every wildcard."""
    parts = re.split(r"(\{\w+\}|\*)", pattern)
    wildcards = [f"(?P<{part[1:-1]}>.+?)" if part.startswith("{") else ".*" for part in parts]
    is_wildcard = [part.startswith("{") or part == "*" for part in parts]
    regex = "".join(w if wild else re.escape(part) for part, w, wild in zip(parts, wildcards, is_wildcard, strict=True))
    found = re.fullmatch(regex, name)
    return None if found is None else found.groupdict()


@st.composite
def patterns(draw):
    """Fixed pieces with wildcards between them."""
    text = draw(st.text("ab_", max_size=2))
    for name in draw(st.permutations(["{x}", "{y}", "{z}", "*", "*"]))[: draw(st.integers(0, 4))]:
        text += name + draw(st.text("ab_", min_size=1, max_size=2))
    return text + draw(st.sampled_from(["", "{last}", "*"])) or "a"


@few
@given(patterns(), st.text("ab_", max_size=12))
def test_a_pattern_matches_as_if_every_length_were_tried(pattern, name):
    expected = by_backtracking(pattern, name)
    found = Pattern(pattern).match(name)
    assert found == (None if expected is None else tuple(expected[key] for key in sorted(expected)))


@pytest.mark.parametrize(
    "pattern", ["a*" * 200 + "b", "".join(f"{{f{n}}}a" for n in range(150)) + "b", "*_{a}" + "a*" * 99]
)
def test_no_name_takes_long(pattern):
    assert Pattern(pattern).match("a" * 4000) is None  # with backtracking, the test would take years


@pytest.mark.parametrize(
    "pattern, name, values",
    [
        ("{number}_*hazy", "01_outdoor_hazy", ("1",)),
        ("*{number}", "img0123", ("123",)),
        ("img0{number}", "img0123", ("123",)),
        ("{a}_{number}", "a_b_012", ("a_b", "12")),
        ("{a}_{number}", "a_b", None),
        ("*_{id}", "night_01_0001", ("0001",)),
        ("{id}_*", "night_01_0001", ("night",)),
        ("**/{id}", "a/b/1", ("1",)),
        ("Größe/{id}", "GRO\u0308SSE/\u00c9", ("\u00e9",)),
        ("{a}", "line\nbreak", ("line\nbreak",)),
    ],
)
def test_values_of_fields(pattern, name, values):
    assert Pattern(pattern).match(name) == values
