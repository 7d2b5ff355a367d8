"""HEIC images, which the package pillow-heif decodes (requirements-extra.txt)."""

import importlib.util
import io
from typing import Any

import numpy as np

from data.decoding.boxes import top_boxes
from data.decoding.orientation import without_prefix
from data.decoding.structure import Content, Structure, Unreadable

SUFFIXES = (".heic", ".heif", ".hif")
NOT_INSTALLED = "HEIC; pip install pillow-heif to read it (requirements-extra.txt), or convert it to .jpg or .png"
UNSPECIFIED = 2  # a colour description that says nothing (ITU-T H.273)
MODES = ("L", "RGB", "RGBA")


def is_available() -> bool:
    """Whether pillow-heif is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


def parse(content: Content) -> Structure:
    """Size and orientation are those of the decoder, which applies irot and imir; EXIF's orientation does not count.

    Raises:
        Unreadable: pillow-heif is not installed, or the file is truncated or of a kind that is not supported.
    """
    if not is_available():
        raise Unreadable(NOT_INSTALLED)
    for _ in top_boxes(content):
        pass
    file = _opened(content)
    image = file[file.primary_index]
    mode = image.mode.partition(";")[0]
    if mode not in MODES:
        raise Unreadable(f"HEIC with pixels of mode {image.mode}; expected greyscale or RGB, with or without alpha")
    structure = Structure("HEIF", *image.size, mode, image.info["bit_depth"], pages=len(file))
    structure.exif = without_prefix(image.info.get("exif") or b"")
    if image.info.get("exif") and not structure.exif:
        structure.notes.append("damaged EXIF data are not kept")
    if image.info.get("depth_images") or image.info.get("aux"):
        structure.notes.append("the depth or gain map of the HEIC is not kept")
    structure.xmp = image.info.get("xmp") or b""
    structure.parts = {"info": {"icc_profile": image.info.get("icc_profile")}, "colour": _colour(image.info)}
    return structure


def decode(content: bytes, structure: Structure) -> tuple[np.ndarray, np.ndarray | None]:
    """Colour (H, W, 3) or greyscale (H, W), and alpha (H, W) if there is one; uint16 from 10 bits on, else uint8."""
    file = _opened(content)
    pixels = np.asarray(file[file.primary_index])
    if structure.bits > 8:
        full = 2**structure.bits - 1
        pixels = ((np.arange(full + 1) * 65535 + full // 2) // full).astype(np.uint16)[pixels]
    if structure.mode == "RGBA":
        return np.ascontiguousarray(pixels[..., :3]), pixels[..., 3].copy()
    return pixels.reshape(pixels.shape[:2] if structure.mode == "L" else pixels.shape).copy(), None


def _opened(content: Content) -> Any:
    import pillow_heif

    return pillow_heif.open_heif(io.BytesIO(content[:]), convert_hdr_to_8bit=False, hdr_to_16bit=False)


def _colour(info: dict[str, Any]) -> dict[bytes, bytes]:
    """The colour description as the chunk cICP of a PNG with RGB values; none if there is a profile."""
    found = info.get("nclx_profile")
    codes = [int(found[key]) for key in ("color_primaries", "transfer_characteristics")] if found else [UNSPECIFIED]
    if info.get("icc_profile") or UNSPECIFIED in codes:
        return {}
    return {b"cICP": bytes([*codes, 0, 1])}
