"""Errors as help: every message that users get names a file, a key or an option, and says what to do."""

import ast
import re
from collections.abc import Iterator

import pytest
from conftest import ROOT

ROOMS = ("benchmarks", "data", "evaluation", "inference", "losses", "models", "training", "utils")
FILES = [*ROOT.glob("*.py"), *(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))]

# The file is a placeholder at the beginning, or in an advice; keys have a section, options begin with dashes.
NAMED = re.compile(r"^-*\{|--\w|\b(data|train|model|loss|layout)\b[.: ]|^[A-Z_]+:|`\w+`|\.py\b|remove \{")
# What was expected, or what to do.
VERBS = (
    "add check choose chmod convert copy drop enlarge expected expects free install lower make must need needs omit "
    "one pass plain put raise remove rename replace restore run set start train try type unsupported use write override"
)
HELPS = re.compile(
    rf"\b({'|'.join(VERBS.split())})\b(?!\.)|--help|less than|more than|cannot|may contain only|nearest name"
)
# The reason that another part gives, after a colon or in parentheses, or its advice.
GIVEN = re.compile(r"[:(] ?\{[^{}]*\}\)?(\{[^{}]*\})?$|\{(advice|ADVICE|expected)\}|listed above")

# These know no name: the caller adds that of the image.
NAMED_BY_CALLER = {"inference/restorer.py", "inference/whole.py"}


def text_of(node: ast.expr) -> str:
    """A message as the code builds it, with a placeholder in braces for each value."""
    match node:
        case ast.Constant():
            return str(node.value)
        case ast.JoinedStr():
            return "".join(map(text_of, node.values))
        case ast.BinOp(op=ast.Add()):
            return text_of(node.left) + text_of(node.right)
        case ast.FormattedValue():
            return "{" + re.sub(r"[{}]", "", ast.unparse(node.value)) + "}"
        case _:
            return "{" + re.sub(r"[{}]", "", ast.unparse(node)) + "}"


def messages(source: str) -> Iterator[str]:
    """The texts of every InputError, of ``Group.refuse`` and of what ``Config`` requires."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name("InputError") | ast.Attribute(attr="refuse"), args=[text, *_]):
                yield text_of(text)
            case ast.Call(func=ast.Name("_require"), args=[_, text]):
                yield text_of(text)


def is_passed_on(text: str) -> bool:
    """Whether another function makes the text."""
    return not re.sub(r"\{[^{}]*\}", "", text).strip()


MESSAGES = [
    (str(path.relative_to(ROOT)), text)
    for path in FILES
    for text in messages(path.read_text())
    if not is_passed_on(text)
]


def test_the_messages_are_found():
    assert len(MESSAGES) > 130


@pytest.mark.parametrize("file, text", MESSAGES, ids=lambda value: value[:60])
def test_a_message_names_a_file_a_key_or_an_option_and_says_what_to_do(file, text):
    assert file in NAMED_BY_CALLER or NAMED.search(text), text
    words = re.sub(r"\{[^{}]*\}", "", text)
    assert HELPS.search(words) or GIVEN.search(text), text


@pytest.mark.parametrize(
    "source, named, helps",
    [
        ("InputError('damaged')", False, False),
        ("InputError(f'{path}: damaged')", True, False),
        ("InputError(f'wrong value: expected a number, not {value}')", False, True),
        ("InputError(f'--tile: expected a number, not {value}')", True, True),
        ("InputError('train.lr: 5' + ' is wrong')", True, False),
    ],
)
def test_a_message_of_no_help_is_found(source, named, helps):
    (text,) = messages(source)
    assert bool(NAMED.search(text)) == named
    assert bool(HELPS.search(text) or GIVEN.search(text)) == helps
