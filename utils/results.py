"""The results of test.py: means over sets and subsets, and the table in text, Markdown, LaTeX and CSV."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean, median

from utils.config import PublishedScore, TestSetConfig
from utils.evaluation import Failure, Score, scored_and_failed
from utils.files import write_whole

# Metrics in the order of the table's columns: heading and decimals.
METRICS = {"psnr": ("PSNR", 2), "ssim": ("SSIM", 4), "mae": ("MAE", 4), "lpips": ("LPIPS", 3)}


def summary(results: Sequence[Score | Failure]) -> dict:
    """The means over pictures, as metrics.json has them, and the median time (the first picture's is the warm-up's).

    At least one has a score; ``failed`` says of the others, by name, why they have none.
    """
    scores, failures = scored_and_failed(results)
    return {
        "images": len(scores),
        "failed": {failure.name: failure.problem for failure in failures},
        "input": {metric: mean(score.input[metric] for score in scores) for metric in scores[0].input},
        "restored": {metric: mean(score.restored[metric] for score in scores) for metric in scores[0].restored},
        "seconds_per_image": median(score.seconds for score in scores),
    }


def has_score(results: Sequence[Score | Failure]) -> bool:
    """Whether some picture could be scored."""
    return any(isinstance(result, Score) for result in results)


def results_of(results: Sequence[Score | Failure], part: TestSetConfig, subsets: Mapping[str, Sequence[int]]) -> dict:
    """What metrics.json has of a set: protocol, means, what has no score, published figures, notes and subsets."""
    notes = [part.note] if part.note else []
    if part.shares_scenes:
        notes.append("the published split has scenes in training and test")
    return {
        "protocol": part.protocol,
        **summary(results),
        "published": published(part.published),
        "subsets": {
            name: summary(of_subset) | {"published": published(part.subsets[name].published)}
            for name, positions in subsets.items()
            if has_score(of_subset := [results[position] for position in positions])
        },
        "notes": notes,
    }


def published(score: PublishedScore | None) -> dict:
    """The figures that somebody reported, and who."""
    return {} if score is None else {key: value for key, value in asdict(score).items() if value is not None}


def average(results: Mapping[str, dict]) -> dict:
    """The mean over sets of each set's mean, whatever the sets' sizes."""
    sets = list(results.values())
    common = [metric for metric in METRICS if all(metric in result["restored"] for result in sets)]
    return {
        "images": sum(result["images"] for result in sets),
        "failed": {f"{name}/{key}": why for name, of in results.items() for key, why in of.get("failed", {}).items()},
        "input": {metric: mean(result["input"][metric] for result in sets) for metric in common},
        "restored": {metric: mean(result["restored"][metric] for result in sets) for metric in common},
        "seconds_per_image": mean(result["seconds_per_image"] for result in sets),
    }


def write_scores(path: Path, results: Mapping[str, Sequence[Score | Failure]], protocols: Mapping[str, str]) -> None:
    """Write one line per picture: its set, protocol, name, and its scores before and after, if it has any."""
    scores = {name: scored_and_failed(of_set)[0] for name, of_set in results.items()}
    metrics = [metric for metric in METRICS if any(metric in score.restored for of in scores.values() for score in of)]
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["set", "protocol", "name", *(f"input_{metric}" for metric in metrics), *metrics, "seconds"])
    for name, of_set in scores.items():
        for score in of_set:
            values = [side.get(metric, "") for side in (score.input, score.restored) for metric in metrics]
            table.writerow([name, protocols[name], score.name, *values, score.seconds])
    write_whole(path, text.getvalue())


def table_rows(metrics: Mapping[str, dict]) -> tuple[list[str], list[list[str]]]:
    """Heading and rows of the table of metrics.json's sets, each followed by its subsets, and their average."""
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
        rows.append(row + [reported.get("source", "")] * published + [f"{result['seconds_per_image']:.3f}"])
    return heading, rows


def _number(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{value:.{decimals}f}"


def as_text(heading: list[str], rows: list[list[str]]) -> str:
    """Columns aligned with spaces, for a terminal."""
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
    lines = ("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in [heading, *rows])
    return "\n".join(lines)


def as_markdown(heading: list[str], rows: list[list[str]]) -> str:
    """A table of GitHub's Markdown."""
    lines = [heading, ["---", "---", *["---:"] * (len(heading) - 2)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines)


def as_latex(heading: list[str], rows: list[list[str]]) -> str:
    """A tabular environment with the rules of LaTeX's booktabs package."""
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
    """Write table.md, table.tex and table.csv with the notes under the first two, and return the table as text."""
    heading, rows = table_rows(metrics)
    notes = [f"{name}: {note}" for name, result in metrics["sets"].items() for note in result.get("notes", [])]
    for suffix, render in FORMATS.items():
        text = render(heading, rows)
        if suffix != "csv" and notes:
            text += "\n\n" + "\n\n".join(notes)
        write_whole(folder / f"table.{suffix}", text + "\n")
    return "\n".join([as_text(heading, rows), *notes])
