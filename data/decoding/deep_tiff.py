"""Decode TIFF files that Pillow cannot, above all those of 16 bits per channel, by tifffile as their tags say."""

import io
import logging
import struct

import numpy as np
import tifffile
from PIL import Image

from data.decoding import tiff
from data.decoding.structure import Structure, Unreadable

LZW = 5
logging.getLogger("tifffile").propagate = False  # damage is reported by what it raises
logging.getLogger("tifffile").addHandler(logging.NullHandler())


def decode_tiff(content: bytes, structure: Structure) -> tuple[np.ndarray, np.ndarray | None]:
    """Colour (H, W, 3) or greyscale (H, W), and alpha (H, W) if there is one, uint8 or uint16, before orientation.

    Raises:
        Unreadable: the kind of TIFF is not supported, or its pixels are damaged.
    """
    tags = structure.parts["tags"]
    samples, photometric = tags[tiff.SAMPLES][0], tags.get(tiff.PHOTOMETRIC, (tiff.MIN_IS_BLACK,))[0]
    if photometric not in (tiff.MIN_IS_WHITE, tiff.MIN_IS_BLACK, tiff.RGB):
        raise Unreadable(
            f"TIFF of {structure.bits} bits with photometric interpretation {photometric}; expected greyscale or RGB"
        )
    colours = 3 if photometric == tiff.RGB else 1
    if samples < colours:
        raise Unreadable("not a readable image: an RGB TIFF with less than three samples")
    pixels = _decoded(content).reshape(_shape(structure, samples, tags[tiff.PLANAR][0] == 2))
    if tags[tiff.PLANAR][0] == 2:
        pixels = np.moveaxis(pixels, 0, -1)
    alpha_at = tiff.alpha_sample(tags)
    if alpha_at is None and samples == 4 and colours == 3 and not tags[tiff.EXTRA]:
        alpha_at = 3  # the tag that says so is missing
    colour = np.ascontiguousarray(pixels[..., :colours])
    if photometric == tiff.MIN_IS_WHITE:
        colour = np.iinfo(colour.dtype).max - colour
    alpha = None
    if alpha_at is not None and colours <= alpha_at < samples:
        alpha = np.ascontiguousarray(pixels[..., alpha_at])
        kind = tags[tiff.EXTRA][alpha_at - samples + len(tags[tiff.EXTRA])] if tags[tiff.EXTRA] else tiff.UNASSOCIATED
        if kind == tiff.ASSOCIATED:
            colour = _divided(colour, alpha)
    if samples - colours > (alpha is not None):
        structure.notes.append("further channels of the TIFF are not kept")
    return (colour if colours == 3 else colour[..., 0]), alpha


def _shape(structure: Structure, samples: int, separate: bool) -> tuple[int, int, int]:
    size = structure.height, structure.width
    return (samples, *size) if separate else (*size, samples)


def _decoded(content: bytes) -> np.ndarray:
    tifffile.TIFF.DECOMPRESSORS._codecs.setdefault(LZW, _lzw)  # tifffile has none without imagecodecs
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        try:
            pixels = file.pages.first.asarray(maxworkers=1)
        except (ValueError, NotImplementedError) as error:
            raise Unreadable(f"TIFF that cannot be decoded ({error})") from None
    return pixels


def _lzw(data: bytes, out: int) -> bytes:
    """Decompress a strip or tile to ``out`` bytes: libtiff reads it as a single row of an 8-bit image."""
    tags = {256: out, 257: 1, 258: 8, 259: LZW, 262: 1, 273: 8, 277: 1, 278: 1, 279: len(data)}
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    padding = len(data) % 2
    start = 8 + len(data) + padding
    head = b"II*\0" + struct.pack("<I", start)
    row = head + data + bytes(padding) + struct.pack("<H", len(tags)) + directory + bytes(4)
    with Image.open(io.BytesIO(row), formats=["TIFF"]) as image:
        return image.tobytes()


def _divided(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colours that were multiplied by alpha, as they were before; 0 where alpha is 0."""
    full = np.iinfo(alpha.dtype).max
    scale = alpha[..., None].astype(np.uint32)
    values = (colour.astype(np.uint32) * full + scale // 2) // np.maximum(scale, 1)
    return np.where(scale > 0, np.minimum(values, full), 0).astype(alpha.dtype)
