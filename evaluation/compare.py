"""Is one method better than another? Compare results of test.py, image by image.

    python -m evaluation.compare results/a results/b --output results/a_or_b
    python -m evaluation.compare results/a results/b --seeds results/a_seed1 results/a_seed2 --output results/a_or_b

The first folder is the reference; the others are compared with it. For each set and metric: the mean difference with
its 95 % interval, by the bootstrap over scenes (inputs with the same target) and, in brackets, over images, the share
of images won and lost, and the p-value of Wilcoxon's signed-rank test. Writes the table (compare.md), all numbers with
the largest wins and losses (compare.json), a scatter plot of PSNR and, from images that test.py saved, a sheet of the
largest wins and losses for each set and folder to OUTPUT.
"""

from pathlib import Path

from utils.signals import end_on_signals

if __name__ == "__main__":
    end_on_signals()  # before the imports below, which take seconds
    from utils.cli import ScriptParser
    from utils.errors import or_exit

    usage = "python -m evaluation.compare A B [C ...] --output DIR"
    parser = ScriptParser(prog="python -m evaluation.compare", usage=usage, doc=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", help="folders written by test.py; the first is the reference")
    parser.add_argument("--output", type=Path, required=True, help="folder for the comparison")
    parser.add_argument("--seeds", type=Path, nargs="+", help="further runs of the reference with other seeds")
    parser.add_argument(
        "--accept-differences",
        action="store_true",
        help="compare the images in common, even if protocol or precision differ, with a note",
    )
    args = or_exit(parser.parse)

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from string import ascii_uppercase

from jsonargparse import Namespace

from data.images import BrokenImage, read_image, write_image
from evaluation.comparison import FEWEST, Difference, Spread, compare_scores, spread_of
from evaluation.plots import scatter_plot
from evaluation.results import LOWER_IS_BETTER, METRICS
from evaluation.sheets import error_map, labelled_sheet
from evaluation.stored_results import Results, Scored, differences_between, read_results, with_set_of
from evaluation.tables import as_markdown, as_text, markdown_text
from utils.errors import InputError, escaped, listed, run_script
from utils.files import check_inside, write_atomically
from utils.output import claimed

EXTREMES = 10  # largest wins and largest losses listed and shown per set
LETTERS = ascii_uppercase


def main(args: Namespace) -> int:
    if not 2 <= len(args.folders) <= len(LETTERS):
        found = listed([str(folder) for folder in args.folders], "folder(s)")
        raise InputError(f"expected 2 to {len(LETTERS)} folders with results of test.py, not {found}")
    first, *others = [read_results(folder) for folder in args.folders]
    seeds = [read_results(folder) for folder in args.seeds or []]
    runs = [run.folder.resolve() for run in (first, *seeds)]
    if again := [run for run in runs if runs.count(run) > 1]:
        raise InputError(f"--seeds: {again[0]} is there twice, as one of the folders; expected runs of other seeds")
    others, seeds = ([with_set_of(first, other) for other in part] for part in (others, seeds))
    notes = [note for other in [*others, *seeds] for note in differences_between(first, other)]
    if notes and not args.accept_differences:
        raise InputError(f"{notes[0]}; pass --accept-differences to compare the images in common")
    with claimed(args.output, "compare.py", [args.output / name for name in ("compare.md", "compare.json")]):
        report(first, others, seeds, notes, args.output)
    return 0


def report(
    first: Results, others: Sequence[Results], seeds: Sequence[Results], notes: Sequence[str], output: Path
) -> None:
    """Print the comparison and write it to ``output``."""
    heading = ["set", "compared", "metric", "images", "scenes", "first", "second", "difference"]
    heading += ["95 % interval", "(by image)", "won", "lost", "p"]
    rows, verdicts, entries = [], [], []
    for letter, other in zip(LETTERS[1 : len(others) + 1], others, strict=True):
        for name in first.sets:
            if name not in other.sets:
                continue
            found = compare_set(first.sets[name], other.sets[name])
            spreads = spread_over_seeds([first, *seeds], other, name) if seeds else {}
            rows += [[name, str(other), *row(metric, each)] for metric, each in found.items()]
            verdicts += [f"{name}: {verdict(metric, first, other, found[metric], spreads)}" for metric in found]
            wins, losses = extremes(first.sets[name], other.sets[name])
            entries.append(
                {
                    "set": name,
                    "first": str(first),
                    "second": str(other),
                    "differences": {metric: asdict(each) for metric, each in found.items()},
                    "seeds": {metric: asdict(each) for metric, each in spreads.items()},
                    "largest_wins": wins,
                    "largest_losses": losses,
                }
            )
            draw(first, other, name, letter, [*wins, *losses], output)
    lines = [*verdicts, *(f"note: {note}" for note in notes)]
    text = [markdown_text(f"Compared with {first}."), as_markdown(heading, rows), *map(markdown_text, lines)]
    write_atomically(output / "compare.md", "\n\n".join(text) + "\n")
    write_atomically(
        output / "compare.json", json.dumps({"comparisons": entries, "notes": list(notes)}, indent=2) + "\n"
    )
    print(escaped("\n".join([as_text(heading, rows), "", *lines])))


def compare_set(first: Mapping[str, Scored], second: Mapping[str, Scored]) -> dict[str, Difference]:
    """The differences in each metric that both have, over the images in common."""
    names = sorted(first.keys() & second.keys())
    scenes = [first[name].target_file for name in names]
    metrics = [
        metric
        for metric in METRICS
        if all(metric in images[name].scores for images in (first, second) for name in names)
    ]
    return {
        metric: compare_scores(
            *([images[name].scores[metric] for name in names] for images in (first, second)),
            scenes,
            metric in LOWER_IS_BETTER,
        )
        for metric in metrics
    }


def row(metric: str, found: Difference) -> list[str]:
    """A row of the table."""
    title, decimals = METRICS[metric]

    def interval(ends: tuple[float, float] | None) -> str:
        return "" if ends is None else "{:+.{d}f} to {:+.{d}f}".format(*ends, d=decimals)

    return [
        title,
        str(found.images),
        str(found.scenes),
        f"{found.first:.{decimals}f}",
        f"{found.second:.{decimals}f}",
        f"{found.difference:+.{decimals}f}",
        interval(found.interval),
        interval(found.naive_interval),
        f"{found.won:.0%}",
        f"{found.lost:.0%}",
        f"{found.p_value:.2g}",
    ]


def verdict(metric: str, first: Results, other: Results, found: Difference, spreads: Mapping[str, Spread]) -> str:
    """The answer in one sentence."""
    title, decimals = METRICS[metric]
    if found.interval is None:
        what = "all images are of one scene" if found.scenes == 1 else f"there are only {found.scenes} scenes"
        return f"{title}: {what}, which decides nothing; expected {FEWEST} or more"
    better = (found.difference < 0) == (metric in LOWER_IS_BETTER)
    answer = f"{other} is {'better' if better else 'worse'} than {first} on this set"
    if not found.is_shown:
        answer = f"no difference between {first} and {other} is shown"
    if (spread := spreads.get(metric)) is None:
        return f"{title}: {answer}"
    inside = "within" if spread.contains(spread.other) else "outside"
    limits = f"{spread.mean:.{decimals}f} ± {spread.half_width:.{decimals}f}"
    return f"{title}: {answer}; its mean is {inside} the range of {spread.runs} seeds of the reference, {limits}"


def spread_over_seeds(runs: Sequence[Results], other: Results, name: str) -> dict[str, Spread]:
    """The spread of a set's mean scores over runs of one method, and the mean of ``other``, on the images of all."""
    images = sorted(set.intersection(*(set(run.sets.get(name, ())) for run in (*runs, other))))
    spreads = {}
    for metric in METRICS:
        scores = [[run.sets[name][image].scores.get(metric) for image in images] for run in (*runs, other)]
        if images and not any(None in of_run for of_run in scores):
            *means, of_other = (sum(of_run) / len(of_run) for of_run in scores)
            spreads[metric] = spread_of(means, of_other)
    return spreads


def extremes(first: Mapping[str, Scored], second: Mapping[str, Scored]) -> tuple[list[dict], list[dict]]:
    """The images with the largest gains and the largest losses in PSNR, largest first."""
    gains = {name: second[name].scores["psnr"] - first[name].scores["psnr"] for name in first.keys() & second.keys()}
    ordered = sorted(gains, key=lambda name: (-gains[name], name))

    def entries(names: Sequence[str]) -> list[dict]:
        return [
            {"name": name, "first": first[name].scores["psnr"], "second": second[name].scores["psnr"]} for name in names
        ]

    wins = [name for name in ordered[:EXTREMES] if gains[name] > 0]
    losses = [name for name in ordered[::-1][:EXTREMES] if gains[name] < 0]
    return entries(wins), entries(losses)


def draw(first: Results, other: Results, name: str, letter: str, chosen: Sequence[dict], output: Path) -> None:
    """Write the scatter plot and, if both results have their images, the sheet of wins and losses.

    ``letter`` stands for ``other`` in file names and captions, A for ``first``.
    """
    images = first.sets[name], other.sets[name]
    names = sorted(images[0].keys() & images[1].keys())
    stem = re.sub(r"[^\w.-]", "_", name) + f"_A_{letter}"
    check_inside(output / stem, output)
    points = [[part[each].scores["psnr"] for each in names] for part in images]
    title = f"{name}: PSNR of each image, dB"
    write_atomically(
        output / f"{stem}.scatter.png", scatter_plot(*points, labels=(str(first), str(other)), title=title)
    )
    rows = []
    for entry in chosen:
        files = [part.folder / "images" / name / f"{entry['name']}.png" for part in (first, other)]
        source = images[0][entry["name"]]
        try:
            restored = [read_image(file) for file in files]
            input, target = (read_image(Path(file)) for file in (source.input_file, source.target_file))
        except (BrokenImage, InputError, OSError):
            continue
        if any(image.shape != restored[0].shape or image.dtype != restored[0].dtype for image in (*restored, target)):
            continue
        caption = [
            f"{entry['name']}: input",
            f"A {entry['first']:.2f} dB",
            f"{letter} {entry['second']:.2f} dB",
            "target",
        ]
        shown = [input, *restored, target, *(error_map(image, target) for image in restored)]
        rows.append(list(zip(shown, [*caption, "error of A", f"error of {letter}"], strict=True)))
    if rows:
        write_image(output / f"{stem}.extremes.png", labelled_sheet(rows))


if __name__ == "__main__":
    run_script(main, args)
