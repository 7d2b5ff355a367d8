"""Read image files for restoring, preserving bit depth, grayscale, alpha, ICC profile and metadata."""

import contextlib
import io
import re
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageCms, ImageOps, PngImagePlugin, TiffImagePlugin

from data.formats import SIGNATURE_LENGTH, format_of
from data.images import MAX_MEGAPIXELS, SUFFIXES
from inference.photo_metadata import is_lossless_webp, png_colour_chunks
from utils.errors import InputError

ORIENTATION, EXIF_IFD, PIXEL_SIZE = 0x0112, 0x8769, (0xA002, 0xA003)
# TIFF tags that describe the image rather than its storage: description, make, model, software, date, artist,
# copyright, XMP, IPTC.
DESCRIPTIVE_TAGS = (270, 271, 272, 305, 306, 315, 33432, 700, 33723)
XMP_TAG, IPTC_TAG = 700, 33723
XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:=[\"']|>))\d")


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
            cICP by type), ``tags`` (TIFF), ``lossless`` (WebP).
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


def photograph_size(path: str | Path, max_megapixels: float = MAX_MEGAPIXELS) -> tuple[int, int]:
    """(height, width) from the header, before EXIF orientation is applied.

    Raises:
        InputError: the file is not a readable image, or exceeds ``max_megapixels``.
    """
    with _opened(path, max_megapixels) as image:
        return image.height, image.width


def read_photograph(path: str | Path, max_megapixels: float = MAX_MEGAPIXELS) -> Photograph:
    """Read an image with its metadata; CMYK and palette images become RGB, EXIF orientation is applied.

    Raises:
        InputError: the file is not a readable image, is truncated, exceeds ``max_megapixels``, or its pixels are not
            8 or 16 bits per channel.
    """
    with _opened(path, max_megapixels) as image:
        try:
            return _read(path, image)
        except InputError:
            raise
        except Exception as error:  # decoders raise almost any exception on a damaged file
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"{path}: cannot decode the image; the file may be damaged ({reason[:120]})") from None


def _read(path: str | Path, image: Image.Image) -> Photograph:
    if image.mode in ("I", "F"):
        raise InputError(f"{path}: 32 bits per channel; only 8 and 16 bits are supported")
    deep = _bits(image) == 16
    tags = {tag: image.tag_v2[tag] for tag in DESCRIPTIVE_TAGS if tag in image.tag_v2} if _is_tiff(image) else {}
    pages = getattr(image, "n_frames", 1)
    notes = [f"only the first of {pages} pages is restored"] if pages > 1 else []
    image.load()  # raises if the file is truncated; also reads PNG metadata stored after the pixels
    info, exif = dict(image.info), image.getexif()
    # Both decoders apply a TIFF's orientation themselves.
    orientation = 1 if _is_tiff(image) else exif.get(ORIENTATION, 1)
    icc = info.get("icc_profile")
    if deep:
        colour, alpha = (_upright(pixels, orientation) for pixels in _deep_pixels(path, image))
    else:
        upright = ImageOps.exif_transpose(image)
        if upright.mode == "CMYK":
            upright, icc = _cmyk_to_rgb(upright, icc), None
            notes.append("converted from CMYK to RGB")
        colour, alpha = _pixels(upright)
    if _is_tiff(image):
        exif_block = _upright_exif(_without_layout(exif, tags), orientation)
    else:  # kept byte for byte unless the pixels were rotated
        exif_block = info.get("exif", b"") if orientation == 1 else _upright_exif(exif, orientation)
    more: dict[str, Any] = {"tags": tags, "text": dict(getattr(image, "text", {}))}
    if "dpi" in info:
        more["dpi"] = info["dpi"]
    if image.format == "WEBP":
        more["lossless"] = is_lossless_webp(Path(path).read_bytes())
    if image.format == "PNG":
        more["png_colour"] = png_colour_chunks(Path(path).read_bytes())
    xmp = info.get("xmp")
    if xmp:
        xmp = XMP_ORIENTATION.sub(rb"\g<1>1", xmp)
    return Photograph(colour, alpha, exif_block, icc, xmp, more, tuple(notes))


