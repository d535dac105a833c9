"""The findings of a search for copies in words: faults, which are the set's, and notes, which a reader should know."""

from collections.abc import Iterator, Mapping
from typing import Any

from caskit.evaluate.duplicates import findings

FAULT, NOTE = "fault", "note"
BLANK_ALLOWED = 0.01  # of a set's images
_MAX_NAMED = 8
_COPIES = {
    "exact": "are equal to one pixel by pixel",
    "near": "are near one",
    "close": "are close to one",
}


def verdicts(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return `{code, level, message}` for what is worth saying, faults first; it follows from the record's numbers."""
    found = [*_leak(record), *_posing(record), *_memory(record), *_collapse(record), *_repeats(record), *_rest(record)]
    return [*(one for one in found if one["level"] == FAULT), *(one for one in found if one["level"] == NOTE)]


def _say(code: str, level: str, message: str) -> dict[str, Any]:
    return {"code": code, "level": level, "message": message}


def percents(share: Mapping[str, Any]) -> str:
    """Spell a share with its count: `0.12 % (72 of 60,000)`."""
    return f"{100 * share['share']:.2f} % ({share['count']:,} of {share['num']:,})"


def _leak(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    test = record["test"]
    if test is None:
        yield _say("no-test", NOTE, "Nobody looked for test images: no real test set was given.")
    elif test["leaked"]["count"]:
        leaked = test["leaked"]
        yield _say(
            "leaked",
            FAULT,
            f"{leaked['count']:,} images are copies of {leaked['test_images']:,} test images, and nearer to them than "
            "to any training image: a score on that test set is no CAS.",
        )
    features = record.get("features")
    if features is not None and features["test"]["copied"]:
        leaked, null = features["test"]["leaked"], features["test"]["null"]["close"]
        yield _say(
            "leaked",
            FAULT,
            f"{percents(leaked)} of the images are, by features of {features['title']}, close to "
            f"{leaked['test_images']:,} test images, and nearer to them than to any training image; of real training "
            f"images {percents(null)} are close to one: a score on that test set is no CAS.",
        )


def _posing(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    origin = record["origin"]
    real = origin["real"]
    if origin["kind"] != "real" and real is not None and real["share"] >= findings.POSING:
        text = f"{percents(real)} of the images are real ones, pixel by pixel, in a set that calls itself "
        yield _say("posing", FAULT, f"{text}{origin['kind']} ({origin['record']}).")
    if origin["parent_is_train"] is False:
        yield _say("other-parent", FAULT, "The set holds reconstructions of another set than the given training set.")


def _memory(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    train = record["train"]
    if train is None:
        yield _say("no-train", NOTE, "Nobody looked for training images: no real training set was given.")
        return
    null = train["null"]
    for name in train["memorised"]:
        due = "" if null is None else f"; of real test images {percents(null[name])} are"
        yield _say(
            "memorised",
            FAULT,
            f"Training images were copied: {percents(train[name])} of the images {_COPIES[name]}{due}.",
        )
    features = record.get("features")
    if features is not None and features["train"]["memorised"]:
        close, due = features["train"]["close"], percents(features["train"]["null"]["close"])
        yield _say(
            "memorised",
            FAULT,
            f"Training images were copied, some of them moved or changed: {percents(close)} of the images are close to "
            f"one by features of {features['title']}; of real test images {due} are.",
        )
    if null is None:
        text = "Without the real test set there is no null for memory: only exact copies can be called out."
        yield _say("no-null", NOTE, text)


def _collapse(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    collapsed = [row for row in record["classes"] if row["collapsed"]]
    if collapsed:
        shown = "; ".join(_described(row) for row in collapsed[:_MAX_NAMED])
        rest = f"; and {len(collapsed) - _MAX_NAMED} more" if len(collapsed) > _MAX_NAMED else ""
        many = f"{len(collapsed)} of {len(record['classes'])} classes have"
        if len(collapsed) == 1:
            many = "One class has"
        yield _say("collapsed", FAULT, f"{many} collapsed: {shown}{rest}.")


def _described(row: Mapping[str, Any]) -> str:
    text = f"{row['name'][:60]} ({row['distinct']:,} different images of {row['num']:,}, {100 * row['near']:.0f} % near"
    text += f" another one, spread {row['spread']:.1f}"
    return text + (")" if row["real_spread"] is None else f" where real images have {row['real_spread']:.1f})")


def _repeats(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    within = record["within"]
    if within["exact"]["count"]:
        level = FAULT if within["exact"]["share"] > findings.DUPLICATES_ALLOWED else NOTE
        text = f"{percents(within['exact'])} of the images are equal to an earlier one."
        yield _say("duplicates", level, text)
    null = within.get("null")
    if null is not None and findings.beyond(within["near"], null["near"]):
        text = f"{percents(within['near'])} of the images are near another one; of the real training images "
        yield _say("near-duplicates", FAULT, f"{text}{percents(null['near'])} are.")


def _rest(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    images = record["images"]
    if images["blank"]:
        level = FAULT if images["blank"] > BLANK_ALLOWED * images["num"] else NOTE
        text = f"{images['blank']:,} of {images['num']:,} images have one colour only, the first "
        yield _say("blank", level, f"{text}{images['blank_keys'][0]}.")
    if images["redrawn"]:
        text = f"{images['redrawn']:,} images were drawn again because the generator's output was not finite."
        yield _say("redrawn", NOTE, text)
