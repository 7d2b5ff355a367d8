"""Contact sheets for visual comparison."""

import cv2
import numpy as np

HEIGHT, GAP = 240, 6  # pixels


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


def _to_height(image: np.ndarray) -> np.ndarray:
    width = max(1, round(image.shape[1] * HEIGHT / image.shape[0]))
    return cv2.resize(image, (width, HEIGHT), interpolation=cv2.INTER_AREA)
