"""Draw docs/architecture.svg, the figure of the README.

    python docs/architecture.py

The labels are the names of models/irnext.py and models/layers.py; sizes are channels x height x width for an image of
256x256 pixels and 32 channels.
"""

import itertools
import re
from html import escape
from pathlib import Path

WIDTH, MARGIN = 960, 24
INK, MUTED, SIZE, FRAME = "#1f2933", "#6b7785", "#1d5a94", "#d5dbe1"
IMAGE, CONV, BLOCK, MULTI_SCALE, ATTENTION = "#ffffff", "#eef1f4", "#dbe9f8", "#fde8cf", "#dcf0dc"
CLASSES = {"IRNeXt", "CNNBlock", "ResBlock", "ConvS", "MultiScaleModule", "LocalAttentionModule"}


class Drawing:
    """SVG elements in the order in which they are painted."""

    def __init__(self) -> None:
        self.elements: list[str] = []

    def rectangle(self, x: float, y: float, width: float, height: float, fill: str, stroke: str, radius: int) -> None:
        self.elements.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius}" '
            f'fill="{fill}" stroke="{stroke}"/>'
        )

    def text(
        self, x: float, y: float, text: str, size: float = 13.5, fill: str = INK, bold: bool = False, anchor: str = ""
    ) -> None:
        weight = ' font-weight="bold"' if bold else ""
        anchor = f' text-anchor="{anchor}"' if anchor else ""
        self.elements.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" fill="{fill}"{weight}{anchor}>{escape(text)}</text>'
        )

    def box(self, x: float, y: float, width: float, lines: str, fill: str = CONV, height: float = 0) -> None:
        """A box centred at height ``y`` whose lines are separated by "|": class names bold, sizes blue."""
        parts = lines.split("|")
        height = height or 17 * len(parts) + 11
        self.rectangle(x, y - height / 2, width, height, fill, INK, 5)
        first = y - 17 * (len(parts) - 1) / 2 + 4.5
        for row, part in enumerate(parts):
            colour = SIZE if re.fullmatch(r"[\w/]+×\w+×\w+", part) else INK
            self.text(x + width / 2, first + 17 * row, part, fill=colour, bold=part in CLASSES, anchor="middle")

    def arrow(self, *points: tuple[float, float], head: bool = True, skip: bool = False) -> None:
        """A line through ``points``, horizontal or vertical; ``skip`` dashes it."""
        colour = MUTED if skip else INK
        (x0, y0), (x1, y1) = points[-2:]
        dx, dy = (x1 > x0) - (x1 < x0), (y1 > y0) - (y1 < y0)
        ends = [*points[:-1], (x1 - 6 * dx, y1 - 6 * dy)] if head else points
        path = " ".join(f"{x:g},{y:g}" for x, y in ends)
        dashes = ' stroke-dasharray="5 4"' if skip else ""
        self.elements.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.4"{dashes}/>')
        if head:
            x, y = x1 - 8 * dx, y1 - 8 * dy
            tip = f"{x1:g},{y1:g} {x + 4 * dy:g},{y + 4 * dx:g} {x - 4 * dy:g},{y - 4 * dx:g}"
            self.elements.append(f'<polygon points="{tip}" fill="{colour}"/>')

    def sum(self, x: float, y: float, sign: str = "+") -> None:
        self.elements.append(f'<circle cx="{x:g}" cy="{y:g}" r="11" fill="#ffffff" stroke="{INK}" stroke-width="1.4"/>')
        self.text(x, y + 6, sign, size=18, anchor="middle")

    def panel(self, y: float, height: float, letter: str, name: str, note: str) -> None:
        """A frame across the figure, with a title."""
        self.rectangle(12, y, WIDTH - 24, height, "none", FRAME, 8)
        title = f'<tspan font-size="16" font-weight="bold" fill="{INK}">({letter}) {name}</tspan>'
        note = f'<tspan dx="12" font-size="13.5" fill="{MUTED}">{escape(note)}</tspan>'
        self.elements.append(f'<text x="{MARGIN}" y="{y + 25:g}">{title}{note}</text>')


