"""Pixels to stored image bytes and back. manifests/codec.py says which codecs and settings there are."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from caskit.manifests.codec import Codec
from caskit.manifests.errors import InputError

MAX_PIXELS = 2**26  # 64 million, checked before anything is decoded
_FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}
_CHANNELS = {"png": (1, 3, 4), "jpeg": (1, 3), "webp": (1, 3, 4)}
# What Pillow raises for bytes that are no image, by fuzzing and by its code.
BROKEN_IMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
)
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
# Modes that Pillow turns into 8 bits per channel without clipping values.
_READABLE = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
_STRATEGIES = {"default": 0, "filtered": 1, "huffman": 2, "rle": 3, "fixed": 4}  # zlib's numbers


class UndecodableImage(ValueError):
    """Bytes that are no image of the stated format, are damaged, or are larger than allowed."""


def encode(pixels: np.ndarray, codec: Codec) -> bytes:
    """Encode one image; the same pixels and settings give the same bytes with the same versions of the encoders.

    Args:
        pixels: [H, W, C] uint8, C is 1, 3, or 4 with png and webp. WebP has no grey: it is stored as RGB.
        codec: name and settings.

    Raises:
        InputError: pixels of another shape or type.
    """
    if pixels.ndim != 3 or pixels.dtype != np.uint8 or pixels.shape[2] not in _CHANNELS[codec.name]:
        raise InputError(
            f"codec {codec.name} stores uint8 [H, W, C] with C in {_CHANNELS[codec.name]}, "
            f"not {pixels.dtype} {list(pixels.shape)}"
        )
    channels = pixels.shape[2]
    image = Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if channels == 1 else pixels))
    buffer = io.BytesIO()
    image.save(buffer, **_options(codec))
    return buffer.getvalue()


def _options(codec: Codec) -> dict[str, Any]:
    settings = codec.settings
    if codec.name == "png":
        strategy = _STRATEGIES[str(settings["strategy"])]
        return {"format": "PNG", "compress_level": settings["compress_level"], "compress_type": strategy}
    if codec.name == "jpeg":
        return {"format": "JPEG", "quality": settings["quality"], "subsampling": settings["subsampling"]}
    return {
        "format": "WEBP",
        "lossless": settings["lossless"],
        "quality": settings["quality"],
        "method": settings["method"],
        "exact": True,  # keeps the colours of fully transparent pixels
    }


def decode(data: bytes, *, extension: str, channels: int | None = None, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode one stored image; orientation tags and colour profiles are not applied.

    Args:
        data: the stored bytes.
        extension: png, jpg or webp; bytes of another format are refused.
        channels: 1, 3 or 4 converts to that many; None takes the image's own (a palette or CMYK becomes RGB).
        max_pixels: larger images are refused before they are decoded.

    Returns:
        [H, W, C] uint8, writable.

    Raises:
        UndecodableImage: see there.
    """
    assert channels is None or channels in _MODES, f"channels is {channels}"
    try:
        with Image.open(io.BytesIO(without_exif(data)), formats=[_FORMATS[extension]]) as image:
            if image.width * image.height > max_pixels:
                raise UndecodableImage(f"{image.width}x{image.height} pixels, at most {max_pixels} are decoded")
            if image.mode not in _READABLE:
                raise UndecodableImage(f"pixel mode {image.mode}, allowed: {', '.join(_READABLE)}")
            mode = _own_mode(image) if channels is None else _MODES[channels]
            pixels = np.array(image if image.mode == mode else image.convert(mode))
    except UndecodableImage:
        raise
    except Image.DecompressionBombError as error:
        raise UndecodableImage(f"more than {max_pixels} pixels") from error
    except (*BROKEN_IMAGE, Image.DecompressionBombWarning) as error:
        # Pillow's "cannot identify" prints the buffer's address, which helps nobody.
        reason = "not of this format" if isinstance(error, UnidentifiedImageError) else str(error)
        raise UndecodableImage(f"no readable {extension}: {reason}") from error
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def without_exif(data: bytes) -> bytes:
    """Return a JPEG without its EXIF blocks; other bytes as they are.

    Nothing of EXIF is applied, and Pillow warns of damaged ones, which some images of ImageNet have.
    """
    if not data.startswith(b"\xff\xd8"):
        return data
    place, start, parts = 2, 0, list[bytes]()
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        if marker == 0xDA or 0xD0 <= marker <= 0xD9:  # the image begins, or this is damage
            break
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if marker == 0xE1 and data[place + 4 : place + 10] == b"Exif\0\0":
            parts.append(data[start:place])
            start = end
        place = end
    return b"".join((*parts, data[start:])) if parts else data


def fits(pixels: np.ndarray, channels: int) -> bool:
    """Say whether decoded pixels [H, W, C] uint8 lose nothing when they are read with that many channels."""
    own = pixels.shape[2]
    if own == channels:
        return True
    return (own, channels) == (1, 3) or (
        (own, channels) == (3, 1)
        and bool((pixels[:, :, 0] == pixels[:, :, 1]).all() and (pixels[:, :, 1] == pixels[:, :, 2]).all())
    )


def _own_mode(image: Image.Image) -> str:
    if image.mode in ("1", "L"):
        return "L"
    has_alpha = image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info
    return "RGBA" if has_alpha else "RGB"
