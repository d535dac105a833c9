"""The contact sheet: images of a set side by side in one PNG."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def contact_sheet(
    images: Sequence[np.ndarray], *, columns: int, tile: int | None = None, gap: int | None = None
) -> bytes:
    """Lay images out in rows, in the order given, and return them as one PNG.

    Images larger than a tile are reduced to fit into it, smaller ones are put into its middle unchanged. Gaps and
    whatever a row leaves free are transparent, so the sheet suits a page of any colour.

    Args:
        images: one or more arrays [H, W] or [H, W, C] uint8, C of 1, 3 or 4; sizes may differ.
        columns: images in a row.
        tile: side of a tile in pixels; the largest side of the images if None.
        gap: pixels between two tiles; if None one, or more for large tiles.

    Raises:
        ValueError: no image, or one of another type or shape.
    """
    if not images or columns < 1:
        raise ValueError(f"a contact sheet needs images and columns, got {len(images)} images and {columns} columns")
    pictures = [_picture(image) for image in images]
    side = tile or max(max(picture.size) for picture in pictures)
    space = max(1, side // 24) if gap is None else gap
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    size = (columns * (side + space) - space, rows * (side + space) - space)
    grey = all(picture.mode == "L" for picture in pictures)
    sheet = Image.new("LA" if grey else "RGBA", size)
    for index, picture in enumerate(pictures):
        if max(picture.size) > side:
            picture.thumbnail((side, side), Image.Resampling.LANCZOS)
        row, column = divmod(index, columns)
        left = column * (side + space) + (side - picture.width) // 2
        top = row * (side + space) + (side - picture.height) // 2
        sheet.paste(picture.convert(sheet.mode), (left, top))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _picture(image: np.ndarray) -> Image.Image:
    array = image[:, :, np.newaxis] if image.ndim == 2 else image
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in _MODES or 0 in array.shape:
        raise ValueError(f"image is {image.dtype} {image.shape}, a contact sheet takes uint8 [H, W] or [H, W, 1|3|4]")
    mode = _MODES[array.shape[2]]
    pixels = np.ascontiguousarray(array[:, :, 0] if mode == "L" else array)
    return Image.frombytes(mode, (array.shape[1], array.shape[0]), pixels.tobytes())
