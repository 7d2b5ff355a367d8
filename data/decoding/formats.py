"""The image formats that are read, told apart by their first bytes, whatever the file is called."""

SIGNATURE_LENGTH = 32  # bytes from the start of a file that ``format_of`` looks at

PREFIXES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",  # also MPO, several JPEG images in a row
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",  # BigTIFF
    b"MM\0+": "TIFF",
    b"BM": "BMP",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"\xff\x4f\xff\x51": "JPEG2000",  # bare codestream
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG2000",
}
AVIF_BRANDS = {b"avif", b"avis"}
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


def format_of(start: bytes) -> str | None:
    """Pillow's name of the format that a file's first ``SIGNATURE_LENGTH`` bytes announce; None if it is not read.

    No decoder but that of this format may see the file: Pillow and OpenCV know formats that start other programs
    (PostScript) or that are too rarely used to be trusted with damaged files.
    """
    for prefix, format in PREFIXES.items():
        if start.startswith(prefix):
            return format
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WEBP"
    if start[4:8] == b"ftyp":
        brands = {start[8:12], *(start[i : i + 4] for i in range(16, 32, 4))}
        return "AVIF" if AVIF_BRANDS & brands else "HEIF" if HEIF_BRANDS & brands else None
    if start[:1] == b"P" and start[1:2] in b"123456" and start[2:3].isspace():
        return "PPM"
    return None
