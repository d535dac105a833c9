import dataclasses
from typing import Any, Literal

import pytest

from caskit.commands.settings import apply_settings, apply_to_all
from caskit.manifests.errors import InputError
from caskit.train.presets import cas_resnet50


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    width: int = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    name: str = "a"
    steps: int = 10
    rate: float = 0.1
    flip: bool = False
    ema: float | None = None
    kind: Literal["slow", "fast"] = "slow"
    milestones: tuple[int, ...] = (1, 2)
    pair: tuple[int, float] = (1, 2.0)
    inner: Inner = Inner()
    several: tuple[Inner, ...] = (Inner(), Inner(width=2))

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"steps is {self.steps}, must be positive")


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("name=b=c", "name", "b=c"),
        ("steps=20", "steps", 20),
        ("rate=1e-3", "rate", 1e-3),
        ("rate=2", "rate", 2.0),
        ("flip=true", "flip", True),
        ("flip=False", "flip", False),
        ("ema=0.5", "ema", 0.5),
        ("ema=none", "ema", None),
        ("kind=fast", "kind", "fast"),
        ("milestones=3,4,5", "milestones", (3, 4, 5)),
        ("milestones=", "milestones", ()),
        ("pair=3,0.5", "pair", (3, 0.5)),
        ("inner.width=9", "inner", Inner(width=9)),
        ("several.2.width=9", "several", (Inner(), Inner(width=9))),
    ],
)
def test_text_becomes_a_value_of_the_fields_type(text: str, field: str, value: Any) -> None:
    set_value = getattr(apply_settings(Config(), [text]), field)
    assert set_value == value
    assert type(set_value) is type(value)


def test_fields_that_have_to_fit_together_may_come_in_any_order() -> None:
    for settings in (["batch_size=32", "bn_batch=16"], ["bn_batch=16", "batch_size=32"]):
        recipe = apply_settings(cas_resnet50(), settings)
        assert (recipe.batch_size, recipe.bn_batch) == (32, 16)
    with pytest.raises(InputError, match="bn_batch is 128, must divide batch_size 32"):
        apply_settings(cas_resnet50(), ["batch_size=32"])


def test_the_last_one_wins_and_the_rest_stays() -> None:
    both = apply_settings(Config(), ["several.2.width=5", "several.1.width=4", "several.2.width=6", "inner.width=3"])
    assert both == Config(several=(Inner(width=4), Inner(width=6)), inner=Inner(width=3))
    assert apply_settings(Config(flip=True), ["steps=2", "steps=3"]) == Config(flip=True, steps=3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("several.3.width=1", "several are counted from 1 to 2, as in several.1.FIELD=VALUE"),
        ("several.0.width=1", "several are counted from 1 to 2"),
        ("several.width=1", "several are counted from 1 to 2"),
        ("several.1=1", "several are counted from 1 to 2"),
        ("several.1.height=1", "no such field, allowed: width"),
        ("steps", "--set steps: not of the form KEY=VALUE"),
        ("stpes=3", "no such field, allowed: name, steps, rate, flip, ema, kind, milestones, pair, inner"),
        ("inner.hight=3", "no such field, allowed: width"),
        ("steps.x=3", "steps has no fields of its own"),
        ("inner=3", "inner: a field of type"),
        ("steps=2.5", "'2.5' is not allowed, steps takes a whole number"),
        ("rate=fast", "'fast' is not allowed, rate takes a number"),
        ("rate=nan", "'nan' is not allowed, rate takes a number"),
        ("flip=1", "'1' is not allowed, flip takes true, false"),
        ("kind=quick", "'quick' is not allowed, kind takes slow, fast"),
        ("pair=1", "'1' is not allowed, pair takes values separated by commas"),
        ("steps=0", "steps is 0, must be positive"),
    ],
)
def test_a_wrong_setting_says_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        apply_settings(Config(), [text])


def test_a_field_with_a_flag_of_its_own_is_not_set_twice() -> None:
    with pytest.raises(InputError, match="no such field, allowed: steps, rate"):
        apply_settings(Config(), ["name=b"], fixed=("name",))


def test_a_field_belongs_to_the_first_config_that_has_it() -> None:
    assert apply_to_all((Config(), Inner()), ["width=3", "steps=4"]) == (Config(steps=4), Inner(width=3))
    with pytest.raises(InputError, match=r"--set x=1: no such field, allowed: name, .*, inner, several, width"):
        apply_to_all((Config(), Inner()), ["x=1"])
