"""The patterns of a layout, such as ``hazy/{id}_*``, matched in a time that grows with the length of a name only."""

import re
from itertools import pairwise

from data.folders import same_name
from utils.errors import InputError

NUMBER = "{number}"
MAX_LENGTH = 1000  # characters of a pattern
_PARTS = re.compile(r"(\{[^{}]*\}|\*+)")

Key = tuple[str, ...]


class Pattern:
    """A compiled pattern: fixed pieces with wildcards between them, ``{name}`` as short and ``*`` as long as possible.

    No wildcard is tried with one length after another. From right to left, each piece has a last place where it can
    stand so that those after it still fit: there a ``*`` ends. From left to right, ``{name}`` ends at the first place
    where the next piece fits, because what it would skip beyond, a later wildcard can skip as well.

    Attributes:
        fields: the names in braces, sorted.

    Raises:
        InputError: the text is not a pattern.
    """

    def __init__(self, text: str) -> None:
        parts = [part for part in _PARTS.split(same_name(text)) if part]
        names = [part[1:-1] for part in parts if part.startswith("{") and part.endswith("}")]
        _check(text, parts, names)
        self.fields = sorted(names)
        self._wildcards: list[str] = []  # name of the field, or "" for *
        pieces = [""]  # as regular expressions, one more than wildcards
        for part in parts:
            if _is_wildcard(part):
                self._wildcards.append(part.strip("{}*"))
                pieces.append("")
            elif part == NUMBER:
                whole = r"(?<!\d)" * (pieces[-1] == "")  # behind a wildcard
                pieces[-1] += rf"{whole}(?P<number>\d++)"
            else:
                pieces[-1] += re.escape(part)
        self._pieces = [re.compile(piece) for piece in pieces]

    def match(self, name: str) -> Key | None:
        """The values of the fields in a name, in the order of ``fields``; None if the name does not fit."""
        name = same_name(name)
        latest = self._latest_places(name)
        if latest is None:
            return None
        found = self._pieces[0].match(name)
        values = found.groupdict()
        for index, (field, piece) in enumerate(zip(self._wildcards, self._pieces[1:], strict=True), 1):
            start = found.end()
            as_long_as_possible = not field or index == len(self._wildcards)
            found = piece.match(name, latest[index]) if as_long_as_possible else piece.search(name, start + 1)
            values |= {field: name[start : found.start()]} | found.groupdict()
        return tuple(str(int(values[field])) if field == "number" else values[field] for field in self.fields)

    def _latest_places(self, name: str) -> list[int] | None:
        """The last place of each piece so that all pieces after it fit, or None if there is none."""
        places: list[int] = []
        end = len(name)
        for index in reversed(range(len(self._pieces))):
            for place in range(end, -1, -1) if index else (0,):
                found = self._pieces[index].match(name, place)
                if found and (found.end() == end if not places else found.end() <= end):
                    break
            else:
                return None
            places.append(place)
            end = place - bool(index and self._wildcards[index - 1])  # a field has at least one character
        return places[::-1]


def compile_rule(rule: tuple[str, str]) -> tuple[Pattern, Pattern]:
    """The patterns of inputs and targets.

    Raises:
        InputError: one is not a pattern, or they are the same or have different fields.
    """
    input, target = map(Pattern, rule)
    if input.fields != target.fields:
        fields = [", ".join(f"{{{name}}}" for name in pattern.fields) or "none" for pattern in (input, target)]
        raise InputError(
            f"layout {list(rule)}: the inputs' fields are {fields[0]}, the targets' {fields[1]}; both need the same"
        )
    if same_name(rule[0]) == same_name(rule[1]):
        raise InputError(f"layout {list(rule)}: inputs and targets have the same pattern; expected two that differ")
    return input, target


def _check(text: str, parts: list[str], names: list[str]) -> None:
    problem = None
    if not 0 < len(text) <= MAX_LENGTH:
        problem = f"expected 1 to {MAX_LENGTH} characters"
    elif text.startswith("/") or ".." in text.split("/"):
        problem = "expected a path within the set's folder"
    elif any(part[1:-1] not in names and set(part) & set("{}") for part in parts):
        problem = "a brace without its partner"
    elif wrong := [name for name in names if not name.isidentifier()]:
        problem = f"{{{wrong[0]}}} is not a field; expected a name in braces, such as {{id}}"
    elif len(set(names)) < len(names):
        problem = "the same field twice"
    elif any(_is_wildcard(one) and _is_wildcard(other) for one, other in pairwise(parts)):
        problem = "two wildcards in a row; put something between them"
    if problem is not None:
        raise InputError(f"layout pattern {text[:80]!r}: {problem}")


def _is_wildcard(part: str) -> bool:
    return part.startswith("*") or (part.startswith("{") and part != NUMBER)
