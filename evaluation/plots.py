"""Plots for reports, as PNG."""

import io
import math
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BARS = 20  # about, in a histogram
LEAST_WIDTH = 0.001  # of a bar, in dB
COLUMNS = 3  # of histograms


def scatter_plot(first: Sequence[float], second: Sequence[float], *, labels: tuple[str, str], title: str) -> bytes:
    """A PNG file with one point per image, the second score above the first, and the line on which they are equal."""
    figure = new_figure(6, 6)
    axes = figure.add_subplot()
    limits = min(*first, *second), max(*first, *second)
    axes.plot(limits, limits, color="0.7", linewidth=1)
    axes.scatter(first, second, s=12, alpha=0.6, linewidths=0)
    axes.set(xlabel=plain(labels[0]), ylabel=plain(labels[1]), title=plain(title), aspect="equal")
    return as_png(figure)


def gain_histograms(gains: Mapping[str, Sequence[float]]) -> bytes:
    """A PNG file with a histogram for each set: gains in PSNR over the input in dB, losses in another colour."""
    columns = min(COLUMNS, len(gains))
    figure = new_figure(4 * columns, 3 * math.ceil(len(gains) / columns))
    for number, (name, values) in enumerate(gains.items(), 1):
        axes = figure.add_subplot(math.ceil(len(gains) / columns), columns, number)
        edges = _edges(values)
        _, _, bars = axes.hist(values, edges, edgecolor="white", linewidth=0.5)
        for bar, left in zip(bars, edges, strict=False):
            bar.set_facecolor("tab:red" if left < 0 else "tab:blue")
        axes.axvline(0, color="black", linewidth=1)
        axes.axvline(mean(values), color="black", linewidth=1, linestyle="--")
        worse = sum(value < 0 for value in values)
        axes.set_title(f"{plain(name)}: mean {mean(values):+.2f} dB, {worse} of {len(values)} worse", fontsize=9)
        axes.set(xlabel="gain over the input, dB", ylabel="images")
        axes.yaxis.get_major_locator().set_params(integer=True)
    return as_png(figure)


def _edges(values: Sequence[float]) -> np.ndarray:
    """Edges of a histogram's bars of one width, one of them exactly at zero, so that no bar has gains and losses."""
    low, high = min(*values, 0), max(*values, 0)
    width = max((high - low) / BARS, LEAST_WIDTH)
    first, last = math.floor(low / width), math.floor(high / width) + 1
    first, last = first - (first * width > low), last + (last * width < high)  # by rounding
    return np.arange(first, last + 1) * width


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure; its size is in inches."""
    from matplotlib.figure import Figure  # here, because its import takes a third of the time of torch's

    return Figure(figsize=(width, height), layout="constrained")


def as_png(figure: "Figure") -> bytes:
    """The figure as the content of a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    return file.getvalue()


def plain(text: str) -> str:
    """Names of files and sets, in which Matplotlib must not find mathematics."""
    return text.replace("$", r"\$")