def network(d: Drawing, top: float, height: float) -> None:
    """(a): one row per scale; columns from the input image to the restored one."""
    d.panel(top, height, "a", "IRNeXt", "input 256×256, channels C = 32; GELU after embed, down, up and merge")
    rows = [top + 98, top + 222, top + 346]
    names, sizes = ["x", "x_half", "x_quarter"], ["256×256", "128×128", "64×64"]
    restored = ["restored", "restored_half", "restored_quarter"]
    image, first, fuse, encoder, merge, decoder, head, total, output = 24, 140, 254, 342, 464, 554, 676, 776, 808
    for scale, y in enumerate(rows):
        size = f"{32 << scale}×{sizes[scale]}"
        d.box(image, y, 98, f"{names[scale]}|3×{sizes[scale]}", IMAGE)
        d.arrow((image + 98, y), (first, y))
        if scale == 0:
            d.box(first, y, 98, f"embed|3×3 conv|{size}")
            d.arrow((first + 98, y), (encoder, y))
        else:
            d.box(first, y, 98, f"shallow[{scale - 1}]|ConvS|{size}")
            d.arrow((first + 98, y), (fuse, y))
            d.box(fuse, y, 72, f"fuse[{scale - 1}]|concat|3×3 conv")
            d.arrow((fuse + 72, y), (encoder, y))
        d.box(encoder, y, 104, f"encoder[{scale}]|CNNBlock|{size}", BLOCK)
        if scale < 2:
            d.arrow((encoder + 104, y), (merge, y))
            d.box(merge, y, 72, f"merge[{1 - scale}]|concat|1×1 conv")
            d.arrow((merge + 72, y), (decoder, y))
        else:
            d.arrow((encoder + 104, y), (decoder, y))
        d.box(decoder, y, 104, f"decoder[{2 - scale}]|CNNBlock|{size}", BLOCK)
        d.arrow((decoder + 104, y), (head, y))
        d.box(head, y, 72, f"heads[{2 - scale}]|3×3 conv")
        d.arrow((head + 72, y), (total - 11, y))
        d.sum(total, y)
        d.arrow((total + 11, y), (output, y))
        d.box(output, y, 128, f"{restored[scale]}|3×{sizes[scale]}", IMAGE)
        edge, lane, end = (y + 22.5, y + 46, y + 11) if scale == 2 else (y - 22.5, y - 46, y - 11)
        d.arrow((image + 74, edge), (image + 74, lane), (total, lane), (total, end), skip=True)
    for scale, (upper, lower) in enumerate(itertools.pairwise(rows)):
        middle = upper + 50
        d.arrow((image + 30, upper + 22.5), (image + 30, lower - 22.5))
        d.text(image + 38, upper + 54, "nearest, ½")
        x, target = encoder + 52, fuse + 36
        d.arrow((x, upper + 31), (x, middle), (target, middle), (target, lower - 31))
        d.text(x + 8, middle - 3, f"down[{scale}]")
        d.text(x + 8, middle + 14, "3×3, stride 2")
        x, target = decoder + 52, merge + 36
        d.arrow((x, lower - 31), (x, middle), (target, middle), (target, upper + 31))
        d.text(x + 8, middle - 3, f"up[{1 - scale}]")
        d.text(x + 8, middle + 14, "transposed 4×4, stride 2")


def blocks(d: Drawing, top: float, height: float) -> None:
    """(b): the row of residual blocks on the left, one of them on the right."""
    d.panel(top, height, "b", "CNNBlock", "every ResBlock keeps the size; the last one carries the multi-scale module")
    y = top + 84
    d.arrow((24, y), (42, y))
    d.box(42, y, 84, "ResBlock", BLOCK, height=40)
    d.arrow((126, y), (146, y))
    d.text(157, y + 3, "…", anchor="middle")
    d.arrow((168, y), (188, y))
    d.box(188, y, 84, "ResBlock", BLOCK, height=40)
    d.arrow((272, y), (292, y))
    d.box(292, y, 84, "ResBlock", MULTI_SCALE, height=40)
    d.arrow((376, y), (400, y))
    d.arrow((42, y + 28), (42, y + 34), (272, y + 34), (272, y + 28), head=False)
    d.text(157, y + 51, "num_blocks − 1", anchor="middle")
    d.text(334, y + 51, "1", anchor="middle")

    d.text(474, y + 51, "ResBlock", bold=True)
    d.text(562, y + 51, "32×256×256 in encoder[0], from end to end", fill=SIZE)
    d.arrow((440, y), (474, y))
    d.box(474, y, 76, "conv1|3×3 conv")
    d.arrow((550, y), (570, y))
    d.box(570, y, 56, "GELU")
    d.arrow((626, y), (646, y))
    d.box(646, y, 150, "MultiScaleModule|last block only", MULTI_SCALE)
    d.arrow((796, y), (814, y))
    d.box(814, y, 72, "conv2|3×3 conv")
    d.arrow((886, y), (902, y))
    d.sum(913, y)
    d.arrow((924, y), (946, y))
    d.arrow((452, y), (452, y - 38), (913, y - 38), (913, y - 11), skip=True)


def shallow(d: Drawing, top: float, height: float) -> None:
    """(c): the shallow branch at half size."""
    d.panel(top, height, "c", "ConvS", "from an input image to features; shallow[0] is shown")
    y = top + 70
    d.box(24, y, 98, "x_half|3×128×128", IMAGE)
    stages = ["3×3 conv, GELU|16×128×128", "1×1 conv, GELU|32×128×128", "3×3 conv, GELU|32×128×128"]
    x = 122
    for stage in [*stages, "1×1 conv|64×128×128", "instance norm|64×128×128"]:
        d.arrow((x, y), (x + 34, y))
        width = 126 if "GELU" in stage else 116
        d.box(x + 34, y, width, stage)
        x += 34 + width
    d.arrow((x, y), (x + 34, y))


