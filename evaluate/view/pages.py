"""The pages: markup by `report.text`, where every name of a set is text and never markup. There is no script at all."""

import base64
from collections.abc import Mapping
from typing import Any

from caskit.evaluate.report.text import Html, name_tag, tag
from caskit.evaluate.view.browser import Browser

PER_PAGE = 120
STYLE_PATH = "/style.css"
# Of a row, what the page shows as hexadecimal digits.
_DIGESTS = ("image_sha256", "stream_key", "pixel_sha256", "codes_sha256")


def page(title: str, *body: Html | None) -> bytes:
    """Return a whole page."""
    head = tag(
        "head",
        {},
        tag("meta", {"charset": "utf-8"}),
        tag("meta", {"name": "viewport", "content": "width=device-width"}),
        tag("title", {}, title),
        tag("link", {"rel": "stylesheet", "href": STYLE_PATH}),
    )
    return f"<!DOCTYPE html>\n{tag('html', {'lang': 'en'}, head, tag('body', {}, *body))}\n".encode()


def problem(title: str, reason: str) -> bytes:
    """Return the page that says what is wrong."""
    return page(title, tag("h1", {}, title), tag("p", {"class": "fault"}, reason), _home())


def index(browser: Browser, redraws: str) -> bytes:
    """Return the first page: what the set is, and its classes.

    Args:
        browser: the set.
        redraws: whether images can be drawn again here, for people.
    """
    replica, origin = browser.replica, browser.records.origin
    state = "every byte, on this machine" if browser.verified else "its rows; each image when it is shown"
    facts = {
        "replica_id": replica.replica_id,
        "kind": replica.kind,
        "made by": f"{getattr(origin, 'family', '')} {getattr(origin, 'preset', '')}".strip() or None,
        "samples": f"{replica.num_samples:,} in {replica.num_shards:,} shards",
        "content_root": replica.content_root,
        "checked": state,
        "drawing again": redraws,
    }
    rows = [
        tag(
            "tr",
            {},
            tag("td", {"class": "number"}, str(label)),
            tag("td", {}, tag("a", {"href": f"/class/{label}"}, name_tag(name or class_id))),
            tag("td", {}, tag("code", {}, class_id)),
            tag("td", {"class": "number"}, f"{browser.count(label):,}"),
        )
        for label, (class_id, name) in enumerate(zip(browser.classes.ids, browser.classes.names, strict=True))
    ]
    heads = tag("tr", {}, *(tag("th", {}, head) for head in ("label", "class", "id", "samples")))
    title = browser.records.store.location
    return page(title, tag("h1", {}, name_tag(title)), _facts(facts), tag("table", {}, heads, *rows))


def class_page(browser: Browser, label: int, number: int) -> bytes:
    """Return one page of a class's images, `number` from 0."""
    name, total = browser.classes.names[label] or browser.classes.ids[label], browser.count(label)
    keys = browser.keys(label, number * PER_PAGE, PER_PAGE)
    images = [
        tag(
            "a",
            {"href": f"/sample/{key}", "title": key},
            tag("img", {"src": f"/image/{key}", "alt": key, "loading": "lazy"}),
        )
        for key in keys
    ]
    last = max(0, (total - 1) // PER_PAGE)
    turns = [
        tag("a", {"href": f"/class/{label}?page={to}"}, text)
        for to, text in ((number - 1, "earlier"), (number + 1, "later"))
        if 0 <= to <= last
    ]
    shown = f"{number * PER_PAGE + 1:,} to {number * PER_PAGE + len(keys):,} of {total:,}" if keys else "no samples"
    return page(
        f"class {label}",
        tag("h1", {}, f"{label} ", name_tag(name)),
        tag("p", {"class": "turns"}, shown, " ", *turns),
        tag("div", {"class": "grid"}, *images),
        _home(),
    )


def sample_page(browser: Browser, row: Mapping[str, Any], redraws: str, *, may_redraw: bool) -> bytes:
    """Return one sample: its image, its row, and a button that draws it again.

    Args:
        browser: the set.
        row: of the sample.
        redraws: why there is no button, or what it does.
        may_redraw: whether there is one.
    """
    key, label = str(row["key"]), int(row["label"])
    facts = {
        name: value.hex() if name in _DIGESTS else str(value)
        for name, value in ((name, row[name]) for name in row)
        if value is not None
    }
    seed = getattr(browser.records.origin, "seed", None)
    again = tag("p", {}, redraws)
    if may_redraw:
        button = tag("button", {"type": "submit"}, "draw it again")
        again = tag("form", {"method": "post", "action": f"/redraw/{key}"}, button, " ", redraws)
    return page(
        key,
        tag("h1", {}, tag("code", {}, key)),
        tag("p", {}, tag("a", {"href": f"/class/{label}"}, name_tag(browser.classes.names[label] or key))),
        tag("img", {"class": "large", "src": f"/image/{key}", "alt": key}),
        again,
        _facts({**facts, "seed of the plan": None if seed is None else str(seed)}),
        _home(),
    )


def redrawn_page(key: str, images: Mapping[str, bytes], verdict: str, faults: tuple[str, ...]) -> bytes:
    """Return what came of drawing a sample again.

    Args:
        key: of the sample.
        images: PNG files by what they show.
        verdict: in a few words.
        faults: what was found wrong.
    """
    shown = [
        tag("figure", {}, tag("img", {"class": "large", "src": _data(image), "alt": name}), tag("figcaption", {}, name))
        for name, image in images.items()
    ]
    told = [tag("p", {"class": "fault"}, fault) for fault in faults]
    back = tag("p", {}, tag("a", {"href": f"/sample/{key}"}, "its row"))
    head = tag("h1", {}, tag("code", {}, key), " drawn again")
    return page(key, head, tag("p", {}, verdict), *told, tag("div", {"class": "pair"}, *shown), back, _home())


def _data(image: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


def _facts(facts: Mapping[str, str | None]) -> Html:
    rows = [
        tag("tr", {}, tag("th", {}, name), tag("td", {}, tag("code", {}, value)))
        for name, value in facts.items()
        if value is not None
    ]
    return tag("table", {"class": "facts"}, *rows)


def _home() -> Html:
    return tag("p", {}, tag("a", {"href": "/"}, "all classes"))
