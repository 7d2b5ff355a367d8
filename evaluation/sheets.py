"""Contact sheets for visual comparison."""

from collections.abc import Mapping

import cv2
import numpy as np
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from evaluation.scoring import Score

HEIGHT, GAP = 240, 6  # pixels
CAPTION = 20  # height of a caption, in pixels
SHOWN = {"psnr": 2, "ssim": 3}  # scores in captions, and their decimals
ERROR_GAIN = 4  # an error map shows a quarter of the range of values in full brightness


def comparison_sheet(rows: list[tuple[np.ndarray, ...]]) -> np.ndarray:
    """Arrange rows of images, uint8 (h, w, 3), scaled to the same height, on a white sheet, uint8 (H, W, 3)."""
    scaled = [[_to_height(image) for image in row] for row in rows]
    width = max(sum(image.shape[1] + GAP for image in row) for row in scaled) - GAP
    sheet = np.full((len(rows) * (HEIGHT + GAP) - GAP, width, 3), 255, np.uint8)
    for number, row in enumerate(scaled):
        top, left = number * (HEIGHT + GAP), 0
        for image in row:
            sheet[top : top + HEIGHT, left : left + image.shape[1]] = image
            left += image.shape[1] + GAP
    return sheet


def labelled_sheet(rows: list[list[tuple[np.ndarray, str]]]) -> np.ndarray:
    """``comparison_sheet`` of rows of images, uint8 or uint16 (h, w, 3), each with a caption above it."""
    return comparison_sheet([tuple(_labelled(image, caption) for image, caption in row) for row in rows])


def scored_row(
    score: Score, input: np.ndarray, restored: np.ndarray, target: np.ndarray
) -> list[tuple[np.ndarray, str]]:
    """A row of a ``labelled_sheet`` from images, uint8 (h, w, 3): input, restored, target and the error of restored."""

    def scores(values: Mapping[str, float]) -> str:
        return " / ".join(f"{values[metric]:.{decimals}f}" for metric, decimals in SHOWN.items() if metric in values)

    return [
        (input, f"{score.name}: {scores(score.input) or 'input'}"),
        (restored, f"restored {scores(score.restored)}"),
        (target, "target"),
        (error_map(restored, target), f"error x {ERROR_GAIN}"),
    ]


def region_of_interest(input: Tensor, target: Tensor, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns where the input differs most from the target, both (3, H, W): ``height`` x ``width``, or less.

    The same images give the same region, whatever the network.
    """
    difference = (input - target).abs().sum(0).double().cpu()
    height, width = min(height, difference.shape[0]), min(width, difference.shape[1])
    sums = F.pad(difference.cumsum(0).cumsum(1), (1, 0, 1, 0))
    windows = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = divmod(int(windows.argmax()), windows.shape[1])
    return slice(top, top + height), slice(left, left + width)


def error_map(image: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The absolute error of each value, ``ERROR_GAIN`` times: two (H, W, 3) of one type -> uint8 (H, W, 3)."""
    error = np.abs(image.astype(np.float32) - target) / np.iinfo(target.dtype).max
    return np.uint8(np.minimum(error * ERROR_GAIN, 1) * 255)


def _labelled(image: np.ndarray, caption: str) -> np.ndarray:
    image = image if image.dtype == np.uint8 else np.uint8(image >> 8)
    height = HEIGHT - CAPTION
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    sheet = Image.new("RGB", (width, HEIGHT), "white")
    sheet.paste(Image.fromarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)), (0, CAPTION))
    font = ImageFont.load_default(13)
    while caption and font.getlength(caption) > width - 4:
        caption = f"{caption[:-2]}…" if len(caption) > 2 else ""
    ImageDraw.Draw(sheet).text((2, 2), caption, "black", font)
    return np.asarray(sheet)


def _to_height(image: np.ndarray) -> np.ndarray:
    width = max(1, round(image.shape[1] * HEIGHT / image.shape[0]))
    return cv2.resize(image, (width, HEIGHT), interpolation=cv2.INTER_AREA)
