"""Photographs, and files of every kind that people have of them, sound and broken."""

import io
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import skimage.data
import tifffile
import torch
from image_bytes import chunk
from PIL import Image, ImageCms

from data.images import write_image

CHELSEA = skimage.data.chelsea()
WIDTH, HEIGHT = 100, 70
PHOTO = cv2.resize(skimage.data.astronaut(), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
DEEP = PHOTO.astype(np.uint16) * 257 + 13
ALPHA = np.linspace(1, 255, WIDTH).astype(np.uint8)[None].repeat(HEIGHT, 0)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6"/>'
MAKER, EXPOSURE = 271, 33434


def turned_exif() -> Image.Exif:
    """Metadata of a camera that was held upright, with its maker and exposure time."""
    exif = Image.Exif()
    exif[0x0112], exif[MAKER] = 6, "Maker"
    exif.get_ifd(0x8769)[EXPOSURE] = 0.01
    return exif


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its content does not have."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def write_album(root: Path) -> None:
    """Sound images of every kind, some in subfolders."""
    (root / "sub" / "deep").mkdir(parents=True)
    photo = Image.fromarray(PHOTO)
    photo.save(root / "turned.jpg", exif=turned_exif(), icc_profile=PROFILE, dpi=(300, 300), xmp=XMP, quality=100)
    photo.save(root / "turned.tif", exif=turned_exif(), icc_profile=PROFILE, compression="tiff_lzw")
    photo.save(root / "turned.webp", exif=turned_exif(), lossless=True)
    photo.save(root / "plain.png", icc_profile=PROFILE, dpi=(300, 300))
    photo.save(root / "plain.bmp")
    photo.quantize(32).save(root / "palette.png")
    photo.convert("L").save(root / "sub" / "grey.jpg")
    photo.convert("L").save(root / "grey.png")
    photo.convert("1").save(root / "bits.png")
    photo.convert("CMYK").save(root / "sub" / "deep" / "cmyk.jpg")
    for suffix in ("png", "tif", "webp"):
        Image.fromarray(np.dstack([PHOTO, ALPHA])).save(
            root / f"alpha.{suffix}", **({"lossless": True} if suffix == "webp" else {})
        )
    Image.fromarray(np.dstack([PHOTO[..., 1], ALPHA])).save(root / "grey_alpha.png")
    cv2.imwrite(str(root / "deep.png"), DEEP[..., ::-1])
    cv2.imwrite(str(root / "deep_grey.png"), DEEP[..., 1])
    cv2.imwrite(str(root / "deep_alpha.png"), np.dstack([DEEP[..., ::-1], DEEP[..., 1]]))
    options = {"photometric": "rgb", "iccprofile": PROFILE, "description": "by hand", "metadata": None}
    tifffile.imwrite(root / "deep.tif", DEEP, **options)
    tifffile.imwrite(root / "deep_turned.tif", DEEP, photometric="rgb", extratags=[(0x0112, "H", 1, 6, True)])
    tifffile.imwrite(root / "deep_grey.tif", DEEP[..., 1])
    cv2.imwrite(str(root / "pixel.png"), PHOTO[:1, :1])
    cv2.imwrite(str(root / "wide.png"), PHOTO[:2].repeat(300, axis=1))


def write_problems(root: Path) -> None:
    """Broken files of every kind, beside the sound ones of ``write_album``."""
    for cut, whole in (("cut.jpg", "turned.jpg"), ("cut.png", "plain.png"), ("cut_deep.png", "deep.png")):
        content = (root / whole).read_bytes()
        (root / cut).write_bytes(content[: len(content) // 2])
    (root / "bomb.png").write_bytes(png_of(60_000, 60_000))
    (root / "empty.png").touch()
    for name in ("text.png", "text.mp4"):
        (root / name).write_text("not what it is called")
    (root / "folder.png").mkdir()
    os.mkfifo(root / "pipe.png")
    tifffile.imwrite(root / "float.tif", PHOTO.astype(np.float32), photometric="rgb")


PIXELS = np.random.default_rng(0).integers(0, 256, (12, 17, 3), np.uint8)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    """The content of a file."""
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def sound_images() -> dict[str, bytes]:
    """Every kind of image that cameras, scanners and programs write."""
    photo = Image.fromarray(PIXELS)
    turned = Image.Exif()
    turned[0x0112] = 6
    deep = PIXELS.astype(np.uint16) * 257
    pages = io.BytesIO()
    tifffile.imwrite(pages, np.stack([PIXELS, PIXELS]), photometric="rgb")
    images = {
        "rgb.png": encoded(photo, "PNG"),
        "rgb.jpg": encoded(photo, "JPEG"),
        "progressive.jpg": encoded(photo, "JPEG", progressive=True),
        "turned.jpg": encoded(photo, "JPEG", exif=turned),
        "turned.png": encoded(photo, "PNG", exif=turned),
        "turned.tif": encoded(photo, "TIFF", exif=turned),
        "turned.webp": encoded(photo, "WEBP", exif=turned),
        "cmyk.jpg": encoded(photo.convert("CMYK"), "JPEG"),
        "grey.jpg": encoded(photo.convert("L"), "JPEG"),
        "lzw.tif": encoded(photo, "TIFF", compression="tiff_lzw"),
        "pages.tif": pages.getvalue(),
        "rgb.bmp": encoded(photo, "BMP"),
        "lossless.webp": encoded(photo, "WEBP", lossless=True),
        "deep.png": cv2.imencode(".png", deep)[1].tobytes(),
        "deep_grey.png": cv2.imencode(".png", deep[..., 0])[1].tobytes(),
        "deep.tif": cv2.imencode(".tif", deep)[1].tobytes(),
        "pixel.png": encoded(photo.crop((0, 0, 1, 1)), "PNG"),
        "wide.png": encoded(Image.new("RGB", (30_000, 1)), "PNG"),
        "high.jpg": encoded(Image.new("RGB", (2, 30_000)), "JPEG"),
    }
    for mode in ("1", "L", "LA", "P", "RGBA"):
        images[f"{mode}.png"] = encoded(photo.convert(mode), "PNG")
    return images


SOUND = sound_images()


def save_image(path: Path, image: np.ndarray, **options) -> Path:
    """Write an array as Pillow does; returns the path."""
    Image.fromarray(image).save(path, **options)
    return path


def damage(path: Path) -> Path:
    """Spoil what is between the header and the end, so that only decoding tells."""
    content = bytearray(path.read_bytes())
    content[60:2000] = bytes(1940)
    path.write_bytes(content)
    return path


def photo_tensor(height: int, width: int) -> torch.Tensor:
    """A photograph of any size: float32 (1, 3, height, width) in [0, 1]."""
    image = cv2.resize(skimage.data.coffee(), (width, height), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(image).permute(2, 0, 1)[None] / 255


FLAT = np.full((4, 6, 3), 99, np.uint8)


def write(root: Path, *names: str, image: np.ndarray = FLAT) -> Path:
    """Write the same image under several names; returns the folder."""
    for name in names:
        write_image(root / name, image)
    return root
