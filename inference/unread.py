"""Images and videos that restore.py does not read: what to do about each."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from data.decoding import heif

NAMED = 10  # files of one kind that are named


def _kinds(suffixes: str, advice: str) -> dict[str, str]:
    return {f".{suffix}": advice for suffix in suffixes.split()}


# Suffix in lower case -> what to do.
ADVICE = {
    **_kinds(
        "3fr arw cr2 cr3 crw dcr dng erf fff iiq kdc mef mos mrw nef nrw orf pef raf raw rw2 rwl sr2 srf srw x3f",
        "raw data of a camera; develop it to .tif or .png, for example with darktable or RawTherapee",
    ),
    **dict.fromkeys(heif.SUFFIXES, heif.NOT_INSTALLED),
    **_kinds("psd psb xcf kra afphoto", "a project of an image editor; export it as .tif or .png"),
    **_kinds("eps ps ai pdf svg svgz wmf emf djvu", "a page or a drawing; export it as .png"),
    **_kinds("jxl", "JPEG XL; convert it to .png (djxl IN.jxl OUT.png)"),
    **_kinds("exr hdr pfm", "floating-point values; convert it to .tif or .png of 16 bits"),
    **_kinds("jfif jfi jif jpe", "JPEG under another name; rename it to .jpg"),
    **_kinds("j2k j2c jpc jpf jpx", "JPEG 2000 under another name; rename it to .jp2"),
    **_kinds("apng", "PNG under another name; rename it to .png"),
    **_kinds("dib", "BMP under another name; rename it to .bmp"),
    **_kinds("bpg cur dcm dds fit fits ico jxr pcx qoi ras sgi tga wbmp wdp xbm xpm", "convert it to .png"),
    **_kinds("3g2 3gp asf divx dv f4v flv m2v mxf ogm ogv rm rmvb vob wmv y4m", "convert it to .mp4"),
}


def advice_on(path: Path) -> str | None:
    """What to do about an image or video of a kind that is not read; None for any other file."""
    return ADVICE.get(path.suffix.lower())


def lines_about(paths: Iterable[Path]) -> Iterator[str]:
    """A line on each file, on ``NAMED`` of each kind at most, and how many more there are."""
    kinds: dict[str, list[Path]] = {}
    for path in paths:
        kinds.setdefault(ADVICE[path.suffix.lower()], []).append(path)
    for advice, files in kinds.items():
        yield from (f"{path}: not read: {advice}" for path in files[:NAMED])
        if more := files[NAMED:]:
            suffixes = ", ".join(sorted({path.suffix.lower() for path in more}))
            yield f"{len(more)} more file(s) not read ({suffixes}): {advice}"
