import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from caskit.manifests.codec import Codec
from caskit.manifests.errors import InputError
from caskit.shards.codecs import UndecodableImage, decode, encode

RNG = np.random.default_rng(0)


def pixels(channels: int, height: int = 7, width: int = 11) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(
    "codec",
    [
        *(Codec.of("png", {"strategy": s}) for s in ("default", "filtered", "huffman", "rle", "fixed")),
        Codec.of("png", {"compress_level": 0}),
        Codec.of("png", {"compress_level": 9}),
        Codec.of("webp"),
        Codec.of("webp", {"method": 6, "quality": 100}),
    ],
)
def test_lossless_codecs_give_the_pixels_back(codec: Codec, channels: int) -> None:
    image = pixels(channels)
    data = encode(image, codec)
    assert data == encode(np.asfortranarray(image), codec)
    back = decode(data, extension=codec.extension, channels=channels)
    assert back.dtype == np.uint8 and back.flags.writeable
    np.testing.assert_array_equal(back, image)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("codec", [Codec.of("jpeg"), Codec.of("webp", {"lossless": False, "quality": 90})])
def test_lossy_codecs_come_close(codec: Codec, channels: int) -> None:
    ramp = np.linspace(0, 255, 32 * 32, dtype=np.uint8).reshape(32, 32, 1).repeat(channels, axis=2)
    back = decode(encode(ramp, codec), extension=codec.extension, channels=channels)
    assert back.shape == ramp.shape
    assert np.abs(back.astype(int) - ramp).max() <= 8


def test_settings_reach_the_encoder() -> None:
    image = pixels(3, 64, 64)
    for name, setting, low, high in (("jpeg", "quality", 10, 95), ("webp", "quality", 5, 95)):
        more = {"lossless": False} if name == "webp" else {}
        small, large = (len(encode(image, Codec.of(name, {setting: value, **more}))) for value in (low, high))
        assert small < large
    subsampled = [len(encode(image, Codec.of("jpeg", {"subsampling": s}))) for s in ("4:4:4", "4:2:2", "4:2:0")]
    assert subsampled == sorted(subsampled, reverse=True)
    flat = np.zeros((64, 64, 1), dtype=np.uint8)
    assert len(encode(flat, Codec.of("png"))) < len(encode(flat, Codec.of("png", {"compress_level": 0})))


def test_a_png_holds_nothing_but_pixels() -> None:
    data, chunks, place = encode(pixels(1), Codec.of("png")), [], 8
    while place < len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        chunks.append(kind)
        place += 12 + length
    assert chunks == [b"IHDR", b"IDAT", b"IEND"]


@pytest.mark.parametrize(
    ("codec", "image"),
    [
        ("png", pixels(1)[:, :, 0]),
        ("png", pixels(2)),
        ("jpeg", pixels(4)),
        ("png", pixels(1).astype(np.float32)),
        ("webp", pixels(1)[None]),
    ],
)
def test_other_arrays_are_refused(codec: str, image: np.ndarray) -> None:
    with pytest.raises(InputError, match=rf"codec {codec} stores uint8 \[H, W, C\] with C in"):
        encode(image, Codec.of(codec))


def file_of(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("mode", "kind", "own"),
    [("L", "PNG", 1), ("1", "PNG", 1), ("P", "PNG", 3), ("RGBA", "PNG", 4), ("LA", "PNG", 4), ("CMYK", "JPEG", 3)],
)
def test_channels_follow_the_image_or_the_caller(mode: str, kind: str, own: int) -> None:
    data = file_of(Image.new("RGB", (3, 2), (200, 30, 60)).convert(mode), kind)
    extension = {"PNG": "png", "JPEG": "jpg"}[kind]
    assert decode(data, extension=extension).shape == (2, 3, own)
    for channels in (1, 3, 4):
        assert decode(data, extension=extension, channels=channels).shape == (2, 3, channels)


def png_of(width: int, height: int) -> bytes:
    """A PNG that claims a size and has no pixels."""
    header = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(("width", "height"), [(2**13, 2**13 + 1), (10**4, 10**4), (10**5, 10**5), (2**31 - 1, 1)])
def test_a_size_beyond_the_limit_is_refused_before_decoding(width: int, height: int) -> None:
    with pytest.raises(UndecodableImage, match="pixels"):
        decode(png_of(width, height), extension="png")


def test_the_limit_can_be_set() -> None:
    data = encode(pixels(1, 10, 10), Codec.of("png"))
    assert decode(data, extension="png", max_pixels=100).shape == (10, 10, 1)
    with pytest.raises(UndecodableImage, match="10x10 pixels, at most 99 are decoded"):
        decode(data, extension="png", max_pixels=99)


@pytest.mark.parametrize("codec", ["png", "jpeg", "webp"])
def test_every_cut_image_is_refused(codec: str) -> None:
    data = encode(pixels(3, 16, 16), Codec.of(codec))
    extension = Codec.of(codec).extension
    for size in {*range(0, len(data) - 16, 37), len(data) // 2}:
        with pytest.raises(UndecodableImage, match=f"no readable {extension}: ") as error:
            decode(data[:size], extension=extension)
        assert "0x" not in str(error.value) and "\n" not in str(error.value)


def test_bytes_of_another_format_are_refused() -> None:
    files = {
        "png": file_of(Image.new("L", (2, 2)), "PNG"),
        "jpg": file_of(Image.new("L", (2, 2)), "JPEG"),
        "webp": file_of(Image.new("RGB", (2, 2)), "WEBP"),
        "gif": file_of(Image.new("L", (2, 2)), "GIF"),
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 2 2\n",
    }
    for stored in ("png", "jpg", "webp"):
        for name, data in files.items():
            if name != stored:
                with pytest.raises(UndecodableImage, match=f"no readable {stored}: not of this format"):
                    decode(data, extension=stored)


def test_deeper_pixels_are_not_clipped_silently() -> None:
    deep = Image.fromarray(np.array([[0, 300, 65535]], dtype=np.uint16))
    with pytest.raises(UndecodableImage, match="pixel mode I;16, allowed: "):
        decode(file_of(deep, "PNG"), extension="png")
