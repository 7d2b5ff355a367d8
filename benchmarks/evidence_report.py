"""The tables and the figure of evidence.json (benchmarks/evidence.py)."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape

from evaluation.tables import as_markdown

CLOSE = 0.05  # dB; a larger difference from a published figure needs a reason
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b")
WIDTH, HEIGHT, MARGIN = 430, 330, 56  # of a panel of the figure, in pixels


@dataclass(frozen=True)
class Published:
    """A published figure for a row: PSNR in dB and SSIM, where it is from, and why ours may differ."""

    row: tuple[str, str, str]  # set, part, method
    psnr: float
    ssim: float | None
    source: str
    reason: str = ""


PRIOR = "dark channel, published parameters"
INDEPENDENT = "an independent implementation, on the same files"
PUBLISHED = (
    Published(("Rain100L", "all", "input"), 26.900, 0.8383, INDEPENDENT),
    Published(("Rain100L", "all", "input"), 26.90, 0.838, "commonly printed"),
    Published(("Rain100H", "all", "input"), 13.551, None, INDEPENDENT),
    Published(
        ("Rain100H", "all", "input"),
        13.56,
        0.371,
        "commonly printed",
        "the SSIM is probably of other files (the original set has 481x321 pixels, this one 480x320): the same code "
        "agrees on Rain100L",
    ),
    Published(("SOTS-Indoor", "all, level 3", "input"), 13.417, 0.7346, INDEPENDENT),
    Published(("SOTS-Indoor", "all, level 3", PRIOR), 19.47, 0.8765, INDEPENDENT),
    Published(
        ("SOTS-Indoor", "all, levels 3 and 7", PRIOR),
        16.62,
        0.8179,
        "README of FFA-Net, after RESIDE's paper",
        "all ten levels of haze there, two here, and another implementation: a patch of 7 alone is worth most of the "
        "difference",
    ),
)


def tables(results: Mapping) -> str:
    """Scores, agreement with published figures, and how the results were made, as Markdown."""
    agreement = "" if results["limit"] else agreement_table(results["rows"])
    parts = [score_table(results["rows"]), agreement, provenance(results)]
    return "\n\n".join(filter(None, parts)) + "\n"


def score_table(rows: Iterable[Mapping]) -> str:
    """One row per set, part and method."""
    heading = ["set", "method", "images", "protocol", "PSNR, dB", "SSIM", "gain, dB", "s/image", "MiB"]
    cells, remarks = [], []
    for row in rows:
        first = row["method"] == "input"
        mark = ""
        if row["remark"]:
            if row["remark"] not in remarks:
                remarks.append(row["remark"])
            mark = f" [{remarks.index(row['remark']) + 1}]"
        cost = ["", "", ""]
        if not first:
            memory = f"{row['memory_bytes'] / 2**20:.0f}"
            cost = [_interval(row["gain"], 2, sign="+"), _digits(row["seconds_per_image"]), memory]
        scenes = f" of {row['scenes']} scenes" if row["scenes"] < row["images"] else ""
        names = (
            [f"{row['set']}, {row['part']}{mark}", f"{row['images']}{scenes}", row["protocol"]] if first else [""] * 3
        )
        scores = [_interval(row["psnr"], 2), _interval(row["ssim"], 4)]
        cells.append([names[0], row["method"], *names[1:], *scores, *cost])
    notes = [f"[{number}] {remark}." for number, remark in enumerate(remarks, 1)]
    return "\n\n".join([as_markdown(heading, cells), *(["  \n".join(notes)] if notes else [])])


def agreement_table(rows: Iterable[Mapping]) -> str:
    """Published figures beside ours; empty if there is none for the complete sets in ``rows``."""
    ours = {(row["set"], row["part"], row["method"]): row for row in rows}
    cells = []
    for figure in PUBLISHED:
        if figure.row not in ours:
            continue
        psnr, ssim = (ours[figure.row][metric]["mean"] for metric in ("psnr", "ssim"))
        difference = psnr - figure.psnr
        reason = figure.reason or ("" if abs(difference) <= CLOSE else "not explained")
        name, part, method = figure.row
        cells.append(
            [
                f"{name}, {part}",
                method,
                f"{figure.psnr:.2f} / {'' if figure.ssim is None else f'{figure.ssim:.4f}'}",
                f"{psnr:.2f} / {ssim:.4f}",
                f"{difference:+.2f} / {'' if figure.ssim is None else f'{ssim - figure.ssim:+.4f}'}",
                figure.source,
                reason,
            ]
        )
    return as_markdown(["set", "method", "published", "here", "difference", "source", "reason"], cells) if cells else ""


def provenance(results: Mapping) -> str:
    """Parameters, weights, commit and machine, in a few sentences."""
    chosen = {}
    for row in results["rows"]:
        if row["method"] != "input" and "sha256" not in row["about"]:
            values = ", ".join(f"{key} {value:g}" for key, value in row["about"].items())
            chosen[f"{row['set']}, {row['method']}: {values}"] = None
    weights = [f"{about['file']} {about['sha256'][:12]}" for about in results["weights"].values()]
    versions = results["versions"]
    machine = f"{results['threads']} threads ({results['cpu_capability']})"
    if results["device"] != "cpu":
        machine = f"{versions['device']} for the networks, {machine} for the rest"
    limit = f" The first {results['limit']} images of each part only." if results["limit"] else ""
    return (
        f"Parameters: {'; '.join(chosen) or 'none'}. Weights (start of their SHA-256): {', '.join(weights) or 'none'}. "
        f"Commit {results['commit'] or 'unknown'}, torch {versions['torch']}, {machine}.{limit}"
    )


def cost_figure(results: Mapping) -> str:
    """Gain in PSNR against seconds and memory per megapixel, for the first part of each set, as SVG."""
    first_parts = {row["set"]: row["part"] for row in reversed(results["rows"])}
    rows = [row for row in results["rows"] if row["method"] != "input" and first_parts[row["set"]] == row["part"]]
    sets = list(dict.fromkeys(row["set"] for row in rows))
    height = HEIGHT + 24 * math.ceil(len(sets) / 3) + 40
    elements = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * WIDTH} {height}" width="{2 * WIDTH}" '
        f'height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{2 * WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    seconds = [row["seconds_per_image"] / _megapixels(row) for row in rows]
    memory = [row["memory_bytes"] / 2**20 / _megapixels(row) for row in rows]
    elements += _panel(0, "seconds per megapixel", rows, seconds, sets)
    elements += _panel(WIDTH, "MiB per megapixel", rows, memory, sets)
    for number, name in enumerate(sets):
        x, y = MARGIN + 270 * (number % 3), HEIGHT + 20 + 24 * (number // 3)
        elements.append(f'<circle cx="{x}" cy="{y - 4}" r="5" fill="{COLOURS[number]}"/>')
        elements.append(_text(x + 12, y, name))
    key = "disc: classical method, ring: the same with other parameters, square: our network"
    return "\n".join([*elements, _text(MARGIN, height - 16, key), "</svg>"]) + "\n"


def _panel(left: float, label: str, rows: list[Mapping], costs: list[float], sets: list[str]) -> list[str]:
    """A scatter plot of the rows' gains, with a logarithmic horizontal axis for ``costs``."""
    gains = [row["gain"]["mean"] for row in rows]
    low, high = math.floor(math.log10(min(costs))), math.floor(math.log10(max(costs))) + 1
    bottom = min(0, math.floor(min(gains)))
    step = max(1, math.ceil((max(gains) - bottom) / 6))
    ticks = range(bottom, bottom + 7 * step, step)

    def x_of(cost: float) -> float:
        return left + MARGIN + (math.log10(cost) - low) / (high - low) * (WIDTH - MARGIN - 20)

    def y_of(gain: float) -> float:
        return HEIGHT - MARGIN - (gain - bottom) / (ticks[-1] - bottom) * (HEIGHT - MARGIN - 24)

    elements = []
    for power in range(low, high + 1):
        x = x_of(10.0**power)
        elements += [
            _line(x, y_of(bottom), x, y_of(ticks[-1])),
            _text(x, y_of(bottom) + 18, f"{10.0**power:g}", "middle"),
        ]
    for gain in ticks:
        y = y_of(gain)
        elements += [_line(x_of(10.0**low), y, x_of(10.0**high), y), _text(left + MARGIN - 8, y + 4, f"{gain}", "end")]
    elements.append(_text(left + (WIDTH + MARGIN) / 2, HEIGHT - 14, label, "middle"))
    elements.append(_text(left + 12, 14, "gain over the input, dB"))
    for row, cost, gain in zip(rows, costs, gains, strict=True):
        elements.append(_marker(row, x_of(cost), y_of(gain), COLOURS[sets.index(row["set"])]))
    return elements


def _marker(row: Mapping, x: float, y: float, colour: str) -> str:
    title = f"<title>{escape(row['set'])}: {escape(row['method'])}</title>"
    if "sha256" in row["about"]:
        return f'<rect x="{x - 6:.1f}" y="{y - 6:.1f}" width="12" height="12" fill="{colour}">{title}</rect>'
    fill = "#ffffff" if ", " in row["method"] else colour
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="{fill}" stroke="{colour}" stroke-width="2">{title}</circle>'


def _megapixels(row: Mapping) -> float:
    return row["size"][0] * row["size"][1] / 1e6


def _line(x0: float, y0: float, x1: float, y1: float) -> str:
    return f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" stroke="#dddddd"/>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#222222">{escape(text)}</text>'


def _interval(value: Mapping, decimals: int, sign: str = "") -> str:
    """Mean ± half-width of the interval, the latter in as many decimals."""
    half = value["half_width"]
    return f"{value['mean']:{sign}.{decimals}f}" + ("" if half is None else f" ± {half:.{decimals}f}")


def _digits(value: float) -> str:
    """Two significant digits."""
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"
