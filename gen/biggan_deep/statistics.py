"""Whose batch-norm statistics images are drawn with.

The published weights carry a table of them for truncations 0, 0.02, ..., 1. Weights that were fitted here, or whose
statistics were computed again (`caskit derive`), carry one set, which stands for one law of z. What a checkpoint has
is `statistics` in its config: `{"kind": "table", "num"}`, or `{"kind": "standing", ...}` with `z_scale` and `z_mode`,
or with `"z_law": "normal"`, the normal without bounds that fits are trained with.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from caskit.gen.adversarial.norm import Norm
from caskit.gen.biggan_deep.config import Settings
from caskit.gen.biggan_deep.network import Generator
from caskit.manifests.errors import InputError

TABLE = "table"
NORMAL = "normal"  # the z_law of a fit
_EXACT = 1e-9  # a truncation this close to an entry is that entry: 0.58 * 50 is 28.999999999999996

Rows = tuple[tuple[int, float], ...]  # entries of a table and their weights


def statistics_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a checkpoint's config says of its statistics. Raises InputError for anything of another form."""
    value = config.get("statistics")
    if isinstance(value, dict) and value.get("kind") == TABLE:
        num = value.get("num")
        if type(num) is int and 2 <= num <= 10_000:
            return value
    elif isinstance(value, dict) and isinstance(value.get("kind"), str):
        if value.get("z_law") != NORMAL:
            Settings(z_scale=value.get("z_scale", 0.0), z_mode=value.get("z_mode", ""))
        return value
    raise InputError(f"config: statistics are {value!r}, must be a table's number of entries or a law of z")


def num_statistics(statistics: Mapping[str, Any]) -> int:
    """Return how many rows the norms' tables have."""
    return int(statistics["num"]) if statistics["kind"] == TABLE else 1


def table_rows(num: int, truncation: float, interpolation: str) -> Rows:
    """Return which entries of a table are mixed, and with which weights.

    `corrected` is linear in the truncation. `as-published` is what pytorch-pretrained-BigGAN 0.1.1 computes
    (`BigGANBatchNorm.forward`): the lower entry gets the weight of the upper one and the other way round. Halfway they
    agree, and so they do on most entries. But its division misses five of the 51: 0.58 and 0.94 come out a little below
    29 and 47, and get their lower neighbour, 0.56 and 0.92; 0.14, 0.28 and 0.56 come out a little above, and get the
    upper one.

    Args:
        num: entries, for truncations 0 to 1 at equal distances.
        truncation: 0 to 1.
        interpolation: see Settings.
    """
    if interpolation == "as-published":
        fraction, whole = math.modf(truncation / (1.0 / (num - 1)))
        lower = int(whole)
        return ((lower, 1.0),) if fraction == 0.0 else ((lower, fraction), (min(lower + 1, num - 1), 1 - fraction))
    place = truncation * (num - 1)
    if abs(place - round(place)) < _EXACT:
        return ((round(place), 1.0),)
    lower = math.floor(place)
    return ((lower, 1 - (place - lower)), (lower + 1, place - lower))


def chosen_rows(statistics: Mapping[str, Any], settings: Settings) -> Rows:
    """Return the rows that settings ask for. Raises InputError for `bn_truncation` where there is one row only."""
    if statistics["kind"] != TABLE:
        if settings.bn_truncation is not None:
            raise InputError(
                f"bn_truncation is {settings.bn_truncation}, this checkpoint has no table of statistics but one set, "
                f"for {_own_law(statistics)}; use none"
            )
        return ((0, 1.0),)
    return table_rows(num_statistics(statistics), chosen_truncation(settings), settings.bn_interpolation)


def chosen_truncation(settings: Settings) -> float:
    """Return at which truncation a table is read: there is none above 1."""
    return min(settings.z_scale, 1.0) if settings.bn_truncation is None else settings.bn_truncation


def choose_statistics(generator: Generator, statistics: Mapping[str, Any], settings: Settings) -> None:
    """Leave every norm of a generator only the one row of statistics that settings ask for."""
    rows = chosen_rows(statistics, settings)
    for norm in generator.modules():
        if isinstance(norm, Norm):
            norm.means, norm.variances, norm.row = _mix(norm.means, rows), _mix(norm.variances, rows), 0


def _mix(table: Tensor, rows: Rows) -> Tensor:
    """Return [1, C] of a table [S, C]."""
    with torch.no_grad():
        mixed = table[rows[0][0]] * rows[0][1]
        for row, weight in rows[1:]:
            mixed = mixed + table[row] * weight
    return mixed[None]


def describe_statistics(statistics: Mapping[str, Any], settings: Settings) -> str:
    """Say in one sentence what the statistics are and how they go with the law of z.

    Raises:
        InputError: settings that these statistics do not allow.
    """
    rows = chosen_rows(statistics, settings)
    law = _law_text(settings.z_scale, settings.z_mode)
    if statistics["kind"] != TABLE:
        own = _own_law(statistics)
        text = f"one set ({statistics['kind']}), for {own}"
        return f"batch-norm statistics: {text}" + ("" if own == law else f"; z is drawn with {law}, another law")
    truncation = chosen_truncation(settings)
    step = num_statistics(statistics) - 1
    mixed = " and ".join(f"{row / step:g}" for row, weight in rows if weight > _EXACT)
    text = f"the table's at truncation {truncation:g} ({settings.bn_interpolation}: from {mixed})"
    if settings.bn_truncation is None and settings.z_scale > 1:
        text += f", its last one, for there is none at z_scale {settings.z_scale:g}"
    if law != _law_text(truncation, "scale"):
        text += f"; z is drawn with {law}, another law"
        text += ", `caskit derive` computes statistics for it" if settings.bn_truncation is None else ""
    return f"batch-norm statistics: {text}"


def _own_law(statistics: Mapping[str, Any]) -> str:
    """Spell the law of z that one set of statistics stands for."""
    if statistics.get("z_law") == NORMAL:
        return "a normal without bounds"
    return _law_text(statistics["z_scale"], statistics["z_mode"])


def _law_text(z_scale: float, z_mode: str) -> str:
    """Spell a law of z; at 1 the two modes are one."""
    return f"z_scale {z_scale:g}" if z_scale == 1 else f"z_scale {z_scale:g} ({z_mode})"
