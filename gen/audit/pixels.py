"""Compares a stored image with the one that was decoded or drawn again."""

import numpy as np

from caskit.gen.audit.config import is_lossy
from caskit.gen.audit.evidence import Item
from caskit.gen.audit.report import Findings
from caskit.manifests.codec import Codec
from caskit.shards.codecs import decode, encode


def compare_pixels(
    item: Item,
    again: np.ndarray,
    codec: Codec,
    tolerance: int,
    findings: Findings,
    made_by: str,
    *,
    at_fault: bool = False,
) -> bool:
    """Note a stored image whose pixels are not those made again, up to a tolerance; says whether they are.

    Args:
        item: as stored.
        again: [H, W, C] uint8; a lossy codec is applied to it before it is compared.
        codec: of the plan.
        tolerance: in grey levels.
        findings: gets a failure, and the two images.
        made_by: how the failure's message begins.
        at_fault: whether something else is wrong with the sample, so that the contact sheet marks it.
    """
    if is_lossy(codec):
        again = decode(encode(again, codec), extension=codec.extension, channels=again.shape[2])
    differences = np.abs(item.pixels.astype(np.int64) - again.astype(np.int64)).max(axis=2)
    largest, wrong = int(differences.max()), differences > tolerance
    failed = bool(wrong.any())
    findings.pixels(item.key, failed or at_fault, item.pixels, again, largest)
    findings.count(images=1, images_equal=int(largest == 0))
    if failed:
        row, column = (int(place) for place in np.argwhere(wrong)[0])
        count = int(wrong.sum())
        where = f"{count} of {wrong.size} pixels differ, first row {row}, column {column}"
        findings.fail(
            kind="pixels",
            key=item.key,
            row=row,
            column=column,
            pixel_difference=largest,
            count=count,
            message=f"{made_by} another image than is stored: {where}, by up to {largest}, allowed {tolerance}",
        )
    return not failed
