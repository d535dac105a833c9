import pytest

from caskit.manifests.errors import InputError
from caskit.manifests.sets import SetExpression, SetReference, Source


def test_a_reference_is_a_place_and_a_digest() -> None:
    assert SetReference.parse("runs/a") == SetReference(location="runs/a")
    reference = SetReference.parse("s3://b/c@d@sha256:0123abcd")
    assert reference == SetReference(location="s3://b/c@d", prefix="0123abcd")
    reference.check("0123abcd" + "0" * 56)
    with pytest.raises(InputError, match="replica_id is f.*asks for sha256:0123abcd"):
        reference.check("f" * 64)


@pytest.mark.parametrize(
    "text", ["", "@sha256:0123abcd", "a@sha256:", "a@sha256:0123", "a@sha256:XYZ", "a@sha256:" + "0" * 65]
)
def test_bad_references_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="set reference"):
        SetReference.parse(text)


def test_set_id_names_the_sources_in_order() -> None:
    a, b = Source(replica_id="aa" * 32), Source(replica_id="bb" * 32)
    ids = {SetExpression(sources=sources).set_id for sources in [(a,), (b,), (a, b), (b, a)]}
    assert len(ids) == 4


@pytest.mark.parametrize(
    "select",
    ["first 5", "first-shards:0", "first-shards:", "first-shards:07", "first-shards:1e3", "first:0", "first:1.5"],
)
def test_only_some_selections_can_be_made(select: str) -> None:
    assert Source(replica_id="aa" * 32, select="first-shards:12") != Source(replica_id="aa" * 32, select="first:12")
    with pytest.raises(InputError, match="select"):
        Source(replica_id="aa" * 32, select=select)
