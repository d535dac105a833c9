"""Plain images decode to the bits of all images, others are left alone; reduced images have their defined sizes."""

import io
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from caskit.shards.codecs import decode
from caskit.shards.plain import decode_plain, jpeg_frame, png_frame, reduced_jpeg


def picture(height: int, width: int, channels: int) -> np.ndarray:
    """Smooth colours with some noise, [H, W, C] uint8."""
    generator = np.random.default_rng(height * width)
    rows, columns = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(9 * rows * (c + 1)) + np.cos(7 * columns + c) for c in range(channels)]
    noisy = 128 + 50 * np.stack(waves, axis=-1) + generator.normal(0, 6, (height, width, channels))
    return noisy.clip(0, 255).astype(np.uint8)


def stored(height: int, width: int, channels: int, kind: str, **options: Any) -> bytes:
    pixels = picture(height, width, channels)
    buffer = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(("height", "width"), [(32, 32), (37, 50), (1, 1), (64, 9)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("options", [{"subsampling": "4:4:4"}, {"subsampling": "4:2:2"}, {"subsampling": "4:2:0"}, {}])
def test_plain_images_decode_to_the_same_bits(height: int, width: int, channels: int, options: dict[str, Any]) -> None:
    kind, extension = ("JPEG", "jpg") if options else ("PNG", "png")
    row = stored(height, width, channels, kind, **options)
    frame = jpeg_frame(row) if options else png_frame(row)
    assert frame == (height, width, channels)
    pixels = decode_plain(row, channels)
    assert pixels is not None and pixels.dtype == np.uint8
    assert np.array_equal(pixels, decode(row, extension=extension, channels=channels))
    assert decode_plain(row, 4 - channels) is None, "grey as colour and colour as grey are left to others"


def other_images() -> dict[str, bytes]:
    jpeg = stored(40, 40, 3, "JPEG")
    png = stored(40, 40, 3, "PNG")
    buffers = {name: io.BytesIO() for name in ("CMYK", "palette", "16 bits", "alpha")}
    colour = Image.fromarray(picture(40, 40, 3))
    colour.convert("CMYK").save(buffers["CMYK"], "JPEG")
    colour.convert("P").save(buffers["palette"], "PNG")
    Image.fromarray(picture(40, 40, 1)[:, :, 0].astype(np.uint16) * 257).save(buffers["16 bits"], "PNG")
    colour.convert("RGBA").save(buffers["alpha"], "PNG")
    return {
        "progressive": stored(40, 40, 3, "JPEG", progressive=True),
        "JPEG cut off": jpeg[:-30],
        "JPEG without its end": jpeg[:-2],
        "PNG cut off": png[:-20],
        "PNG with a gamma": png[:33] + bytes.fromhex("0000000467414d410000b18f0bfc6105") + png[33:],
        "bytes behind a PNG": png + b"more",
        "WebP": stored(40, 40, 3, "WEBP"),
        "nothing": b"",
        "a JPEG's first bytes": b"\xff\xd8\xff\xd9",
        "no height": jpeg.replace(b"\x08\0\x28\0\x28", b"\x08\0\0\0\x28"),
        **{name: buffer.getvalue() for name, buffer in buffers.items()},
    }


@pytest.mark.parametrize(("name", "row"), other_images().items(), ids=other_images().keys())
def test_all_other_bytes_are_left_alone(name: str, row: bytes) -> None:
    assert decode_plain(row, 3) is None
    assert reduced_jpeg(row, 3, 2) is None


def test_damage_gives_the_same_bits_or_is_left_to_be_refused() -> None:
    generator = np.random.default_rng(0)
    for row, extension in ((stored(40, 40, 3, "PNG"), "png"), (stored(40, 40, 3, "JPEG"), "jpg")):
        for _ in range(60):
            damaged = bytearray(row)
            for place in generator.integers(20, len(row), 3).tolist():
                damaged[place] = int(generator.integers(256))
            pixels = decode_plain(bytes(damaged), 3)
            if pixels is not None:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    assert np.array_equal(pixels, decode(bytes(damaged), extension=extension, channels=3))


def test_pixels_in_several_chunks() -> None:
    row = stored(40, 40, 3, "PNG")
    size = int.from_bytes(row[33:37], "big")
    assert row[37:41] == b"IDAT" and size > 100
    parts = [row[41:91], row[91 : 41 + size]]
    chunks = [b"IDAT" + part for part in parts]
    packed = b"".join(
        (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") for chunk in chunks
    )
    pixels = decode_plain(row[:33] + packed + row[45 + size :], 3)
    assert pixels is not None and np.array_equal(pixels, decode(row, extension="png", channels=3))


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize(("height", "width"), [(64, 48), (61, 47), (9, 200)])
def test_a_reduced_image_is_near_the_mean_of_its_pixels(scale: int, height: int, width: int) -> None:
    row = stored(height, width, 3, "JPEG", subsampling="4:4:4", quality=95)
    pixels = reduced_jpeg(row, 3, scale)
    assert pixels is not None and pixels.shape == (-(-height // scale), -(-width // scale), 3)
    full = decode(row, extension="jpg", channels=3).astype(float)
    rows, columns = height // scale, width // scale
    means = full[: rows * scale, : columns * scale].reshape(rows, scale, columns, scale, 3).mean(axis=(1, 3))
    assert np.abs(pixels[:rows, :columns] - means).mean() < 3
