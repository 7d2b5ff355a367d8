"""Write restored images in the format of their suffix, with the metadata of the input."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image, PngImagePlugin, TiffImagePlugin

from inference.photo_files import XMP_TAG, Photograph
from utils.errors import InputError
from utils.files import write_atomically

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".webp": "WEBP", ".tif": "TIFF"}
FORMATS[".tiff"] = FORMATS[".tif"]
JPEG_QUALITY = 95  # without chroma subsampling; also the quality of lossy WebP


def write_photograph(path: str | Path, photograph: Photograph) -> None:
    """Write atomically, in the format given by the suffix; missing folders are created.

    Raises:
        InputError: the format cannot store the image.
        OSError: the file cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    deep = photograph.colour.dtype == np.uint16
    encode = _encoded_deep if deep else _encoded
    write_atomically(path, encode(path, photograph))


def _encoded(path: Path, photograph: Photograph) -> bytes:
    """Encode 8-bit pixels with their metadata."""
    format = FORMATS[path.suffix.lower()]
    pixels = photograph.colour
    if photograph.alpha is not None and format != "JPEG":
        pixels = np.dstack([pixels, photograph.alpha])
    options: dict[str, Any] = {"icc_profile": photograph.icc, "exif": photograph.exif}
    if "dpi" in photograph.more:
        options["dpi"] = photograph.more["dpi"]
    if format == "JPEG":
        options |= {"quality": JPEG_QUALITY, "subsampling": 0}
    elif format == "WEBP":
        options |= {"lossless": photograph.more.get("lossless", False), "quality": JPEG_QUALITY, "exact": True}
    elif format == "PNG":
        options["pnginfo"] = text = PngImagePlugin.PngInfo()
        for key, value in photograph.more.get("text", {}).items():
            text.add_itxt(key, value) if key.startswith("XML:") else text.add_text(key, value)
    elif format == "TIFF":
        options |= {"compression": "tiff_adobe_deflate", "tiffinfo": _tiff_tags(photograph)}
    if photograph.xmp and format in ("JPEG", "WEBP"):
        options["xmp"] = photograph.xmp
    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(
        content, format, **{key: value for key, value in options.items() if value}
    )
    return content.getvalue()


def _tiff_tags(photograph: Photograph) -> TiffImagePlugin.ImageFileDirectory_v2:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in photograph.more.get("tags", {}).items():
        tags[tag] = value
    if photograph.xmp:
        tags[XMP_TAG] = photograph.xmp
    return tags


def _encoded_deep(path: Path, photograph: Photograph) -> bytes:
    """Encode 16-bit pixels with their metadata."""
    format = FORMATS[path.suffix.lower()]
    pixels = photograph.colour
    if photograph.alpha is not None:
        colour = pixels if pixels.ndim == 3 else np.dstack([pixels] * 3)
        pixels = np.dstack([colour, photograph.alpha])
    if format == "PNG":
        swapped = pixels if pixels.ndim == 2 else pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
        _, content = cv2.imencode(".png", np.ascontiguousarray(swapped))
        return _with_png_chunks(content.tobytes(), photograph)
    if format == "TIFF":
        content = io.BytesIO()
        tifffile.imwrite(content, pixels, **_deep_tiff_options(photograph, pixels))
        return content.getvalue()
    raise InputError(f"{path}: {path.suffix} cannot store 16-bit images; use .png or .tif")


def _deep_tiff_options(photograph: Photograph, pixels: np.ndarray) -> dict[str, Any]:
    resolution = photograph.more.get("dpi")
    tags = [
        (tag, "s", 0, value, True) for tag, value in photograph.more.get("tags", {}).items() if isinstance(value, str)
    ]
    if photograph.xmp:
        tags.append((XMP_TAG, "B", len(photograph.xmp), photograph.xmp, True))
    options: dict[str, Any] = {
        "photometric": "minisblack" if pixels.ndim == 2 else "rgb",
        "compression": "zlib",
        "extratags": tags,
        "iccprofile": photograph.icc,
        "software": False,
        "metadata": None,
    }
    if resolution:
        options |= {"resolution": tuple(map(float, resolution)), "resolutionunit": "INCH"}
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        options["extrasamples"] = ["unassalpha"]
    return options


def _with_png_chunks(png: bytes, photograph: Photograph) -> bytes:
    """Insert ICC profile, EXIF, resolution and text chunks after IHDR (PNG specification, section 11.3)."""
    chunks = b""
    if photograph.icc:
        chunks += _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(photograph.icc))
    if photograph.exif:
        chunks += _chunk(b"eXIf", photograph.exif.removeprefix(b"Exif\0\0"))
    if "dpi" in photograph.more:
        chunks += _chunk(b"pHYs", struct.pack(">IIB", *(round(dpi / 0.0254) for dpi in photograph.more["dpi"]), 1))
    for key, value in photograph.more.get("text", {}).items():
        chunks += _chunk(b"iTXt", key.encode("latin-1", "replace") + b"\0\0\0\0\0" + value.encode())
    header = 8 + 25  # signature, IHDR
    return png[:header] + chunks + png[header:]


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
