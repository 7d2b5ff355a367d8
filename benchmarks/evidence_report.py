"""The tables and the figure of evidence.json (benchmarks/evidence.py)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from evaluation.plots import as_png, new_figure
from evaluation.tables import as_markdown

CLOSE = 0.05  # dB; a larger difference from a published figure needs a reason


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
    Published(("Rain100H", "all", "input"), 13.551, None, INDEPENDENT),
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


def cost_figure(results: Mapping) -> bytes:
    """Gain in PSNR against seconds and memory per megapixel, for the first part of each set, as PNG."""
    first_parts = {row["set"]: row["part"] for row in reversed(results["rows"])}
    rows = [row for row in results["rows"] if row["method"] != "input" and first_parts[row["set"]] == row["part"]]
    figure = new_figure(10, 5)
    panels = figure.subplots(1, 2, sharey=True)
    colours = {name: f"C{number}" for number, name in enumerate(dict.fromkeys(row["set"] for row in rows))}
    for row in rows:
        megapixels = row["size"][0] * row["size"][1] / 1e6
        ours = "sha256" in row["about"]
        style = {"marker": "s" if ours else "o", "color": colours[row["set"]], "linestyle": "", "markersize": 8}
        style |= {"fillstyle": "none"} if ", " in row["method"] and not ours else {}
        panels[0].plot(row["seconds_per_image"] / megapixels, row["gain"]["mean"], **style)
        panels[1].plot(row["memory_bytes"] / 2**20 / megapixels, row["gain"]["mean"], **style)
    panels[0].set(xscale="log", xlabel="seconds per megapixel", ylabel="gain over the input, dB")
    panels[1].set(xscale="log", xlabel="MiB per megapixel")
    for axes in panels:
        axes.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}", minor_formatter="")
        axes.grid(color="0.9")
        axes.axhline(0, color="0.5", linewidth=1)
    key = [Line2D([], [], color=colour, marker="o", linestyle="", label=name) for name, colour in colours.items()]
    for label, style in (
        ("classical method", {"marker": "o"}),
        ("with other parameters", {"marker": "o", "fillstyle": "none"}),
        ("our network", {"marker": "s"}),
    ):
        key.append(Line2D([], [], color="0.4", linestyle="", label=label, **style))
    figure.legend(handles=key, loc="outside lower center", ncols=4)
    return as_png(figure)


def _interval(value: Mapping, decimals: int, sign: str = "") -> str:
    """Mean ± half the width of its interval."""
    text = f"{value['mean']:{sign}.{decimals}f}"
    if value["interval"] is None:
        return text
    low, high = value["interval"]
    return f"{text} ± {(high - low) / 2:.{decimals}f}"


def _digits(value: float) -> str:
    """Two significant digits."""
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"
