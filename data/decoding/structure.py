"""What the structure of an image file says about it, before any pixel is decoded."""

import os
from dataclasses import dataclass, field
from typing import Any, BinaryIO

TRUNCATED = "the image is truncated: copy or download it again"
NOT_FILLED = "--accept-truncated is for PNG, JPEG and BMP of 8 bits"


class Unreadable(Exception):
    """A file cannot be read as an image; the message says why and does not name the file."""


class FileBytes:
    """The content of an open file as a sequence of bytes: ``content[a:b]`` reads only what is asked for."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.length = os.fstat(file.fileno()).st_size

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self.length)
        self.file.seek(start)
        return self.file.read(max(0, stop - start))


Content = bytes | FileBytes


@dataclass
class Structure:
    """The parts of an image file that are needed to decode it.

    Attributes:
        format: Pillow's name of the format.
        width: pixels per row as stored, before ``orientation`` is applied.
        height: rows as stored.
        mode: Pillow's name of the kind of pixels: RGB, L (greyscale), P (palette), RGBA, ...
        bits: per channel, as stored.
        orientation: of EXIF (tag 0x0112), 1 to 8: 1 is upright.
        truncated: the file ends before its pixels do.
        exif: EXIF block, starting with its TIFF header, or empty.
        xmp: XMP packet, or empty.
        pages: number of images in the file.
        parts: what else the format's decoder needs: chunks of a PNG, tags of a TIFF, ...
        notes: messages about content that is damaged or ignored.
    """

    format: str
    width: int
    height: int
    mode: str
    bits: int = 8
    orientation: int = 1
    truncated: bool = False
    exif: bytes = b""
    xmp: bytes = b""
    pages: int = 1
    parts: dict[Any, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def upright_size(self) -> tuple[int, int]:
        """(height, width) after ``orientation`` is applied; orientations 5 to 8 swap them."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)