@contextlib.contextmanager
def _opened(path: str | Path, max_megapixels: float):
    """The file opened by Pillow, pixels not yet decoded."""
    path = Path(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about damaged metadata, which is dropped
        try:
            if path.is_dir():
                raise InputError(f"{path}: is a folder, not an image")
            if path.exists() and not path.is_file():
                raise InputError(f"{path}: not a regular file")  # reading a pipe would block
            if path.stat().st_size == 0:
                raise InputError(f"{path}: file is empty")
            with open(path, "rb") as file:
                format = format_of(file.read(SIGNATURE_LENGTH))
            if format is None:
                raise InputError(f"{path}: not an image, or in an unsupported format")
            image = Image.open(path, formats=[format])
        except InputError:
            raise
        except Image.UnidentifiedImageError:
            raise InputError(f"{path}: cannot decode the image; the file may be damaged") from None
        except OSError as error:
            raise InputError(f"{path}: cannot read the image: {error.strerror or error}") from None
        except Exception as error:
            raise InputError(f"{path}: cannot decode the image; the file may be damaged ({error})") from None
        with image:
            megapixels = image.width * image.height / 1e6
            if megapixels > max_megapixels:
                raise InputError(
                    f"{path}: {image.width}x{image.height} is more than {max_megapixels:g} megapixels "
                    "(raise the limit with --max-megapixels)"
                )
            yield image


def _bits(image: Image.Image) -> int:
    """Bits per channel as stored; Pillow reduces 16-bit colour to 8 bits."""
    if image.mode.startswith("I;16"):
        return 16
    if isinstance(image, PngImagePlugin.PngImageFile):
        position = image.fp.tell()
        image.fp.seek(24)
        depth = image.fp.read(1)[0]
        image.fp.seek(position)
        return depth
    if _is_tiff(image):
        return max(image.tag_v2.get(258, (8,)))
    return 8


def _deep_pixels(path: str | Path, image: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """Colour or grayscale, and alpha, uint16, before EXIF orientation is applied."""
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16), None
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        raise InputError(f"{path}: unsupported kind of 16-bit image")
    if pixels.ndim == 2:
        return pixels, None
    alpha = pixels[..., 3] if pixels.shape[2] == 4 else None
    return np.ascontiguousarray(pixels[..., 2::-1]), alpha


def _pixels(image: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """Colour or grayscale, and alpha, uint8, from any 8-bit mode."""
    transparent = image.has_transparency_data
    grey = image.mode in ("1", "L", "LA", "La")
    image = image.convert(("LA" if transparent else "L") if grey else ("RGBA" if transparent else "RGB"))
    pixels = np.asarray(image)
    if not transparent:
        return pixels, None
    return (pixels[..., 0] if grey else pixels[..., :3]), pixels[..., -1]


def _cmyk_to_rgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    """Convert to sRGB with the embedded profile if it is valid, otherwise with Pillow's formula."""
    if icc:
        with contextlib.suppress(ImageCms.PyCMSError, OSError):
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            return ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    return image.convert("RGB")


def _upright(pixels: np.ndarray | None, orientation: int) -> np.ndarray | None:
    """Apply an EXIF orientation, 1 to 8 (EXIF 2.3, tag 0x0112)."""
    if pixels is None:
        return None
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _is_tiff(image: Image.Image) -> bool:
    return isinstance(image, TiffImagePlugin.TiffImageFile)


def _upright_exif(exif: Image.Exif, orientation: int) -> bytes:
    """The EXIF block after ``orientation`` has been applied to the pixels."""
    if not len(exif):
        return b""
    if ORIENTATION in exif:
        exif[ORIENTATION] = 1
    details = exif.get_ifd(EXIF_IFD)
    if orientation >= 5 and all(tag in details for tag in PIXEL_SIZE):
        width, height = (details[tag] for tag in PIXEL_SIZE)
        details[PIXEL_SIZE[0]], details[PIXEL_SIZE[1]] = height, width
    return exif.tobytes()


def _without_layout(exif: Image.Exif, tags: dict[int, Any]) -> Image.Exif:
    """A TIFF's EXIF without the tags that describe the storage of its pixels."""
    kept = Image.Exif()
    for tag, value in tags.items():
        if tag not in (XMP_TAG, IPTC_TAG):
            kept[tag] = value
    details = exif.get_ifd(EXIF_IFD)
    if details:
        kept.get_ifd(EXIF_IFD).update(details)
    return kept


__all__ = ["MAX_MEGAPIXELS", "SUFFIXES", "Photograph", "photograph_size", "read_photograph"]
