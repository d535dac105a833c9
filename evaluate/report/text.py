"""Text and markup of the report. Class names and settings come from other labs: a plain `str` never becomes markup."""

import html
import math
import unicodedata
from collections.abc import Iterable, Mapping
from typing import TypeAlias

_VOID = {"br", "col", "img", "meta", "circle", "line", "path", "rect"}
_BIDI = set(map(chr, (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))))
MINUS = "\N{MINUS SIGN}"


class Html(str):
    """Markup made by `tag`; everything else is text and gets escaped on its way into a page."""

    __slots__ = ()


Child: TypeAlias = "str | Iterable[Child] | None"  # None leaves nothing behind
Attribute: TypeAlias = "str | int | float | None"


def visible(text: str) -> str:
    """Replace characters that would hide or reorder text: controls, lone surrogates, direction overrides.

    A name may still be written from right to left; callers put it into a `bdi` element, so it cannot move its
    neighbours.
    """

    def one(character: str) -> str:
        if character in "\t\n\r\N{LINE SEPARATOR}\N{PARAGRAPH SEPARATOR}":
            return " "
        hidden = character in _BIDI or unicodedata.category(character) in ("Cc", "Cs")
        return "\N{REPLACEMENT CHARACTER}" if hidden else character

    return "".join(map(one, text))


def escape(text: str) -> Html:
    """Return text as markup that shows it, in element content and in quoted attributes alike."""
    return Html(html.escape(visible(text), quote=True))


def _content(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    if isinstance(child, str):
        return escape(child)
    return "".join(map(_content, child))


def tag(name: str, attributes: Mapping[str, Attribute] | None = None, *children: Child) -> Html:
    """Build one element; attribute values and children that are not `Html` are escaped, None values are left out."""
    shown = "".join(f' {key}="{escape(str(v))}"' for key, v in (attributes or {}).items() if v is not None)
    if name in _VOID and not children:
        return Html(f"<{name}{shown}/>")
    return Html(f"<{name}{shown}>{_content(children)}</{name}>")


def join(*children: Child) -> Html:
    """Concatenate elements and text."""
    return Html(_content(children))


def shorten(text: str, limit: int = 60) -> str:
    """Cut text to `limit` characters, the last one an ellipsis where something was cut."""
    return text if len(text) <= limit else text[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"


def name_tag(name: str, limit: int = 60) -> Html:
    """Show a name from a set, cut to a readable length; the whole name is in its tooltip."""
    return tag("bdi", {"class": "name", "title": name if len(name) > limit else None}, shorten(name, limit))


def percent(fraction: float, digits: int = 2) -> str:
    """Spell a fraction as a percentage without its sign: 0.8642 -> `86.42`."""
    return f"{100 * fraction:.{digits}f}"


def signed(number: float, digits: int = 2) -> str:
    """Spell a number with its sign, a real minus: -6.2 -> `\u22126.20`; what rounds to zero has no sign."""
    if round(number, digits) == 0:
        return f"{0:.{digits}f}"
    return ("+" if number > 0 else MINUS) + f"{abs(number):.{digits}f}"


def count(number: int) -> str:
    """Spell a count with thousands separators: 60000 -> `60,000`."""
    return f"{number:,}"


def plural(number: int, noun: str, nouns: str | None = None) -> str:
    """Spell a count with its noun: `1 class`, `31 classes`."""
    return f"{count(number)} {noun if number == 1 else nouns or noun + 's'}"


def position(value: float, low: float, high: float) -> str:
    """Return where `value` lies between `low` and `high` as an SVG length, `62.5%`, held inside the plot."""
    assert math.isfinite(value) and low < high, f"{value} on an axis from {low} to {high}"
    return f"{100 * min(max((value - low) / (high - low), 0.0), 1.0):.2f}%"
