import math
from typing import Any

import pytest
import torch

from caskit.gen.biggan_deep.config import Settings
from caskit.gen.biggan_deep.network import Generator, NetworkConfig
from caskit.gen.biggan_deep.statistics import (
    choose_statistics,
    chosen_rows,
    describe_statistics,
    statistics_of,
    table_rows,
)
from caskit.manifests.errors import InputError

TABLE = {"kind": "table", "num": 51}
STANDING = {"kind": "standing", "z_scale": 1.5, "z_mode": "scale", "num_batches": 3, "batch_size": 4, "seed": 0}
FITTED = {"kind": "standing", "z_law": "normal", "num_batches": 3, "batch_size": 4, "seed": 0}


def test_corrected_interpolation_is_linear_in_the_truncation() -> None:
    values = torch.arange(51, dtype=torch.float64) / 50
    for truncation in [0.0, 0.001, 0.013, 0.02, 0.5, 0.58, 0.941, 0.999, 1.0]:
        rows = table_rows(51, truncation, "corrected")
        assert sum(float(values[row]) * weight for row, weight in rows) == pytest.approx(truncation, abs=1e-9)
        assert sum(weight for _, weight in rows) == pytest.approx(1)
    for entry in range(51):
        assert table_rows(51, entry * 0.02, "corrected") == ((entry, 1.0),)
        assert table_rows(51, entry / 50, "corrected") == ((entry, 1.0),)


def test_the_published_interpolation_swaps_the_weights() -> None:
    for truncation in [0.001, 0.013, 0.31, 0.58, 0.94, 0.999]:
        fraction, start = math.modf(truncation / (1 / 50))
        rows = table_rows(51, truncation, "as-published")
        assert rows == ((int(start), fraction), (int(start) + 1, 1 - fraction))
    assert table_rows(51, 0.5, "as-published") == ((25, 1.0),)
    assert table_rows(51, 1.0, "as-published") == ((50, 1.0),)
    used = {entry: table_rows(51, round(entry * 0.02, 2), "as-published") for entry in range(51)}
    most = {entry: max(rows, key=lambda row: row[1])[0] for entry, rows in used.items()}
    # The entries 0.14, 0.28, 0.56, 0.58 and 0.94, which its division misses.
    assert {entry: row for entry, row in most.items() if entry != row} == {7: 8, 14: 15, 28: 29, 29: 28, 47: 46}


@pytest.mark.parametrize("num", [2, 7, 50, 51])
@pytest.mark.parametrize("interpolation", ["corrected", "as-published"])
def test_rows_lie_in_the_table(num: int, interpolation: str) -> None:
    for step in range(1001):
        assert all(0 <= row < num for row, _ in table_rows(num, step / 1000, interpolation))


def test_norms_are_left_the_mix_that_was_asked_for() -> None:
    config = NetworkConfig(width=4, multipliers=(2, 1), attention_after=0, latent_size=3, embedding_size=2)
    torch.manual_seed(0)
    generator = Generator(config, num_classes=2, channels=1, num_statistics=51)
    norm = generator.norm
    norm.means.normal_()
    norm.variances.uniform_(0.5, 1)
    means, variances = norm.means.clone(), norm.variances.clone()
    choose_statistics(generator, TABLE, Settings(z_scale=0.41))
    assert norm.means.shape == (1, 4) and norm.row == 0
    assert torch.allclose(norm.means[0], (means[20] + means[21]) / 2)
    assert torch.allclose(norm.variances[0], (variances[20] + variances[21]) / 2)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"z_scale": 0.5}, "the table's at truncation 0.5 (corrected: from 0.5)"),
        ({"z_scale": 0.41}, "the table's at truncation 0.41 (corrected: from 0.4 and 0.42)"),
        (
            {"z_scale": 0.58, "bn_interpolation": "as-published"},
            "the table's at truncation 0.58 (as-published: from 0.56)",
        ),
        (
            {"z_scale": 1.5},
            "the table's at truncation 1 (corrected: from 1), its last one, for there is none at z_scale 1.5; "
            "z is drawn with z_scale 1.5 (scale), another law, `caskit derive` computes statistics for it",
        ),
        (
            {"z_scale": 1.5, "bn_truncation": 0.8},
            "the table's at truncation 0.8 (corrected: from 0.8); z is drawn with z_scale 1.5 (scale), another law",
        ),
        (
            {"z_scale": 0.5, "z_mode": "resample"},
            "the table's at truncation 0.5 (corrected: from 0.5); z is drawn with z_scale 0.5 (resample), another law, "
            "`caskit derive` computes statistics for it",
        ),
        ({"z_scale": 1.0, "z_mode": "resample"}, "the table's at truncation 1 (corrected: from 1)"),
    ],
)
def test_what_is_said_about_a_table(settings: dict[str, Any], text: str) -> None:
    assert describe_statistics(TABLE, Settings(**settings)) == f"batch-norm statistics: {text}"


def test_what_is_said_about_one_set() -> None:
    start = "batch-norm statistics: one set (standing), for "
    assert describe_statistics(STANDING, Settings(z_scale=1.5)) == f"{start}z_scale 1.5 (scale)"
    other = describe_statistics(STANDING, Settings(z_scale=1.5, z_mode="resample"))
    assert other == f"{start}z_scale 1.5 (scale); z is drawn with z_scale 1.5 (resample), another law"
    fitted = describe_statistics(FITTED, Settings())
    assert fitted == f"{start}a normal without bounds; z is drawn with z_scale 1, another law"


def test_one_set_has_no_truncation() -> None:
    with pytest.raises(InputError, match=r"bn_truncation is 0\.5, this checkpoint has no table.*1\.5 .scale."):
        chosen_rows(STANDING, Settings(bn_truncation=0.5))
    assert chosen_rows(STANDING, Settings()) == ((0, 1.0),)


@pytest.mark.parametrize(
    "value", [None, {}, {"kind": "table"}, {"kind": "table", "num": 1}, {"kind": "table", "num": True}, {"kind": 3}]
)
def test_statistics_of_another_form_are_refused(value: Any) -> None:
    with pytest.raises(InputError, match="statistics are"):
        statistics_of({"statistics": value})


def test_a_law_of_another_form_is_refused() -> None:
    with pytest.raises(InputError, match="z_mode is 'clip'"):
        statistics_of({"statistics": {**STANDING, "z_mode": "clip"}})
    with pytest.raises(InputError, match="z_scale is 0"):
        statistics_of({"statistics": {"kind": "standing"}})
