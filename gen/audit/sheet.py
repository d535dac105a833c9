"""The contact sheet of an audit: each stored image beside the one decoded or drawn again, and where they differ."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from caskit.gen.audit.report import Pair

COLUMNS = 3  # of triples
MIN_SIDE = 96  # smaller images are enlarged by a whole number, without smoothing
GAP, TEXT_HEIGHT = 6, 14
_PAPER, _INK, _FAULT = (255, 255, 255), (40, 40, 40), (200, 0, 0)
_NAMES = ("stored", "again", "x 10")


def audit_sheet(pairs: Sequence[Pair]) -> bytes:
    """Return a PNG of triples: stored, made again, and ten times their absolute difference; faults are framed.

    Args:
        pairs: at least one, images of one size.
    """
    assert pairs, "a sheet needs images"
    height, width = pairs[0].stored.shape[:2]
    scale = max(1, -(-MIN_SIDE // max(height, width)))
    columns = min(COLUMNS, len(pairs))
    cell = (3 * width * scale + 2 * GAP, TEXT_HEIGHT + height * scale)
    rows = -(-len(pairs) // columns)
    size = (columns * (cell[0] + 3 * GAP) + GAP, rows * (cell[1] + 2 * GAP) + TEXT_HEIGHT + 2 * GAP)
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    for column in range(columns):
        for place, name in enumerate(_NAMES):
            left = 2 * GAP + column * (cell[0] + 3 * GAP) + place * (width * scale + GAP)
            draw.text((left, GAP), name, fill=_INK)
    for index, pair in enumerate(pairs):
        row, column = divmod(index, columns)
        left = 2 * GAP + column * (cell[0] + 3 * GAP)
        top = TEXT_HEIGHT + 2 * GAP + row * (cell[1] + 2 * GAP)
        _draw_pair(sheet, draw, pair, left, top, scale)
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _draw_pair(sheet: Image.Image, draw: ImageDraw.ImageDraw, pair: Pair, left: int, top: int, scale: int) -> None:
    colour = _FAULT if pair.failed else _INK
    draw.text((left, top), pair.key + ("  fault" if pair.failed else ""), fill=colour)
    difference = np.abs(pair.stored.astype(np.int64) - pair.again.astype(np.int64))
    enlarged = np.minimum(10 * difference, 255).astype(np.uint8)
    for place, pixels in enumerate((pair.stored, pair.again, enlarged)):
        picture = _picture(pixels, scale)
        x, y = left + place * (picture.width + GAP), top + TEXT_HEIGHT
        sheet.paste(picture, (x, y))
        if pair.failed:
            draw.rectangle((x - 2, y - 2, x + picture.width + 1, y + picture.height + 1), outline=_FAULT, width=2)


def _picture(pixels: np.ndarray, scale: int) -> Image.Image:
    grey = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels[:, :, :3]
    enlarged = np.ascontiguousarray(grey.repeat(scale, axis=0).repeat(scale, axis=1))
    return Image.fromarray(enlarged).convert("RGB")
