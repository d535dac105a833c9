"""Plain JPEGs and PNGs to pixels by Pillow's decoders alone, without opening a file around them.

The same bits as `codecs.decode` in less time; what is not plain, or damaged, is left to it. Torchvision's decoders are
faster still, and crash on a damaged PNG: they are not for sets that others made.
"""

import io
import zlib

import numpy as np
from PIL import Image

from caskit.shards.codecs import BROKEN_IMAGE, MAX_PIXELS, without_exif

SCALES = (8, 4, 2)
_MODES = {1: "L", 3: "RGB"}
_SAMPLINGS = (b"\x11", b"\x21", b"\x22")  # of luminance: chroma of full size, half width, or half both
_PNG_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_PNG_CHANNELS = {b"\x08\0\0\0\0": 1, b"\x08\x02\0\0\0": 3}  # depth, colour type, three zeros


def jpeg_frame(row: bytes) -> tuple[int, int, int] | None:
    """Return height, width and components of a sequential 8-bit JPEG, grey or of a usual subsampling; else None.

    Bytes that do not end as a JPEG ends are None too: Pillow refuses an image that is cut off, others fill it up.
    """
    if not row.startswith(b"\xff\xd8\xff") or not row.endswith(b"\xff\xd9"):
        return None
    place = 2
    while row[place : place + 1] == b"\xff" and place + 4 <= len(row):
        marker = row[place + 1]
        if marker in (0xC0, 0xC1):
            frame = row[place + 4 : place + 19]
            height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
            if len(frame) < 15 or frame[0] != 8 or not 0 < height * width <= MAX_PIXELS:
                return None
            if frame[5] == 1:
                return height, width, 1
            usual = frame[5] == 3 and frame[7:8] in _SAMPLINGS and frame[10] == frame[13] == 0x11
            return (height, width, 3) if usual else None
        if marker == 0xFF or marker == 0xDA or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            return None
        place += 2 + int.from_bytes(row[place + 2 : place + 4], "big")
    return None


def png_frame(row: bytes) -> tuple[int, int, int] | None:
    """Return height, width and channels of a grey or RGB PNG of 8 bits, not interlaced, of nothing but pixels."""
    if not row.startswith(_PNG_START):
        return None
    place, size = 33, len(row)
    while place + 12 <= size and row[place + 4 : place + 8] == b"IDAT":
        place += 12 + int.from_bytes(row[place : place + 4], "big")
    if place + 12 != size or row[place + 4 : place + 8] != b"IEND":
        return None
    if zlib.crc32(row[12:29]).to_bytes(4, "big") != row[29:33]:
        return None
    width, height = int.from_bytes(row[16:20], "big"), int.from_bytes(row[20:24], "big")
    channels = _PNG_CHANNELS.get(row[24:29])
    return None if channels is None or not 0 < height * width <= MAX_PIXELS else (height, width, channels)


def _png_pixels(row: bytes) -> bytes:
    """Return the compressed pixels of a PNG that has a frame: what its IDAT chunks hold."""
    place, parts = 33, []
    while row[place + 4 : place + 8] == b"IDAT":
        end = place + 8 + int.from_bytes(row[place : place + 4], "big")
        parts.append(row[place + 8 : end])
        place = end + 4
    return parts[0] if len(parts) == 1 else b"".join(parts)


def decode_plain(row: bytes, channels: int) -> np.ndarray | None:
    """Decode a plain image of so many channels, [H, W, C] uint8, read-only; None if it is no such image."""
    jpeg = row.startswith(b"\xff\xd8")
    frame = jpeg_frame(row) if jpeg else png_frame(row)
    if frame is None or frame[2] != channels:
        return None
    height, width, _ = frame
    mode = _MODES[channels]
    try:
        if jpeg:
            image = Image.frombytes(mode, (width, height), row, "jpeg", mode, "")
        else:
            image = Image.frombytes(mode, (width, height), _png_pixels(row), "zip", mode, 0)
    except BROKEN_IMAGE:
        return None  # opened as a file it is refused, with the reason
    return np.asarray(image).reshape(height, width, channels)


def reduced_jpeg(row: bytes, channels: int, scale: int) -> np.ndarray | None:
    """Decode a plain JPEG at 1/scale of its size, [ceil(H / scale), ceil(W / scale), C] uint8; None for other images.

    libjpeg's scaled inverse DCT, scale 2, 4 or 8, through Pillow's `draft`: other pixels than those of a full image
    made smaller, so a recipe says whether it is used.
    """
    assert scale in SCALES, f"scale is {scale}"
    frame = jpeg_frame(row)
    if frame is None or frame[2] != channels:
        return None
    height, width, _ = frame
    try:
        with Image.open(io.BytesIO(without_exif(row)), formats=["JPEG"]) as image:
            image.draft(None, (max(1, width // scale), max(1, height // scale)))
            pixels = np.asarray(image)
    except BROKEN_IMAGE:
        return None  # decoded in full it is refused
    if pixels.shape[:2] != (-(-height // scale), -(-width // scale)):
        return None
    return pixels.reshape(*pixels.shape[:2], channels)
