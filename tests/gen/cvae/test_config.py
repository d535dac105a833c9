"""Bad values die when the config is made, with the field, the value and what is allowed."""

from typing import Any

import pytest

from caskit.gen.cvae import PRESETS, FitConfig, Settings, packaged
from caskit.manifests.errors import InputError


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("preset", ""),
        ("latent_size", 0),
        ("latent_size", 4.0),
        ("latent_size", True),
        ("decoder_fine", -1),
        ("beta", -0.5),
        ("beta", float("nan")),
        ("learning_rate", "fast"),
        ("batch_size", 1),
        ("num_steps", 0),
        ("flip", 1),
        ("mixture_components", 0),
        ("mixture_shrinkage", 0.0),
        ("seed", -1),
        ("threads", 0),
    ],
)
def test_bad_fit_config_names_the_field(field: str, value: Any) -> None:
    fields: dict[str, Any] = {"preset": "x", field: value}
    with pytest.raises(InputError, match=f"{field} is "):
        FitConfig(**fields)


@pytest.mark.parametrize(
    ("field", "value"), [("prior", "uniform"), ("temperature", -1.0), ("temperature", float("inf"))]
)
def test_bad_settings_name_the_field(field: str, value: Any) -> None:
    fields: dict[str, Any] = {field: value}
    with pytest.raises(InputError, match=f"{field} is .*allowed"):
        Settings(**fields)


def test_every_preset_carries_its_own_name_and_says_how_it_was_made() -> None:
    for name, preset in PRESETS.items():
        assert preset().preset == name
        assert "caskit fit" in (preset.__doc__ or "")


def test_unknown_preset_has_no_packaged_checkpoint() -> None:
    assert packaged("imagenet") is None
    assert packaged("../presets.py") is None
