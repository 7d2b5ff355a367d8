"""Pictures beside each other, for the eye."""

import cv2
import numpy as np

HEIGHT, GAP = 240, 6  # pixels


def comparison_sheet(rows: list[tuple[np.ndarray, ...]]) -> np.ndarray:
    """A sheet (H, W, 3) with one row of pictures, uint8 (h, w, 3), per item, at a common height on white."""
    scaled = [[_to_height(picture) for picture in row] for row in rows]
    width = max(sum(picture.shape[1] + GAP for picture in row) for row in scaled) - GAP
    sheet = np.full((len(rows) * (HEIGHT + GAP) - GAP, width, 3), 255, np.uint8)
    for number, row in enumerate(scaled):
        top, left = number * (HEIGHT + GAP), 0
        for picture in row:
            sheet[top : top + HEIGHT, left : left + picture.shape[1]] = picture
            left += picture.shape[1] + GAP
    return sheet


def _to_height(picture: np.ndarray) -> np.ndarray:
    width = max(1, round(picture.shape[1] * HEIGHT / picture.shape[0]))
    return cv2.resize(picture, (width, HEIGHT), interpolation=cv2.INTER_AREA)
