"""Read image files for restoring, preserving bit depth, grayscale, alpha, ICC profile and metadata."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from data.decoding import jpeg, png
from data.decoding.orientation import EXIF_PREFIX, upright_exif, upright_xmp
from data.decoding.quiet import captured_messages, no_warnings
from data.decoding.structure import Structure
from data.images import MAX_MEGAPIXELS, SUFFIXES, decode_file, file_structure
from inference.photo_metadata import is_lossless_webp
from inference.tiff_tags import tiff_metadata
from utils.errors import InputError

RESTORING_COST = 28  # bytes per pixel: float32 RGB before and after the network, and the result


@dataclass(frozen=True)
class Photograph:
    """Pixels in upright orientation, with the file's metadata.

    Attributes:
        colour: (H, W, 3) RGB or (H, W) grayscale, uint8 or uint16.
        alpha: (H, W) with the same dtype, or None.
        exif: EXIF block with orientation 1, or empty.
        icc: ICC profile, or None.
        xmp: XMP packet, or None.
        more: format-specific metadata: ``dpi``, ``text`` (PNG), ``png_colour`` (PNG, the chunks gAMA, cHRM, sRGB and
            cICP by type), ``tags`` (TIFF), ``lossless`` (WebP), ``iptc`` (JPEG), ``comment`` (JPEG, GIF).
        notes: messages about content that is not preserved, such as further pages.
    """

    colour: np.ndarray
    alpha: np.ndarray | None = None
    exif: bytes = b""
    icc: bytes | None = None
    xmp: bytes | None = None
    more: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def with_colour(self, colour: np.ndarray) -> "Photograph":
        """A copy with ``colour`` replaced by an array of the same shape and dtype."""
        return replace(self, colour=colour)


def photograph_size(
    path: str | Path, max_megapixels: float = MAX_MEGAPIXELS, accept_truncated: bool = False
) -> tuple[int, int]:
    """(height, width) of what ``read_photograph`` returns, from the header.

    Raises:
        InputError: the file is not a readable image, is truncated, or exceeds ``max_megapixels``.
    """
    return file_structure(path, max_megapixels, accept_truncated).upright_size


def read_photograph(
    path: str | Path, max_megapixels: float = MAX_MEGAPIXELS, accept_truncated: bool = False
) -> Photograph:
    """Read an image with its metadata; CMYK and palette images become RGB, the orientation is applied.

    Metadata that are damaged or too large are dropped, with a note. With ``accept_truncated``, the missing part of a
    truncated image is filled, with a note.

    Raises:
        InputError: the file is not a readable image, is truncated, exceeds ``max_megapixels`` or the free memory, or
            its pixels are not 8 or 16 bits per channel.
    """
    structure, pixels, content = decode_file(path, max_megapixels, RESTORING_COST, accept_truncated)
    notes = pixels.notes
    if structure.format == "GIF" and structure.pages > 1:
        raise InputError(
            f"{path}: a GIF animation of {structure.pages} frames; convert it to .mp4, or its frames to .png"
        )
    if structure.pages > 1:
        notes.append(f"only the first of {structure.pages} pages is restored")
    try:
        with captured_messages(), no_warnings():
            metadata = metadata_of(content, structure)
    except Exception:  # Pillow raises almost any exception on damaged metadata
        metadata = {}
        notes.append("damaged metadata are not kept")
    exif = metadata.pop("exif", b"")
    icc = metadata.pop("icc", None)
    xmp = upright_xmp(structure.xmp) or None
    return Photograph(
        pixels.colour,
        pixels.alpha,
        exif,
        None if pixels.converted else icc,
        xmp,
        {"tags": {}, "text": {}} | metadata,
        tuple(notes + structure.notes),
    )


def metadata_of(content: bytes, structure: Structure) -> dict[str, Any]:
    """``Photograph.more``, and ``exif`` and ``icc``; adds a note to the structure about what is damaged."""
    exif = EXIF_PREFIX + upright_exif(structure.exif, structure.orientation) if structure.exif else b""
    match structure.format:
        case "PNG":
            found = png.metadata(content, structure)
            if png.XMP_KEY in found["text"]:
                found["text"][png.XMP_KEY] = upright_xmp(found["text"][png.XMP_KEY].encode()).decode()
            return found | {"exif": exif}
        case "JPEG":
            return jpeg.metadata(structure) | {"exif": exif}
        case "TIFF":
            return tiff_metadata(content, structure)
    info = structure.parts.get("info", {})
    found = {"exif": exif, "icc": info.get("icc_profile")}
    if "dpi" in info:
        found["dpi"] = info["dpi"]
    if structure.format == "WEBP":
        found["lossless"] = is_lossless_webp(content)
    if structure.format == "GIF" and info.get("comment"):
        found["comment"] = info["comment"]
    if structure.format == "HEIF":
        found["png_colour"] = structure.parts["colour"]
    return found


__all__ = ["MAX_MEGAPIXELS", "SUFFIXES", "Photograph", "photograph_size", "read_photograph"]
