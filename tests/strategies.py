"""Made-up resource objects: any JSON value in any attribute."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from opp_pandas.resource import OPPORTUNITY, Attribute

HARD_TEXTS = (
    "", " ", "NA", "None", "null", "nan", "007", "1e5", "True", "-0", "\u00e9", "e\u0301", "a\r\nb", "a\nb", "\x1b[31m",
    "<b>&\"'", "=1+1", "😀", "\ufeff", "x" * 256, "2026-01-01", "[]", "['a']",
)  # fmt: skip
TEXT = st.one_of(st.sampled_from(HARD_TEXTS), st.text(st.characters(codec="utf-8"), max_size=12))
INSTANTS = st.one_of(
    st.sampled_from(
        (
            "2026-12-10T22:00:00.000Z", "2026-12-10", "2026-12-10T22:00:00Z", "2026-12-10T22:00:00.123456Z",
            "2026-12-10T22:00:00+02:00", "2026-12-10T22:00:00", "9999-12-31T23:59:59.999Z", "9999-12-31", "0001-01-01",
            "1969-12-31T23:59:59.999Z", "2026-10-25T00:30:00.000Z", "", "0", "2026-02-30",
            "2026-12-10T22:00:00.123456789Z",
        )
    ),
    st.datetimes().map(lambda moment: moment.isoformat(timespec="milliseconds") + "Z"),
)  # fmt: skip
INTEGERS = st.one_of(
    st.integers(-(2**70), 2**70), st.integers(-3, 120), st.sampled_from((2**53 + 1, 2**63 - 1, -(2**63), 0, -1))
)
FLOATS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False), st.sampled_from((10.0, -0.0, 0.5, 1e300, 2.0**53 + 2))
)
TAGS = st.lists(TEXT, max_size=4)
# What stands in an attribute of any kind, however little it belongs there.
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    INTEGERS,
    FLOATS,
    TEXT,
    TAGS,
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(-5, 5), TEXT),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
        max_leaves=6,
    ),
)
_OWN = {"integer": INTEGERS, "text": TEXT, "instant": INSTANTS, "tags": TAGS, "boolean": st.booleans()}
# Every kind is there, and not all 150 custom fields.
ATTRIBUTES = tuple(
    entry for entry in OPPORTUNITY.attributes if not entry.name.startswith("custom") or len(entry.name) < 8
)


def value_of(attribute: Attribute) -> st.SearchStrategy[Any]:
    """A JSON value for an attribute: mostly of its kind, sometimes missing, sometimes anything."""
    own = _OWN[attribute.kind]
    return st.one_of(own, own, own, st.none(), ANYTHING)


@st.composite
def identifiers(draw: st.DrawFn, kind: str) -> Any:
    """A relationship's object: usual, missing, with links alone, or odd."""
    row_id = draw(st.integers(1, 4))
    usual = {"data": {"type": kind, "id": row_id}}
    return draw(
        st.sampled_from(
            (
                usual, usual, usual, {"data": None}, {}, {"links": {"related": "x"}},
                {"data": {"type": kind, "id": str(row_id)}},
                {"data": {"type": "else", "id": row_id}}, {"data": [usual["data"]]}, {"data": {"id": -1}}, None, "x",
            )
        )
    )  # fmt: skip


@st.composite
def resources(draw: st.DrawFn, row_id: int) -> dict[str, Any]:
    """One resource object with any values, some attributes left out, some unknown."""
    chosen = draw(st.lists(st.sampled_from(ATTRIBUTES), unique_by=lambda entry: entry.name, max_size=12))
    attributes: dict[str, Any] = {entry.name: draw(value_of(entry)) for entry in chosen}
    if draw(st.booleans()):
        attributes["healthScore"] = draw(ANYTHING)
    kinds = {entry.name: entry.type for entry in OPPORTUNITY.relationships if entry.column is not None}
    relationships = {name: draw(identifiers(kind)) for name, kind in kinds.items() if draw(st.booleans())}
    meta = draw(st.sampled_from((None, {"canWrite": True}, {"canWrite": False, "dataConnections": [{"id": None}]})))
    made: dict[str, Any] = {
        "type": "opportunity",
        "id": row_id,
        "attributes": attributes,
        "relationships": relationships,
    }
    return made if meta is None else made | {"meta": meta}


@st.composite
def collections(draw: st.DrawFn, most: int = 4) -> list[dict[str, Any]]:
    """Some resource objects with different ids."""
    ids = draw(st.lists(st.integers(1, 2**62), unique=True, min_size=1, max_size=most))
    return [draw(resources(row_id)) for row_id in ids]
