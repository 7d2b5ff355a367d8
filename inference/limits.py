"""Bounds and defaults of restore.py's options: --help states them without importing torch."""

SMALLEST_TILE, LARGEST_TILE = 32, 2**16  # side in pixels
DEFAULT_CRF, LARGEST_CRF = 13, 51  # H.264: 0 is lossless, the largest gives the smallest file
