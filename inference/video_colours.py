"""Convert video frames to RGB and back, exactly as their colour description says.

libswscale is used only where no value changes: to sort the bytes of packed formats into planes. Its conversions to RGB
and back do not agree with each other: in full range they shift the mean by up to 0.5 of 255.
"""

import av
import numpy as np

# Weights of red and blue in luma for each matrix; ITU-T H.273, table 4. The keys are its matrix coefficients.
LUMA_WEIGHTS = {
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.601, 625 lines
    6: (0.299, 0.114),  # BT.601, 525 lines
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020
    10: (0.2627, 0.0593),  # BT.2020, constant luminance
}
# Rows and columns of chroma for 4 x 4 pixels.
CHROMA_LAYOUTS = {(2, 2): "420", (4, 2): "422", (4, 4): "444", (4, 1): "411", (2, 4): "440", (1, 1): "410"}
UNSPECIFIED = 2
LIMITED, FULL = 1, 2

Planes = tuple[np.ndarray, np.ndarray, np.ndarray]


def guessed_matrix(height: int, width: int) -> int:
    """The matrix that players assume if a video names none: BT.709 for high definition, else BT.601."""
    return 1 if width >= 1280 or height > 576 else 6


def even(height: int, width: int) -> bool:
    """Whether chroma can have half the size of luma."""
    return height % 2 == 0 and width % 2 == 0


def has_luma(pixel_format: av.VideoFormat) -> bool:
    """Whether the format stores luma, with or without chroma, rather than RGB, a palette or XYZ."""
    return not (pixel_format.is_rgb or pixel_format.has_palette or pixel_format.name.startswith("xyz"))


def read_planes(frame: av.VideoFrame) -> list[np.ndarray]:
    """The planes of a planar frame, without padding: uint8, or uint16 for more than 8 bits."""
    planes = []
    for component in frame.format.components[:3]:
        plane = frame.planes[component.plane]
        dtype = np.uint8 if component.bits <= 8 else np.dtype("<u2")
        rows = np.frombuffer(plane, dtype).reshape(-1, plane.line_size // np.dtype(dtype).itemsize)
        planes.append(rows[: component.height, : component.width])
    return planes


def build_frame(planes: Planes, pixel_format: str) -> av.VideoFrame:
    """A frame of a planar format with the given planes."""
    frame = av.VideoFrame(planes[0].shape[1], planes[0].shape[0], pixel_format)
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.frombuffer(plane, values.dtype).reshape(-1, plane.line_size // values.itemsize)
        rows[: values.shape[0], : values.shape[1]] = values
    return frame


def frame_to_rgb(frame: av.VideoFrame, matrix: int, full_range: bool) -> np.ndarray:
    """RGB, float32 (H, W, 3) in [0, 1]; if the sides are even, each chroma sample counts for all pixels that share it.

    Args:
        frame: of any pixel format; RGB is not converted, and alpha is dropped.
        matrix: a key of LUMA_WEIGHTS.
        full_range: whether black and white are 0 and 255 (of 8 bits) rather than 16 and 235.
    """
    bits = max(component.bits for component in frame.format.components)
    if not has_luma(frame.format):
        packed = frame.reformat(format="rgb24" if bits <= 8 else "rgb48le").to_ndarray()
        return packed.astype(np.float32) / np.float32(np.iinfo(packed.dtype).max)
    planar = _planar_format(frame, bits)
    if planar != frame.format.name:
        frame = frame.reformat(format=planar)
    luma, *chroma = read_planes(frame)
    height, width = luma.shape
    y = _normalised(luma, bits, full_range, is_luma=True)
    if not chroma:
        return np.repeat(y[..., None], 3, axis=2).clip(0, 1)
    u, v = (_enlarged(_normalised(plane, bits, full_range, is_luma=False), height, width) for plane in chroma)
    red, blue = LUMA_WEIGHTS[matrix]
    green = 1 - red - blue
    rgb = np.empty((height, width, 3), np.float32)
    rgb[..., 0] = y + 2 * (1 - red) * v
    rgb[..., 2] = y + 2 * (1 - blue) * u
    rgb[..., 1] = (y - red * rgb[..., 0] - blue * rgb[..., 2]) / green
    return rgb.clip(0, 1, out=rgb)


def rgb_to_planes(rgb: np.ndarray, matrix: int, full_range: bool, bits: int, subsampled: bool) -> Planes:
    """The inverse of ``frame_to_rgb``, for 4:2:0 (``subsampled``, sides even) or 4:4:4.

    Args:
        rgb: (H, W, 3) in [0, 1].
        bits: 8 gives uint8, more gives uint16.
    """
    red, blue = LUMA_WEIGHTS[matrix]
    r, g, b = (rgb[..., channel].astype(np.float32, copy=False) for channel in range(3))
    y = red * r + (1 - red - blue) * g + blue * b
    u, v = (b - y) / (2 * (1 - blue)), (r - y) / (2 * (1 - red))
    if subsampled:
        u, v = (_halved(plane) for plane in (u, v))
    largest = 2**bits - 1
    luma_scale, luma_offset, chroma_scale = _scales(bits, full_range)
    values = (y * luma_scale + luma_offset, *(c * chroma_scale + 2 ** (bits - 1) for c in (u, v)))
    dtype = np.uint8 if bits == 8 else np.dtype("<u2")
    return tuple(np.rint(value).clip(0, largest).astype(dtype) for value in values)


def _scales(bits: int, full_range: bool) -> tuple[float, float, float]:
    """Scale and offset of luma, and scale of chroma; ITU-T H.273, equations 20 to 28."""
    if full_range:
        return 2**bits - 1, 0, 2**bits - 1
    step = 2 ** (bits - 8)
    return 219 * step, 16 * step, 224 * step


def _normalised(plane: np.ndarray, bits: int, full_range: bool, is_luma: bool) -> np.ndarray:
    """Luma in [0, 1] or chroma in [-0.5, 0.5], but for what exceeds the nominal range."""
    luma_scale, luma_offset, chroma_scale = _scales(bits, full_range)
    scale, offset = (luma_scale, luma_offset) if is_luma else (chroma_scale, 2 ** (bits - 1))
    return (plane.astype(np.float32) - np.float32(offset)) / np.float32(scale)


def _enlarged(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """Chroma in the size of luma, by repetition: ``_halved`` is then its exact inverse."""
    rows, columns = -(-height // plane.shape[0]), -(-width // plane.shape[1])
    return plane.repeat(rows, 0).repeat(columns, 1)[:height, :width]


def _halved(plane: np.ndarray) -> np.ndarray:
    return (plane[::2, ::2] + plane[1::2, ::2] + plane[::2, 1::2] + plane[1::2, 1::2]) / 4


def _planar_format(frame: av.VideoFrame, bits: int) -> str:
    """The planar format that stores the same samples, without alpha; 4:4:4, interpolated, for odd sides."""
    depth = "" if bits <= 8 else f"{bits}le"
    if len(frame.format.components) < 3:
        return f"gray{depth}"
    layout = CHROMA_LAYOUTS[frame.format.chroma_height(4), frame.format.chroma_width(4)]
    return f"yuv{layout if even(frame.height, frame.width) else '444'}p{depth}"
