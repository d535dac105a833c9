"""What exactly was scored: ids, the commands that check them, how to read the number, and versions."""

import shlex
from collections.abc import Callable, Mapping, Sequence

from caskit.evaluate.report.record import Score, SetRecord
from caskit.evaluate.report.text import Html, count, join, tag
from caskit.evaluate.score import CAVEATS, COMMON_CAVEATS


def identity_section(scores: Sequence[Score]) -> Html:
    """List every id of every score, so that the numbers can be traced to bytes."""
    parts = []
    for score in scores:
        if len(scores) > 1:
            parts.append(tag("h3", None, score.title))
        parts.append(_list({"metric": score.metric, "recipe": score.recipe, "recipe_id": score.recipe_id, **score.ids}))
        for role, record in (("Trained on", score.train), ("Tested on", score.test)):
            facts = {"kind": record.kind, "images": count(record.num), **record.facts, **record.ids}
            parts.append(join(tag("h3", None, f"{role}: {record.title}"), _list(facts)))
        if score.real is not None:
            parts.append(join(tag("h3", None, "Real row"), _list(score.real.ids)))
    return tag("section", None, tag("h2", None, "What was scored"), parts)


def _list(facts: Mapping[str, str]) -> Html:
    entries = [join(tag("dt", None, name), tag("dd", None, _value(value))) for name, value in facts.items()]
    return tag("dl", None, entries)


def _value(value: str) -> Html | str:
    digest = len(value) == 64 and not set(value) - set("0123456789abcdef")
    return tag("span", {"class": "mono"}, value) if digest else value


def verify_section(scores: Sequence[Score], location: Callable[[SetRecord], str | None]) -> Html:
    """Write the commands that check every set named here; a set that was found nowhere has a stand-in for its path."""
    records = {record.replica_id: record for score in scores for record in (score.train, score.test)}
    commands, unknown = [], False
    for replica_id, record in records.items():
        where = location(record)
        unknown = unknown or where is None
        reference = shlex.quote(f"{where or 'PATH'}@sha256:{replica_id}")
        commands.append(f"caskit verify {reference} --level full")
    text = (
        "Each command checks every byte of a set named above against its id, and where they differ names the shard and "
        "the key at fault. Paths are those of the machine that made this page; the ids are what counts."
    )
    stand_in = tag("p", {"class": "soft"}, "PATH stands for wherever you keep the set.") if unknown else None
    return tag(
        "section",
        None,
        tag("h2", None, "Check it"),
        tag("p", None, text),
        tag("pre", None, [tag("code", None, command) for command in commands]),
        stand_in,
    )


def caveat_section(scores: Sequence[Score]) -> Html:
    """Repeat what such a score does not say, and what the scores say of themselves."""
    caveats = dict.fromkeys(
        caveat for score in scores for caveat in (*CAVEATS[score.metric], *COMMON_CAVEATS, *score.caveats)
    )
    return tag(
        "section", None, tag("h2", None, "How to read this"), tag("ul", None, [tag("li", None, c) for c in caveats])
    )


def version_section(scores: Sequence[Score]) -> Html:
    """List the software and the machine that made the scores."""
    merged: dict[str, dict[str, None]] = {}
    for score in scores:
        for name, version in score.versions.items():
            merged.setdefault(name, {})[version] = None
    return tag("section", None, tag("h2", None, "Made with"), _list({name: ", ".join(v) for name, v in merged.items()}))
