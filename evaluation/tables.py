"""Result tables as plain text, Markdown, LaTeX and CSV."""

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
    lines = [heading, ["---", "---", *["---:"] * (len(heading) - 2)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines)


def as_latex(heading: list[str], rows: list[list[str]]) -> str:
    """A LaTeX tabular environment with booktabs rules."""
    escape = str.maketrans({"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}"})
    lines = [" & ".join(cell.translate(escape) for cell in row) + r" \\" for row in [heading, *rows]]
    body = "\n".join([r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"])
    return f"\\begin{{tabular}}{{ll{'r' * (len(heading) - 2)}}}\n{body}\n\\end{{tabular}}"


def as_csv(heading: list[str], rows: list[list[str]]) -> str:
    """Comma-separated values."""
    quoted = (",".join(f'"{cell}"' if set(cell) & set(',"\n') else cell for cell in row) for row in [heading, *rows])
    return "\n".join(quoted)


FORMATS: dict[str, Callable[[list[str], list[list[str]]], str]] = {"md": as_markdown, "tex": as_latex, "csv": as_csv}


def write_tables(folder: Path, metrics: Mapping[str, dict]) -> str:
    """Write table.md, table.tex and table.csv and return the table as text; all but the CSV file include the notes."""
    heading, rows = table_rows(metrics)
    notes = [f"{name}: {note}" for name, result in metrics["sets"].items() for note in result.get("notes", [])]
    for suffix, render in FORMATS.items():
        text = render(heading, rows)
        if suffix != "csv" and notes:
            text += "\n\n" + "\n\n".join(notes)
        write_atomically(folder / f"table.{suffix}", text + "\n")
    return "\n".join([as_text(heading, rows), *notes])
