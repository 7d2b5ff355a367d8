"""Plots for reports, as PNG."""

import io
from collections.abc import Sequence

from matplotlib.figure import Figure


def scatter_plot(first: Sequence[float], second: Sequence[float], *, labels: tuple[str, str], title: str) -> bytes:
    """A PNG file with one point per image, the second score above the first, and the line on which they are equal."""
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.add_subplot()
    limits = min(*first, *second), max(*first, *second)
    axes.plot(limits, limits, color="0.7", linewidth=1)
    axes.scatter(first, second, s=12, alpha=0.6, linewidths=0)
    axes.set(xlabel=_plain(labels[0]), ylabel=_plain(labels[1]), title=_plain(title), aspect="equal")
    return as_png(figure)


def as_png(figure: Figure) -> bytes:
    """The figure as the content of a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    return file.getvalue()


def _plain(text: str) -> str:
    """Names of files and sets, in which Matplotlib must not find mathematics."""
    return text.replace("$", r"\$")
