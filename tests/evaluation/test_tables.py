"""Tables of any names: what is special in Markdown, LaTeX or CSV stands in them as it is."""

import csv
import io
import re
import shutil
import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from evaluation.tables import LATEX, as_csv, as_latex, as_markdown, latex_text, one_line, write_tables

SPECIAL = "\\{}&%$#_~^<>|\"'`[]*-,!?@=:;/ \N{NO-BREAK SPACE}\t\n\r"
# Text of special characters, letters, and anything that Unicode has but surrogates.
NAMES = st.text(st.sampled_from(SPECIAL + "ab1é") | st.characters(exclude_categories=["Cs"]), max_size=12)
TABLES = st.integers(2, 5).flatmap(
    lambda columns: st.lists(st.lists(NAMES, min_size=columns, max_size=columns), min_size=1, max_size=4)
)
COMMANDS = sorted((text for text in LATEX.values()), key=len, reverse=True)
TOKEN = re.compile("|".join(map(re.escape, [*COMMANDS, "{}"])) + "|.", re.DOTALL)
MEANING = {text: character for character, text in LATEX.items()} | {"{}": ""}
# Characters that LaTeX does not print as they are, unless they are part of a command above.
UNSAFE = re.compile(r"[\\{}&%$#_^<>|\"`[*]|--|''|,,")


def printed(latex: str) -> str:
    """What LaTeX prints, if each piece of the text is one of the commands or a harmless character."""
    pieces = TOKEN.findall(latex)
    assert not [piece for piece in pieces if piece not in MEANING and UNSAFE.search(piece)]
    return "".join(MEANING.get(piece, piece) for piece in pieces)


@given(NAMES)
@example(SPECIAL)
@example("--- ''' ,,,, <<>> ?` !` \\\\[2pt] \\textbackslash{} 100% a_b {x}")
def test_latex_prints_every_character(name):
    latex = latex_text(name)
    assert printed(latex) == one_line(name)
    assert not re.search("--|''|,,", latex)
    assert "\n" not in latex


@given(TABLES)
@example([[SPECIAL, SPECIAL], ["[a]", "*"]])
def test_latex_has_a_row_of_as_many_cells_for_each_row(table):
    heading, *rows = table
    lines = as_latex(heading, rows).split("\n")
    assert len(lines) == len(table) + 5
    for line, row in zip([lines[2], *lines[4:-2]], table, strict=True):
        assert line.endswith(r" \\")
        cells = re.split(r"(?<!\\) & ", line.removesuffix(r" \\"))
        assert [printed(cell) for cell in cells] == [one_line(cell) for cell in row]
        assert not re.match(r"\s*[\[*]", line)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs LaTeX")
def test_latex_compiles_a_table_of_all_special_characters(tmp_path):
    table = as_latex(["set", "protocol", "x"], [[SPECIAL, "[2pt]", "*"], *([each, "a", "--"] for each in SPECIAL)])
    head = r"\documentclass{article}\usepackage{booktabs}\begin{document}"
    (tmp_path / "a.tex").write_text(head + table + r"\end{document}")
    command = ["pdflatex", "-halt-on-error", "-interaction=batchmode", "a.tex"]
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 0, (tmp_path / "a.log").read_text()


@given(TABLES)
@example([['a "b", c', "d\ne"], ["", '"']])
def test_csv_is_read_back(table):
    heading, *rows = table
    read = list(csv.reader(io.StringIO(as_csv(heading, rows), newline="")))
    assert read == [[one_line(cell) for cell in row] for row in table]


@given(TABLES)
@example([["a|b", "*c*", "_d_ y_float"], ["<br>", "[e](f)", "&amp; \\|"]])
def test_markdown_has_a_row_of_as_many_cells_for_each_row(table):
    heading, *rows = table
    lines = as_markdown(heading, rows).split("\n")
    assert len(lines) == len(table) + 1
    for line, row in zip([lines[0], *lines[2:]], table, strict=True):
        cells = re.split(r"(?<!\\)(?:\\\\)*\|", line)[1:-1]
        assert len(cells) == len(row)
        unescaped = [re.sub(r"\\([\\`*<>|~_\]&])", r"\1", cell[1:-1]) for cell in cells]
        assert unescaped == [one_line(cell) for cell in row]
        assert not re.search(r"(?<!\\)[*`<]", "".join(re.sub(r"\\\\", "", cell) for cell in cells))


def test_a_protocol_stays_readable_in_markdown():
    assert as_markdown(["set", "protocol"], [["SOTS-Indoor", "y_float"]]).endswith("| SOTS-Indoor | y_float |")


def test_notes_are_escaped_as_cells_are(tmp_path):
    part = {"protocol": "rgb", "images": 1, "failed": {}, "seconds_per_image": None, "notes": ["100% <b>"]}
    write_tables(tmp_path, {"sets": {"a_b*": part | {"input": {}, "restored": {"psnr": 20.0}}}})
    assert r"a\_b{*}: 100\% \textless{}b\textgreater{}" in (tmp_path / "table.tex").read_text()
    assert r"a_b\*: 100% \<b\>" in (tmp_path / "table.md").read_text()
    assert "100%" not in (tmp_path / "table.csv").read_text()
