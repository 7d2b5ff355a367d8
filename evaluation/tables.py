"""Result tables as plain text, Markdown, LaTeX and CSV."""

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path

from evaluation.results import METRICS
from utils.files import write_atomically


def table_rows(metrics: Mapping[str, dict]) -> tuple[list[str], list[list[str]]]:
    """Heading and rows of the result table: every set of metrics.json followed by its subsets, then the average."""
    named = []
    for name, result in metrics["sets"].items():
        named.append((name, result))
        named += [(f"{name} {subset}", result | part) for subset, part in result.get("subsets", {}).items()]
    if "average" in metrics:
        named.append(("average", metrics["average"]))
    columns = [metric for metric in METRICS if any(metric in result["restored"] for _, result in named)]
    published = any(result.get("published") for _, result in named)
    heading = ["set", "protocol", "images"]
    for side in ("input", "restored", *(["published"] if published else [])):
        heading += [f"{side} {METRICS[metric][0]}" for metric in columns]
    heading += ["of"] * published + ["s/image"]
    rows = []
    for name, result in named:
        reported = result.get("published") or {}
        failed = len(result.get("failed", ()))
        images = f"{result['images']} of {result['images'] + failed}" if failed else str(result["images"])
        row = [name, result.get("protocol", ""), images]
        for side in (result["input"], result["restored"], *([reported] if published else [])):
            row += [_number(side.get(metric), METRICS[metric][1]) for metric in columns]
        rows.append(row + [reported.get("source", "")] * published + [_number(result["seconds_per_image"], 3)])
    return heading, rows


def _number(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{value:.{decimals}f}"


def as_text(heading: list[str], rows: list[list[str]]) -> str:
    """Plain text with aligned columns, for a terminal."""
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
    lines = ("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in [heading, *rows])
    return "\n".join(lines)


def as_markdown(heading: list[str], rows: list[list[str]]) -> str:
    """A GitHub Markdown table: two left-aligned columns, the others right-aligned."""
    rule = ["---", "---", *["---:"] * (len(heading) - 2)]
    lines = [[markdown_text(cell) for cell in heading], rule, *([markdown_text(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def markdown_text(text: str) -> str:
    """The text as it stands, without a meaning for GitHub: ``_`` has one beside a word, the others everywhere."""
    return re.sub(r"[\\`*<>|~]|(?<!\w)_|_(?!\w)|\](?=\()|&(?=#?\w+;)", r"\\\g<0>", one_line(text))


def as_latex(heading: list[str], rows: list[list[str]]) -> str:
    """A LaTeX tabular environment with booktabs rules."""
    lines = [" & ".join(map(latex_text, row)) + r" \\" for row in [heading, *rows]]
    body = "\n".join([r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"])
    return f"\\begin{{tabular}}{{ll{'r' * (len(heading) - 2)}}}\n{body}\n\\end{{tabular}}"


LATEX = {character: rf"\{character}" for character in "&%_#${}"}
LATEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
LATEX |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}  # other signs in LaTeX's default encoding
LATEX |= {'"': r"\symbol{34}", "`": r"\textasciigrave{}"}
LATEX |= {"[": "{[}", "*": "{*}"}  # which after the end of a row would be its options
LATEX["\N{NO-BREAK SPACE}"] = "~"


def latex_text(text: str) -> str:
    """The text as LaTeX prints it: special characters are escaped, and no ligature makes a dash or a quote of two."""
    escaped = "".join(LATEX.get(character, character) for character in one_line(text))
    return re.sub(r"([-',])(?=\1)", r"\1{}", escaped)


def one_line(text: str) -> str:
    """The text with a space in place of each control character, such as the end of a line."""
    return "".join(" " if unicodedata.category(character) in ("Cc", "Zl", "Zp") else character for character in text)


def as_csv(heading: list[str], rows: list[list[str]]) -> str:
    """Comma-separated values."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([map(one_line, row) for row in [heading, *rows]])
    return text.getvalue().rstrip("\n")


FORMATS: dict[str, Callable[[list[str], list[list[str]]], str]] = {"md": as_markdown, "tex": as_latex, "csv": as_csv}
NOTES: dict[str, Callable[[str], str]] = {"md": markdown_text, "tex": latex_text}


def write_tables(folder: Path, metrics: Mapping[str, dict]) -> str:
    """Write table.md, table.tex and table.csv and return the table as text; all but the CSV file include the notes."""
    heading, rows = table_rows(metrics)
    notes = [f"{name}: {note}" for name, result in metrics["sets"].items() for note in result.get("notes", [])]
    for suffix, render in FORMATS.items():
        text = render(heading, rows)
        if suffix in NOTES and notes:
            text += "\n\n" + "\n\n".join(map(NOTES[suffix], notes))
        write_atomically(folder / f"table.{suffix}", text + "\n")
    return "\n".join([as_text(heading, rows), *notes])