def multi_scale(d: Drawing, top: float, height: float) -> None:
    """(d): one row per pooling size, coarse to fine; the sum runs down on the right."""
    d.panel(top, height, "d", "MultiScaleModule", "at full size; up-sampling is bilinear")
    rows = [top + 92, top + 180, top + 268]
    x, pool, add, scale_conv, attention, up, total, last = 24, 148, 282, 310, 412, 624, 758, 792
    d.box(x, rows[0], 98, "X|32×256×256", IMAGE)
    d.arrow((x + 70, rows[0] - 22.5), (x + 70, top + 48), (total, top + 48), (total, rows[0] - 11), skip=True)
    for index, (y, size) in enumerate(zip(rows, (32, 64, 128), strict=True)):
        if index:
            d.arrow((x + 49, rows[0] + 22.5), (x + 49, y), (pool, y))
            d.arrow((pool + 104, y), (add - 11, y))
            d.sum(add, y)
            d.arrow((add + 11, y), (scale_conv, y))
            d.arrow((total, rows[index - 1] + 11), (total, y - 11))
        else:
            d.arrow((x + 98, y), (pool, y))
            d.arrow((pool + 104, y), (scale_conv, y))
        d.box(pool, y, 104, f"avg_pool, {8 >> index}×{8 >> index}|32×{size}×{size}")
        d.box(scale_conv, y, 84, f"convs[{index}]|3×3 conv")
        d.arrow((scale_conv + 84, y), (attention, y))
        d.box(attention, y, 176, f"attentions[{index}]|LocalAttentionModule|32×{size}×{size}", ATTENTION)
        d.arrow((attention + 176, y), (up, y))
        d.box(up, y, 100, "upsample|32×256×256")
        d.arrow((up + 100, y), (total - 11, y))
        d.sum(total, y)
        if index < 2:
            middle = y + 46
            d.arrow((attention + 194, y), (attention + 194, middle), (add, middle), (add, rows[index + 1] - 11))
            d.text(add + 12, middle - 6, "upsample")
    d.arrow((total + 11, rows[2]), (last, rows[2]))
    d.box(last, rows[2], 124, "GELU|conv_out: 3×3|32×256×256")
    d.arrow((last + 124, rows[2]), (946, rows[2]))


def local_attention(d: Drawing, top: float, height: float) -> None:
    """(e): the filter on top, the filtered features below it, then the low frequencies and the identity."""
    d.panel(top, height, "e", "LocalAttentionModule", "at full size, pooled by 2")
    making, filtering, low, identity = top + 74, top + 164, top + 226, top + 276
    d.box(24, filtering, 98, "X|32×128×128", IMAGE)
    branch = 136
    d.arrow((122, filtering), (458, filtering))
    d.arrow((branch, filtering), (branch, making), (154, making))
    d.arrow((branch, filtering), (branch, low), (154, low))
    d.arrow((branch, low), (branch, identity), (154, identity))

    d.box(154, making, 80, "mean|32×1×1")
    d.arrow((234, making), (252, making))
    d.box(252, making, 84, "project|1×1 conv|72×1×1")
    d.arrow((336, making), (354, making))
    d.box(354, making, 86, "BatchNorm|tanh|72×1×1")
    d.arrow((440, making), (458, making))
    d.box(458, making, 126, "A: 3×3 filters,|one for each of|8 channel groups", ATTENTION)
    d.arrow((521, making + 31), (521, filtering - 31))
    d.box(458, filtering, 126, "depthwise_conv|X ∗ A|32×128×128", ATTENTION)

    d.arrow((584, filtering), (604, filtering))
    d.box(604, filtering, 78, "× (1 + w)")
    d.arrow((682, filtering), (700, filtering))
    d.sum(711, filtering, "−")
    d.arrow((722, filtering), (740, filtering))
    d.box(740, filtering, 42, "× a")
    d.arrow((782, filtering), (798, filtering))
    d.sum(809, filtering)
    d.arrow((820, filtering), (838, filtering))
    d.box(838, filtering, 98, "Y|32×128×128", IMAGE)

    d.box(154, low, 286, "low frequencies: mean or window_mean")
    d.arrow((440, low), (500, low))
    d.box(500, low, 42, "× w")
    d.arrow((542, low), (711, low), (711, filtering + 11))
    d.box(154, identity, 78, "× (1 + b)")
    d.arrow((232, identity), (809, identity), (809, filtering + 11))
    learned = "w (modulation), a (filtered_weight) and b (identity_weight): one value per channel, 0 at the start;"
    d.text(24, top + 320, learned)
    d.text(24, top + 341, "W = 1 + w scales the high frequencies. Y = a ((1 + w) (X ∗ A) − w mean(X)) + (1 + b) X")


def draw() -> str:
    """The whole figure as SVG text."""
    d = Drawing()
    top = 12
    for panel, height in ((network, 406), (blocks, 148), (shallow, 112), (multi_scale, 312), (local_attention, 356)):
        panel(d, top, height)
        top += height + 12
    header = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}" '
        f"font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\">"
    )
    background = f'<rect width="{WIDTH}" height="{top}" rx="12" fill="#ffffff"/>'
    title = "<title>IRNeXt: the network, its CNN blocks, shallow branch, multi-scale module and local attention</title>"
    return "\n".join([header, title, background, *d.elements, "</svg>\n"])


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(draw(), encoding="utf-8")
